"""From documents to the bare problem: issues, domains, facts, capacities; each VM's own switches folded into one.

Folding changes no outcome. An own switch without fact, rule or scarce resource takes its owner's best value. The other
own switches of one VM become one issue whose values are its non-dominated combinations, in canonical order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

from webapp.vpms.instance import Instance, Limits, Solution, feasible, solve
from webapp.vpms.situation import Situation, Values
from webapp.vpms.vocabulary import RESOURCES, SWITCHES


class Issue(NamedTuple):
    """A switch of the host (`vm` empty) or of one VM."""

    vm: str
    switch: str

    @property
    def name(self) -> str:
        return f"{self.vm or 'host'}/{self.switch}"


class Link(NamedTuple):
    """If `issue` has one of `values`, `other` has one of `allowed`."""

    issue: Issue
    values: frozenset[str]
    other: Issue
    allowed: frozenset[str]


class Option(NamedTuple):
    """One combination of some own switches: points, uses of scarce resources, shared values that it tolerates."""

    points: int
    uses: tuple[int, ...]
    tolerates: tuple[int, ...]  # a bit mask for each linked shared issue
    ranks: tuple[tuple[int, int], ...]  # (place of the switch, rank of the value), ascending


@dataclass(frozen=True)
class Outcome:
    """What the solver found, in the words of the documents."""

    status: str
    parties: tuple[str, ...]
    assignment: dict[str, Any] | None
    solution: Solution


class Problem:
    """The issues of a situation and what binds them."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        host = situation.host
        self.shared = [Issue("", s) for s in SWITCHES if host.is_shared(s)]
        self.own = {vm: [Issue(vm, s) for s in SWITCHES if not host.is_shared(s)] for vm in situation.vms}
        self.issues = [*self.shared, *(issue for vm in situation.vms for issue in self.own[vm])]

    @cached_property
    def domains(self) -> dict[Issue, Values]:
        """Permitted values of each issue in canonical order: offered, vetoed by nobody concerned, possible here."""
        return {issue: self._domain(issue) for issue in self.issues}

    def _domain(self, issue: Issue) -> Values:
        situation = self.situation
        concerned = [issue.vm] if issue.vm else situation.parties
        refused = {value for party in concerned for value in situation.vetoed(party, issue.switch)}
        values = [v for v in situation.offered(issue.switch) if v not in refused]
        if issue.switch == "co_residence":
            values = [v for v in values if v in situation.residence()]
        if issue.switch == "overcommit":
            values = [v for v in values if situation.memory_fits(v)]
        order = situation.canonical(issue.switch, issue.vm or None)
        return tuple(sorted(values, key=order.index))

    @property
    def empty(self) -> bool:
        """Is it already clear that there is no outcome?"""
        return self.situation.blocked() or not all(self.domains.values())

    def issue_of(self, vm: str, switch: str) -> Issue:
        return Issue("" if self.situation.host.is_shared(switch) else vm, switch)

    def concerns(self, party: str, issue: Issue) -> bool:
        return issue.vm in ("", party)

    @cached_property
    def links(self) -> list[Link]:
        """Facts and own rules inside each VM's view, as far as they exclude anything here; each once."""
        found: dict[Link, None] = {}
        for vm in self.situation.vms:
            rows = [(f.switch, f.values, f.then_switch, f.then_values) for f in self.situation.facts()]
            rows += [(r.when, r.when_in, r.then, r.then_in) for r in self.situation.rules(vm)]
            for when, values, then, allowed in rows:
                issue, other = self.issue_of(vm, when), self.issue_of(vm, then)
                if values & set(self.domains[issue]) and set(self.domains[other]) - allowed:
                    found[Link(issue, values, other, allowed)] = None
        return list(found)

    @cached_property
    def uses(self) -> list[tuple[int, dict[Issue, dict[str, int]]]]:
        """Of each resource that could run short: its capacity, and the use of each value of each issue."""
        found = []
        for resource in RESOURCES:
            capacity = self.situation.capacity(resource)
            table: dict[Issue, dict[str, int]] = {}
            for vm in self.situation.vms:
                row = table.setdefault(self.issue_of(vm, resource.switch), {})
                for value in SWITCHES[resource.switch].names:
                    row[value] = row.get(value, 0) + self.situation.use(resource, vm, value)
            most = sum(max((row[v] for v in self.domains[issue]), default=0) for issue, row in table.items())
            if capacity is not None and most > capacity:
                found.append((capacity, table))
        return found

    def points(self, party: str, issue: Issue, value: str) -> int:
        return self.situation.score(party, issue.switch, value) if self.concerns(party, issue) else 0

    # solving

    def solve(self, limits: Limits | None = None, *, folded: bool = True) -> Outcome:
        """The outcome of section 8, or why there is none. `folded=False` leaves every switch an issue of its own."""
        parties = tuple(self.situation.parties)
        if self.empty:
            return Outcome("no_agreement", parties, None, Solution("no_agreement"))
        form = _Form(self, folded)
        solution = solve(form.instance(), limits)
        if solution.assignment is None:
            return Outcome(solution.status, parties, None, solution)
        return Outcome("agreed", parties, form.assignment(solution.assignment), solution)

    def feasible(self, limits: Limits | None = None) -> bool | None:
        """Is there any outcome that keeps every reservation? None if a limit came first."""
        return False if self.empty else feasible(_Form(self, True).instance(), limits)

    def view_exists(self, vm: str) -> bool:
        """Has this VM alone any view that satisfies facts and own rules, whatever capacities and reservations say?"""
        return all(self.domains[issue] for issue in self.issues) and bool(feasible(_Form(self, True, vm).instance()))

    def best_view(self, vm: str) -> int | None:
        """The best utility over those views; None if there are none."""
        if not all(self.domains[issue] for issue in self.issues):
            return None
        solution = solve(_Form(self, True, vm).instance())
        return solution.ideals[0] if solution.ideals else None


