"""Goals: the four questions of multilateral requirements analysis for each stakeholder of a host, and their answers.

Whose goal, against whom, for what, and who shares or opposes it. The last two are computed from the policies and never
believed from a document. A derived goal tells its owner's wishes, so it is for that owner and for the operator's own
only; whoever shows it to others must leave the switches and the rationale out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from webapp.vpms.conflicts import ACTION_RULES, check
from webapp.vpms.documents import Host, Policy
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.instance import Limits
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES


class Aim(NamedTuple):
    """What a group of wishes is for."""

    property: str
    functionality: str
    against: tuple[str, ...]
    switches: tuple[str, ...]


def _aim(property: str, functionality: str, against: str, switches: str) -> Aim:
    return Aim(property, functionality, tuple(against.split()), tuple(switches.split()))


AIMS: Final = (
    _aim(
        "confidentiality", "Keep what this VM holds and does from others.", "co_tenant operator hypervisor",
        "memory_protection page_sharing swap smt emulator_threads cache_partition nested_virt mitigations pmu "
        "introspection core_dump disk_encryption network_isolation co_residence",
    ),
    _aim(
        "integrity", "Keep this VM's state as it left it, and its start-up as it was signed.",
        "operator hypervisor guest_software", "snapshot vtpm secure_boot",
    ),
    _aim(
        "availability", "Keep the memory and the computing time that were promised.", "co_tenant operator",
        "balloon overcommit hugepages cpu_pinning mem_bandwidth live_migration",
    ),
    _aim("accountability", "Be able to prove what was done to this VM.", "operator hypervisor", "audit_level"),
)  # fmt: skip
EASE: Final = "Run fast, and leave the host free to arrange itself."  # what lax wishes are for
_PLANS: Final[Mapping[str, tuple[str, str]]] = {  # action of the operator -> property, functionality
    "reclaim": ("availability", "Keep the host working, full and movable."),
    "snapshot": ("availability", "Keep the host working, full and movable."),
    "live_migrate": ("availability", "Keep the host working, full and movable."),
    "ksm_scan": ("availability", "Keep the host working, full and movable."),
    "protection_off": ("availability", "Keep the host working, full and movable."),
    "introspect": ("integrity", "Find faults and intruders in VMs."),
    "core_dump": ("integrity", "Find faults and intruders in VMs."),
}


def relations(
    goal: Mapping[str, Any], policies: Iterable[Policy], host: Host, now: str, limits: Limits | None = None
) -> dict[str, list[str]]:
    """{"mutual", "conflicting"} of a goal: who shares the interest on all its switches, who is in conflict on one.

    An owner that is a tenant speaks for all its VMs; a stakeholder without a policy has nothing to compare.
    """
    situation = Situation(policies, host, now)
    found = check(situation.policies, host, now=now, limits=limits)
    return _relations(goal, situation, found["conflicts"])


def derived(policies: Iterable[Policy], host: Host, now: str, limits: Limits | None = None) -> list[dict[str, Any]]:
    """A goal (`vpms-goal/1`) for each stakeholder of this host and each property that its documents speak about.

    Status: `agreed` while an agreement covers the owner, else `conflict`, `mutual` or `open`, by what is computed.
    """
    situation = Situation(policies, host, now)
    conflicts = check(situation.policies, host, now=now, limits=limits)["conflicts"]
    covered = {row["id"] for row in host.agreement["parties"]} if host.agreement and _current(host, now) else set()
    rows = [row for policy in situation.policies for row in _wishes(situation, policy)] + list(_operator(host))
    goals = []
    for number, row in enumerate(rows, start=1):
        related = _relations(row, situation, conflicts)
        goal = {"format": "vpms-goal/1", "goal": f"g-{number}", **row, **related, "status": "open"}
        if row["owner"] in covered and host.agreement:
            goal |= {"status": "agreed", "agreement": host.agreement["agreement"]}
        elif related["conflicting"] or related["mutual"]:
            goal["status"] = "conflict" if related["conflicting"] else "mutual"
        goals.append(goal)
    return goals


def _current(host: Host, now: str) -> bool:
    """Expired terms stay in force, but they are no longer what was agreed."""
    return host.agreement is not None and bool(host.agreement["notBefore"] <= now < host.agreement["notAfter"])


def _relations(
    goal: Mapping[str, Any], situation: Situation, conflicts: Sequence[Mapping[str, Any]]
) -> dict[str, list[str]]:
    owner, switches = goal["owner"], goal["switches"]
    speaks_for = {policy.vm for policy in situation.policies if owner in (policy.vm, policy.tenant)}
    speaks_for |= {OPERATOR} & {owner}

    def shares(party: str) -> bool:
        return all(
            set(situation.best_possible(own, switch)) & set(situation.best_possible(party, switch))
            for own in speaks_for
            for switch in switches
        )

    named = [set(row["parties"]) for row in conflicts if row["switch"] in switches]
    opposed = {party for parties in named if parties & speaks_for for party in parties}
    compared = switches and speaks_for <= set(situation.parties) and speaks_for
    others = [party for party in situation.parties if party not in speaks_for] if compared else []
    return {"mutual": [party for party in others if shares(party)], "conflicting": sorted(opposed - speaks_for)}


def _goal(owner: str, aim: Aim, switches: Sequence[str], rationale: str, validity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "owner": owner,
        "against": list(aim.against),
        "functionality": aim.functionality,
        "property": aim.property,
        "switches": list(switches),
        "rationale": rationale[:1000],
        "validity": dict(validity),
    }


def _wishes(situation: Situation, policy: Policy) -> Iterator[dict[str, Any]]:
    """The aims of one VM: what it wishes for strictly by property, what it wishes for laxly as ease."""
    validity = {"notBefore": policy.not_before, "notAfter": policy.not_after}
    cares = [s for s, wish in policy.switches.items() if wish["weight"] or VETO in wish["values"].values()]
    best = {s: situation.best_permitted(policy.vm, s) for s in SWITCHES if s in cares}
    lax = [s for s, values in best.items() if values == SWITCHES[s].names[-1:]]
    for aim in AIMS:
        wanted = [s for s in best if s in aim.switches and s not in lax]
        if wanted:
            yield _goal(policy.vm, aim, wanted, _rationale(policy, best, wanted), validity)
    if lax:
        yield _goal(policy.vm, Aim("availability", EASE, (), ()), lax, _rationale(policy, best, lax), validity)


def _rationale(policy: Policy, best: Mapping[str, Sequence[str]], switches: Sequence[str]) -> str:
    """The wishes in words, the firm ones marked."""
    words = []
    for switch in switches:
        labels = [value.label for value in SWITCHES[switch].values if value.name in best[switch]]
        firm = VETO in policy.switches[switch]["values"].values()
        words.append(f"{SWITCHES[switch].label}: {' or '.join(labels) or 'nothing left'}{' (must)' if firm else ''}")
    return "; ".join(words) + "."


def _operator(host: Host) -> Iterator[dict[str, Any]]:
    """The operator's interests are collected like everybody's: what it plans, what it prefers, what law demands."""
    validity = {"notBefore": None, "notAfter": None}
    plans: dict[tuple[str, str], list[str]] = {}
    for action in _PLANS:
        if action in host.actions:
            plans.setdefault(_PLANS[action], []).append(ACTION_RULES[action][1])
    for (property, functionality), switches in plans.items():
        names = [s for s in SWITCHES if s in switches]
        words = f"Planned: {', '.join(action for action in _PLANS if action in host.actions)}."
        yield _goal(OPERATOR, Aim(property, functionality, (), ()), names, words, validity)
    if host.preferences is not None:
        names = [s for s in SWITCHES if s in host.preferences["switches"]]
        aim = Aim("availability", "Use the host well; counts like one party's wish.", (), ())
        yield _goal(OPERATOR, aim, names, f"Preferred settings of {', '.join(names)}.", validity)
    if host.law:
        names = [s for s in SWITCHES if s in host.law]
        aim = Aim("accountability", "Keep the law; told as law and not negotiated.", (), ())
        yield _goal(OPERATOR, aim, names, f"A law that binds the operator limits {', '.join(names)}.", validity)
