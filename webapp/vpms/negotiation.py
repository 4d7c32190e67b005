"""The mediator's proposal: the outcome of section 8 with its figures, a certificate to recheck it, and the ladder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from webapp.vpms.conflicts import joint_core
from webapp.vpms.documents import Host, Policy
from webapp.vpms.formats import OPERATOR
from webapp.vpms.instance import Limits, Solution, rounded, rounded_up
from webapp.vpms.reduction import Issue, Outcome, Problem
from webapp.vpms.situation import Situation

Assignment = Mapping[str, Mapping[str, Any]]


def negotiate(policies: Iterable[Policy], host: Host, now: str, limits: Limits | None = None) -> dict[str, Any]:
    """The best settlement that keeps every reservation, or why there is none; exactly the dict of section 13."""
    situation = Situation(policies, host, now)
    problem = Problem(situation)
    return describe(problem, problem.solve(limits), limits)


def describe(problem: Problem, outcome: Outcome, limits: Limits | None = None) -> dict[str, Any]:
    """The result document of an outcome; without assignment the maps that cannot be computed are empty."""
    situation, solution = problem.situation, outcome.solution
    parties = outcome.parties
    ideals = dict(zip(parties, solution.ideals, strict=False))
    result: dict[str, Any] = {
        "status": outcome.status,
        "assignment": outcome.assignment,
        "utilities": dict(zip(parties, solution.utilities, strict=False)),
        "reservations": {party: situation.reservation(party) for party in parties},
        "ideals": ideals,
        "gains": {},
        "gains_exact": {},
        "min_gain": None,
        "nash": None,
        "bound": solution.bound,
        "rounds": 0 if outcome.assignment is None else 1,
        "contested": [],
        "human": [],
        "certificate": None,
        "core": [],
        "background": [],
        "fallback": [],
    }
    if outcome.assignment is None:
        if outcome.status == "no_agreement":
            result["core"], result["background"] = joint_core(situation, limits)
            result["fallback"] = ladder(situation, result["core"])
        return result
    gains = dict(zip(parties, solution.gains, strict=True))
    result["gains"] = {party: rounded(gain) for party, gain in gains.items()}
    result["gains_exact"] = {party: f"{gain.numerator}/{gain.denominator}" for party, gain in gains.items()}
    result["min_gain"], result["nash"] = rounded(solution.min_gain or 0), rounded(solution.nash or 0.0)
    result["contested"] = [issue.name for issue in contested(problem, outcome.assignment)]
    result["human"] = [party for party in parties if needs_person(situation, party, outcome.assignment)]
    result["status"] = "needs_human" if result["human"] else "agreed"
    result["certificate"] = certificate(problem, outcome)
    return result


def proposed_value(assignment: Assignment, issue: Issue) -> str:
    place: Mapping[str, Any] = assignment["vms"][issue.vm] if issue.vm else assignment["host"]
    return str(place[issue.switch])


def contested(problem: Problem, assignment: Assignment) -> list[Issue]:
    """Issues of which some party does not get its best; so also those on which the bests have nothing in common."""

    def all_content(issue: Issue) -> bool:
        value = proposed_value(assignment, issue)
        concerned = [party for party in problem.situation.parties if problem.concerns(party, issue)]
        return all(value in problem.situation.best_possible(party, issue.switch) for party in concerned)

    return [issue for issue in problem.issues if not all_content(issue)]


def changes_view(situation: Situation, party: str, assignment: Assignment) -> bool:
    """Would this party run under other values than its agreement in force gives it?"""
    return situation.current_view(party) != situation.view(party, assignment)


def needs_person(situation: Situation, party: str, assignment: Assignment) -> bool:
    """Must a person of this party be asked? Never for a party whose view stays as agreed, nor for the operator."""
    if party == OPERATOR or not changes_view(situation, party, assignment):
        return False
    return situation.by_vm[party].delegate["mode"] == "human" or needs_approval(situation, party, assignment)


def needs_approval(situation: Situation, party: str, assignment: Assignment) -> bool:
    """Is a setting otherwise than this VM's best for which its owner reserved the yes to a person?"""
    policy, view = situation.by_vm[party], situation.view(party, assignment) or {}
    return any(
        wish.get("approval") == "human" and view[switch] not in situation.best_possible(party, switch)
        for switch, wish in policy.switches.items()
    )


def within_bounds(situation: Situation, party: str, assignment: Assignment, floor: int) -> bool:
    """Would a delegate of mode `auto-within-bounds` with this floor accept? Never against a must of its VM."""
    view = situation.view(party, assignment) or {}
    if not situation.keeps_own_terms(party, view):
        return False
    least = max(situation.reservation(party), 1000 * floor)
    return situation.utility(party, view) >= least and not needs_approval(situation, party, assignment)


