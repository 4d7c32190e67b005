"""Where a new VM could run: hosts are sifted by bits, the most promising solved exactly; what is claimed is said.

Our own design, for the first two steps of the ladder (policy.md, section 10). Better is: the worst-off gain on the
hosts concerned, then the newcomer's utility, then fewer moves, then the order of hosts and VMs. Nobody who runs is
worsened: reservations hold on every host, and a VM that would move keeps at least what it has, and must be asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from webapp.vpms.documents import Host, Policy
from webapp.vpms.fleet import mask_of
from webapp.vpms.instance import Limits, rounded
from webapp.vpms.reduction import Outcome, Problem
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

SOLVED: Final = 20  # candidates that are solved exactly
SMALL: Final = 400  # pairs of moves, at most: beyond, two moves are not searched
SHARED: Final = tuple(number for number, switch in enumerate(SWITCHES.values()) if switch.shared_by_nature)


@dataclass(frozen=True)
class Site:
    """A host and the policies of the VMs that run on it."""

    host: Host
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Plan:
    """The newcomer on one site; perhaps a VM of that site moves to another."""

    site: int
    moved: str = ""
    to: int = -1


@dataclass(frozen=True)
class Found:
    plan: Plan
    least: Fraction
    utility: int
    outcomes: tuple[Outcome, ...]

    @property
    def rank(self) -> tuple[Any, ...]:
        plan = self.plan
        return (-self.least, -self.utility, bool(plan.moved), plan.site, plan.moved, plan.to)


class Search:
    """One newcomer, some sites. Masks are made once for each policy and host."""

    def __init__(self, newcomer: Policy, sites: Sequence[Site], now: str, limits: Limits | None = None) -> None:
        self.newcomer, self.sites, self.now, self.limits = newcomer, sites, now, limits
        self.cut_off = False
        self._masks: dict[tuple[str, str], int] = {}

    def _mask(self, policy: Policy, host: Host) -> int:
        key = (policy.sha256, host.sha256)
        if key not in self._masks:
            self._masks[key] = mask_of(policy, host)
        return self._masks[key]

    def freedom(self, host: Host, policies: Sequence[Policy]) -> int | None:
        """How many values of shared switches all could live with; None if these VMs cannot stand together at all."""
        together = (1 << 128) - 1
        for policy in policies:
            together &= self._mask(policy, host)
        groups = [together >> 4 * number & 15 for number in SHARED]
        if not all(groups):
            return None
        for index, one in enumerate(policies):
            for other in policies[index + 1 :]:
                if one.refuses & other.exhibits or other.refuses & one.exhibits:
                    return None
                if one.tenant != other.tenant and one.classes & other.classes:
                    return None
        return sum(group.bit_count() for group in groups)

    def after(self, plan: Plan) -> list[tuple[Host, tuple[Policy, ...]]]:
        """The hosts that the plan changes, each with the VMs that it would have."""
        site = self.sites[plan.site]
        staying = tuple(policy for policy in site.policies if policy.vm != plan.moved)
        changed = [(site.host, (*staying, self.newcomer))]
        if plan.moved:
            target = self.sites[plan.to]
            mover = next(policy for policy in site.policies if policy.vm == plan.moved)
            changed.append((target.host, (*target.policies, mover)))
        return changed

    def promise(self, plan: Plan) -> int | None:
        """By bits alone: None if the plan is impossible, else how much freedom it leaves."""
        total = 0
        for host, policies in self.after(plan):
            freedom = self.freedom(host, policies)
            if freedom is None:
                return None
            total += freedom
        return total

    def solve(self, plan: Plan) -> Found | None:
        """The outcome of section 8 on every host that the plan changes; None if on one there is none."""
        least, outcomes = Fraction(1), []
        for host, policies in self.after(plan):
            outcome = self._outcome(host, policies)
            if outcome.assignment is None:
                self.cut_off |= outcome.status == "unknown"
                return None
            self.cut_off |= not (outcome.solution.bound or {}).get("proven", False)
            least = min(least, outcome.solution.min_gain or Fraction(0))
            outcomes.append(outcome)
        if plan.moved and not self._keeps(plan, outcomes[1]):
            return None
        return Found(plan, least, utility_of(outcomes[0], self.newcomer.vm), tuple(outcomes))

    def _outcome(self, host: Host, policies: Sequence[Policy]) -> Outcome:
        return Problem(Situation(policies, host, self.now)).solve(self.limits)

    def _keeps(self, plan: Plan, target: Outcome) -> bool:
        """Has the VM that moves at least what it has now?"""
        site = self.sites[plan.site]
        before = Situation(site.policies, site.host, self.now)
        return utility_of(target, plan.moved) >= before.reservation(plan.moved)

    def one_move(self) -> Iterator[Plan]:
        for index, _ in enumerate(self.sites):
            yield Plan(index)

    def two_moves(self) -> Iterator[Plan]:
        """Every willing VM of every site to every other site."""
        for index, site in enumerate(self.sites):
            situation = Situation(site.policies, site.host, self.now)
            for vm in situation.vms:
                if set(situation.permitted(vm)["live_migration"]) - {"never"}:
                    for to, _ in enumerate(self.sites):
                        if to != index:
                            yield Plan(index, vm, to)


def utility_of(outcome: Outcome, party: str) -> int:
    return outcome.solution.utilities[outcome.parties.index(party)]


def place(
    newcomer: Policy, sites: Sequence[Site], now: str, *, two_moves: bool = False, limits: Limits | None = None
) -> dict[str, Any]:
    """The best place that was found, who must consent, and over which neighbourhood it is proven to be the best.

    `claim.complete` is true only if every plan of the neighbourhood was either excluded by its bits, which is exact,
    or solved to the end. Two moves are searched if there are at most SMALL of them; otherwise the claim says one_move.
    """
    search = Search(newcomer, sites, now, limits)
    plans = list(search.one_move())
    pairs = list(search.two_moves()) if two_moves else []
    neighbourhood = "two_moves" if two_moves and len(pairs) <= SMALL else "one_move"
    plans += pairs if neighbourhood == "two_moves" else []
    promises = [(search.promise(plan), plan) for plan in plans]
    possible = [(-promise, number, plan) for number, (promise, plan) in enumerate(promises) if promise is not None]
    most = SOLVED if neighbourhood == "one_move" else SMALL + len(sites)
    chosen = [plan for _, _, plan in sorted(possible, key=lambda row: row[:2])[:most]]
    solved = [found for plan in chosen if (found := search.solve(plan))]
    best = min(solved, key=lambda found: found.rank, default=None)
    return {
        "placement": None if best is None else _described(search, best),
        "claim": {
            "neighbourhood": neighbourhood,
            "complete": len(chosen) == len(possible) and not search.cut_off,
            "plans": len(plans),
            "excluded": len(plans) - len(possible),
            "solved": len(chosen),
            "not_solved": len(possible) - len(chosen),
        },
    }


def _described(search: Search, best: Found) -> dict[str, Any]:
    plan, sites = best.plan, search.sites
    host = sites[plan.site].host.host
    moves = [{"vm": plan.moved, "from": host, "to": sites[plan.to].host.host}] if plan.moved else []
    consent = {search.newcomer.vm, *([plan.moved] if plan.moved else [])}
    for (where, policies), outcome in zip(search.after(plan), best.outcomes, strict=True):
        situation = Situation(policies, where, search.now)
        assignment = outcome.assignment or {}
        consent |= {p for p in situation.vms if situation.current_view(p) != situation.view(p, assignment)}
    return {
        "host": host,
        "moves": moves,
        "min_gain": rounded(best.least),
        "utility": best.utility,
        "consent": sorted(consent),
    }