class _Form:
    """One problem in the solver's numbers, and the way back."""

    def __init__(self, problem: Problem, folded: bool, alone: str | None = None) -> None:
        """`alone`: only this VM's own view counts, without capacities and reservation."""
        self.problem = problem
        self.parties = [alone] if alone else problem.situation.parties
        self.reserved = [0 if alone else problem.situation.reservation(party) for party in self.parties]
        self.capacities = [] if alone else problem.uses
        self.fixed: dict[Issue, str] = {}
        self.folds: list[tuple[str, list[Issue], list[Option]]] = []
        self.plain = list(problem.shared)
        links = problem.links
        self.linked = {issue for link in links for issue in (link.issue, link.other)}
        self.linked |= {
            issue for _, table in self.capacities for issue, row in table.items() if self._takes(issue, row)
        }
        for vm, own in problem.own.items():
            if not folded:
                self.plain += own
                continue
            loose = [issue for issue in own if issue not in self.linked]
            self.fixed.update({issue: self._best(issue) for issue in loose})
            tied = [issue for issue in own if issue in self.linked]
            if tied:
                self.folds.append((vm, tied, self._fold(tied, links)))
        self.place = {issue: index for index, issue in enumerate(self.plain)}

    def _takes(self, issue: Issue, row: Mapping[str, int]) -> bool:
        return any(row[value] for value in self.problem.domains[issue])

    def _best(self, issue: Issue) -> str:
        return max(self.problem.domains[issue], key=lambda value: self.problem.points(issue.vm, issue, value))

    def _fold(self, tied: Sequence[Issue], links: Sequence[Link]) -> list[Option]:
        """The non-dominated combinations of these own switches, by eliminating one switch after the other."""
        domains = self.problem.domains
        unary = {issue: self._unary(issue, tied.index(issue), links) for issue in tied}
        inner = [link for link in links if link.issue in unary and link.other in unary]
        tables: list[tuple[tuple[Issue, ...], dict[tuple[int, ...], list[Option]]]] = []
        left = list(tied)
        while left:
            near = {issue: self._near(issue, inner, tables) & set(left) for issue in left}
            gone = min(left, key=lambda issue: len(near[issue]))
            scope = tuple(issue for issue in left if issue in near[gone])
            involved = [row for row in tables if gone in row[0]]
            tables = [row for row in tables if gone not in row[0]]
            table = {}
            for ranks in product(*(range(len(domains[issue])) for issue in scope)):
                at = dict(zip(scope, ranks, strict=True))
                options: list[Option] = []
                for rank, own in enumerate(unary[gone]):
                    at[gone] = rank
                    if all(self._keeps(link, at) for link in inner):
                        found = [own]
                        for members, earlier in involved:
                            found = _join(found, earlier[tuple(at[issue] for issue in members)])
                        options += found
                table[ranks] = _undominated(options)
            tables.append((scope, table))
            left.remove(gone)
        options = [Option(0, (0,) * len(self.capacities), self._all_shared(), ())]
        for _, table in tables:
            options = _undominated(_join(options, table[()]))
        return sorted(options, key=lambda option: option.ranks)

    def _near(self, issue: Issue, inner: Sequence[Link], tables: Sequence[tuple[tuple[Issue, ...], Any]]) -> set[Issue]:
        near = {link.other for link in inner if link.issue == issue} | {
            link.issue for link in inner if link.other == issue
        }
        return (near | {other for scope, _ in tables if issue in scope for other in scope}) - {issue}

    def _keeps(self, link: Link, at: Mapping[Issue, int]) -> bool:
        domains = self.problem.domains
        if link.issue not in at or link.other not in at:
            return True
        return (
            domains[link.issue][at[link.issue]] not in link.values
            or domains[link.other][at[link.other]] in link.allowed
        )

    def _all_shared(self) -> tuple[int, ...]:
        return tuple((1 << len(self.problem.domains[issue])) - 1 for issue in self.problem.shared)

    def _unary(self, issue: Issue, place: int, links: Sequence[Link]) -> list[Option]:
        rows = []
        for rank, value in enumerate(self.problem.domains[issue]):
            masks = list(self._all_shared())
            for link in links:
                if link.issue == issue and not link.other.vm and value in link.values:
                    masks[self.problem.shared.index(link.other)] &= self._mask(link.other, link.allowed)
                if link.other == issue and not link.issue.vm and value not in link.allowed:
                    masks[self.problem.shared.index(link.issue)] &= ~self._mask(link.issue, link.values)
            uses = tuple(table.get(issue, {}).get(value, 0) for _, table in self.capacities)
            points = self.problem.points(issue.vm, issue, value)
            rows.append(Option(points, uses, tuple(masks), ((place, rank),)))
        return rows

    def _mask(self, issue: Issue, values: Iterable[str]) -> int:
        return sum(1 << rank for rank, value in enumerate(self.problem.domains[issue]) if value in values)

    def instance(self) -> Instance:
        """The numbers: plain issues first, then one folded issue for each VM. Fixed values count in the first issue."""
        domains = self.problem.domains
        sizes = [len(domains[issue]) for issue in self.plain] + [len(options) for _, _, options in self.folds]
        return Instance(
            issues=sizes,
            reservations=self.reserved,
            utilities=[self._utilities(party) for party in self.parties],
            forbidden=[],
            facts=self._facts(),
            capacities=[(capacity, self._use_table(number)) for number, (capacity, _) in enumerate(self.capacities)],
        )

    def _utilities(self, party: str) -> list[list[int]]:
        problem = self.problem
        rows = [[problem.points(party, issue, value) for value in problem.domains[issue]] for issue in self.plain]
        rows += [[o.points if vm == party else 0 for o in options] for vm, _, options in self.folds]
        settled = sum(problem.points(party, issue, value) for issue, value in self.fixed.items())
        rows[0] = [points + settled for points in rows[0]]
        return rows

    def _use_table(self, number: int) -> list[list[int]]:
        table = self.capacities[number][1]
        rows = [[table.get(issue, {}).get(v, 0) for v in self.problem.domains[issue]] for issue in self.plain]
        return rows + [[option.uses[number] for option in options] for _, _, options in self.folds]

    def _facts(self) -> list[tuple[int, int, int, list[int]]]:
        domains, facts = self.problem.domains, []
        for link in self.problem.links:
            if link.issue in self.place and link.other in self.place:
                allowed = [rank for rank, value in enumerate(domains[link.other]) if value in link.allowed]
                for rank, value in enumerate(domains[link.issue]):
                    if value in link.values:
                        facts.append((self.place[link.issue], rank, self.place[link.other], allowed))
        everything = self._all_shared()
        for number, (_, _, options) in enumerate(self.folds):
            for index, option in enumerate(options):
                for issue, mask, full in zip(self.problem.shared, option.tolerates, everything, strict=True):
                    if mask != full:
                        allowed = [rank for rank in range(len(domains[issue])) if mask >> rank & 1]
                        facts.append((len(self.plain) + number, index, self.place[issue], allowed))
        return facts

    def assignment(self, chosen: Sequence[int]) -> dict[str, Any]:
        """The chosen values by host and VM, every issue, in switch order."""
        domains = self.problem.domains
        values = dict(self.fixed)
        values.update({issue: domains[issue][chosen[at]] for issue, at in self.place.items()})
        for number, (_, tied, options) in enumerate(self.folds):
            for place, rank in options[chosen[len(self.plain) + number]].ranks:
                values[tied[place]] = domains[tied[place]][rank]
        return {
            "host": {issue.switch: values[issue] for issue in self.problem.shared},
            "vms": {vm: {issue.switch: values[issue] for issue in own} for vm, own in self.problem.own.items()},
        }


def _join(left: Sequence[Option], right: Sequence[Option]) -> list[Option]:
    """Every pair that tolerates a common value of each shared issue."""
    joined = []
    for a in left:
        for b in right:
            tolerates = tuple(x & y for x, y in zip(a.tolerates, b.tolerates, strict=True))
            if all(tolerates):
                uses = tuple(x + y for x, y in zip(a.uses, b.uses, strict=True))
                joined.append(Option(a.points + b.points, uses, tolerates, tuple(sorted(a.ranks + b.ranks))))
    return joined


def _undominated(options: Sequence[Option]) -> list[Option]:
    """Options that no other beats in everything; among equals in points the canonical one stays."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda row: (-row.points, row.ranks)):
        if all(option.tolerates) and not any(_beats(better, option) for better in kept):
            kept.append(option)
    return kept


def _beats(better: Option, option: Option) -> bool:
    """`better` has at least the points (it stands before in order), uses no more and tolerates no less."""
    return all(x <= y for x, y in zip(better.uses, option.uses, strict=True)) and all(
        x & y == y for x, y in zip(better.tolerates, option.tolerates, strict=True)
    )