def certificate(problem: Problem, outcome: Outcome) -> dict[str, Any]:
    """What anyone with the policies can recheck: digests, figures, domains, and a bound on every outcome whatever."""
    situation, solution, parties = problem.situation, outcome.solution, outcome.parties
    multipliers = dict(zip(parties, solution.multipliers, strict=True))
    ranges = {p: ideal - situation.reservation(p) for p, ideal in zip(parties, solution.ideals, strict=True)}
    slopes = {p: Fraction(multipliers[p], 10**6 * ranges[p]) for p in parties if ranges[p]}
    table = {
        issue.name: {
            value: sum((slope * problem.points(party, issue, value) for party, slope in slopes.items()), Fraction(0))
            for value in values
        }
        for issue, values in problem.domains.items()
    }
    bound = sum((max(row.values()) for row in table.values()), Fraction(0))
    bound -= sum((slope * situation.reservation(party) for party, slope in slopes.items()), Fraction(0))
    shown = {name: {v: f"{x.numerator}/{x.denominator}" for v, x in row.items()} for name, row in table.items()}
    search = solution.bound or {}
    return {
        "format": "vpms-certificate/1",
        "host_sha256": situation.host.sha256,
        "policies": {policy.vm: policy.sha256 for policy in situation.policies},
        "parties": {
            party: {
                "d": situation.reservation(party),
                "ideal": ideal,
                "u": u,
                "gain": f"{gain.numerator}/{gain.denominator}",
            }
            for party, ideal, u, gain in zip(parties, solution.ideals, solution.utilities, solution.gains, strict=True)
        },
        "domains": {issue.name: list(values) for issue, values in problem.domains.items()},
        "lambda": multipliers,
        "lambda_bound": rounded_up(bound) if slopes else 1,
        "search": {"proven": search.get("proven", False), "nodes": search.get("nodes", 0)},
        "table": shown if len(parties) >= 4 else None,
    }


def ladder(situation: Situation, core: Sequence[str]) -> list[dict[str, Any]]:
    """What can still be done, each step only with the consent named; the last is always safe and the default."""
    host = situation.host
    requesters = [vm for vm in situation.vms if vm not in host.running]
    involved = sorted({demand.split(":")[1] for demand in core})
    steps: list[dict[str, Any]] = []
    if requesters:
        steps.append({"step": "relocate_requester", "consent": requesters})
    for vm in involved:
        if vm in host.running and set(situation.permitted(vm)["live_migration"]) - {"never"}:
            steps.append({"step": "migrate_willing", "consent": [vm]})
    if requesters:
        steps.append({"step": "another_time", "consent": requesters})
    if involved:
        steps.append({"step": "edit_preference", "consent": involved})
    price = host.prices.get("dedicated_host")
    budgets = [situation.by_vm[vm].disagreement["budget"] for vm in requesters]
    if price is not None and budgets and all(budget >= price for budget in budgets):
        steps.append({"step": "dedicated_host", "consent": requesters})
    steps.append({"step": "refuse_action", "consent": []})
    return steps


def keeps_all_terms(problem: Problem, assignment: Assignment) -> bool:
    """Is this assignment an outcome at all, and does it keep every reservation? (for suggestions of a party)"""
    situation = problem.situation
    try:
        chosen = {issue: proposed_value(assignment, issue) for issue in problem.issues}
    except KeyError:
        return False
    if problem.empty or any(value not in problem.domains[issue] for issue, value in chosen.items()):
        return False
    if any(chosen[link.issue] in link.values and chosen[link.other] not in link.allowed for link in problem.links):
        return False
    for capacity, table in problem.uses:
        if sum(row[chosen[issue]] for issue, row in table.items()) > capacity:
            return False
    views = {party: situation.view(party, assignment) or {} for party in situation.parties}
    return all(situation.utility(party, view) >= situation.reservation(party) for party, view in views.items())


def outcome_of(problem: Problem, assignment: Assignment, solved: Solution) -> Outcome:
    """The figures of a party's suggestion; the ideals and multipliers of the solved optimum hold for any outcome."""
    situation = problem.situation
    parties = tuple(situation.parties)
    utilities = tuple(situation.utility(party, situation.view(party, assignment) or {}) for party in parties)
    least = [situation.reservation(party) for party in parties]
    gains = tuple(
        Fraction(u - d, ideal - d) if ideal > d else Fraction(1)
        for u, d, ideal in zip(utilities, least, solved.ideals, strict=True)
    )
    suggestion = replace(solved, utilities=utilities, gains=gains, bound=None)
    plain = {"host": dict(assignment["host"]), "vms": {vm: dict(row) for vm, row in assignment["vms"].items()}}
    return Outcome("agreed", parties, plain, suggestion)
