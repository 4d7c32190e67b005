"""Goals (vpms-goal/1): whose, against whom, for which functionality, why, and who shares or opposes them.

One goal for each switch that somebody cares about. Nothing is typed in a second time: goals are read off the policies
and the host, and who shares or opposes them is computed, never believed from a document. A goal tells its owner's
wishes, so it is for that owner only; whoever shows it to others shows no more than a negotiation disclosed. That each
switch is read as one goal, and what it protects from whom, is this project's own reading of the method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from webapp.vpms.conflicts import ACTION_RULES, ACTION_WORDS, at_create, at_start
from webapp.vpms.documents import Host, Policy
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

FORMAT: Final = "vpms-goal/1"
TEACHER: Final = "teacher"
ALWAYS: Final = {"notBefore": None, "notAfter": None}
LONGEST: Final = 63  # of an id
Goal = dict[str, Any]
Clashes = Sequence[tuple[str, frozenset[str]]]  # switch, and the parties that a conflict on it names


class Meaning(NamedTuple):
    """What the strict side of a switch protects, and from whom."""

    property: str
    against: tuple[str, ...]


_NEIGHBOUR: Final = ("co_tenant",)
_OPERATOR: Final = ("operator", "hypervisor")
MEANINGS: Final[Mapping[str, Meaning]] = {
    "memory_protection": Meaning("confidentiality", _OPERATOR),
    "page_sharing": Meaning("confidentiality", _NEIGHBOUR),
    "balloon": Meaning("availability", ("operator",)),
    "overcommit": Meaning("availability", ("operator", "co_tenant")),
    "swap": Meaning("confidentiality", _OPERATOR),
    "hugepages": Meaning("availability", _NEIGHBOUR),
    "cpu_pinning": Meaning("availability", _NEIGHBOUR),
    "smt": Meaning("confidentiality", _NEIGHBOUR),
    "emulator_threads": Meaning("availability", _NEIGHBOUR),
    "cache_partition": Meaning("confidentiality", _NEIGHBOUR),
    "mem_bandwidth": Meaning("availability", _NEIGHBOUR),
    "nested_virt": Meaning("integrity", ("co_tenant", "guest_software")),
    "mitigations": Meaning("confidentiality", ("co_tenant", "guest_software")),
    "pmu": Meaning("confidentiality", _NEIGHBOUR),
    "introspection": Meaning("confidentiality", _OPERATOR),
    "core_dump": Meaning("confidentiality", _OPERATOR),
    "snapshot": Meaning("confidentiality", _OPERATOR),
    "live_migration": Meaning("confidentiality", ("operator", "outsider")),
    "disk_encryption": Meaning("confidentiality", ("operator", "outsider")),
    "vtpm": Meaning("integrity", ("hypervisor",)),
    "secure_boot": Meaning("integrity", ("guest_software", "outsider")),
    "network_isolation": Meaning("confidentiality", ("co_tenant", "outsider")),
    "co_residence": Meaning("confidentiality", _NEIGHBOUR),
    "audit_level": Meaning("accountability", ("operator",)),
}
OPEN_SIDE: Final = {True: Meaning("availability", _NEIGHBOUR), False: Meaning("availability", ("operator",))}
TEACHER_NEEDS: Final = ("full", "metadata")
TEACHER_WHY: Final = (
    "A class is shown which attacks were tried and what came of each. That needs a log of what happened, never the "
    "content of anybody's pages."
)


def goal(
    owner: str, switch: str, *, name: str = "", functionality: str = "", property: str = "",
    against: Iterable[str] = (), rationale: str, validity: Mapping[str, Any] = ALWAYS, wanted: Sequence[str] = (),
) -> Goal:  # fmt: skip
    """One record with nothing computed yet. `wanted` is beside the format: the values that would meet the goal.

    Who wants the open side of a switch wants to use something, and stands against whoever would forbid it.
    """
    names = SWITCHES[switch].names
    opens = names[-1] in wanted and names[0] not in wanted
    meaning = OPEN_SIDE[SWITCHES[switch].shared_by_nature] if opens else MEANINGS[switch]
    return {
        "format": FORMAT,
        "goal": _id(owner, name or switch),
        "owner": owner,
        "against": list(against or meaning.against),
        "functionality": functionality or SWITCHES[switch].label,
        "property": property or meaning.property,
        "switches": [switch],
        "mutual": [],
        "conflicting": [],
        "status": "open",
        "rationale": rationale,
        "validity": dict(validity),
        "wanted": list(wanted),
    }


def _id(owner: str, name: str) -> str:
    """Owner and name; where that is too long the owner is cut and told apart by its digest."""
    if len(owner) + len(name) < LONGEST:
        return f"{owner}.{name}"
    mark = hashlib.sha256(owner.encode()).hexdigest()[:8]
    return f"{owner[: LONGEST - len(name) - len(mark) - 2]}-{mark}.{name}"


def vm_goals(situation: Situation, vm: str) -> list[Goal]:
    """A VM's goals: each switch about which its wishes care, with the reason that the vocabulary gives for it."""
    policy, found = situation.by_vm[vm], []
    validity = {"notBefore": policy.not_before, "notAfter": policy.not_after}
    for switch in SWITCHES:
        if not has_goal(policy.document, switch):
            continue
        wanted = situation.best_possible(vm, switch) or situation.best_permitted(vm, switch)
        found.append(goal(vm, switch, rationale=_why(switch, wanted), validity=validity, wanted=wanted))
    return found


def has_goal(policy: Mapping[str, Any], switch: str) -> bool:
    """Do the wishes of this policy document care about the switch?"""
    wish = policy["switches"].get(switch)
    return wish is not None and bool(wish["weight"] or VETO in wish["values"].values())


def _why(switch: str, wanted: Sequence[str]) -> str:
    told = [value.consequence for value in SWITCHES[switch].values if value.name in wanted]
    return told[0] if told else SWITCHES[switch].help


def operator_goals(host: Host) -> list[Goal]:
    """What the operator's law demands and what it plans to do; both are told to every tenant."""
    found = [
        goal(
            OPERATOR, switch, name=f"law.{switch}", functionality=f"A rule of this host: {SWITCHES[switch].label}",
            against=("guest_software", "outsider"), wanted=values,
            rationale="The operator's law. It is not negotiable and is never shown as a negotiated result.",
        )
        for switch, values in sorted(host.law.items())
    ]  # fmt: skip
    for action in sorted(host.actions):
        _, switch, denied_by = ACTION_RULES[action]
        words = ACTION_WORDS[action]
        found.append(
            goal(
                OPERATOR, switch, name=f"plan.{action}", functionality=f"To {words}", property="availability",
                against=("co_tenant",), wanted=[v for v in SWITCHES[switch].names if v not in denied_by],
                rationale=f"The operator plans to {words}. An agreement decides whether it may, VM by VM.",
            )
        )  # fmt: skip
    for switch, wish in sorted((host.preferences or {}).get("switches", {}).items()):
        best = max((score for score in wish["values"].values() if score != VETO), default=0)
        wanted = [name for name in SWITCHES[switch].names if wish["values"][name] == best]
        found.append(goal(OPERATOR, switch, rationale=_why(switch, wanted), wanted=wanted, against=("co_tenant",)))
    return found


def teacher_goals() -> list[Goal]:
    """The teacher's one goal. It takes part in no negotiation; it is looked at so that nobody is forgotten."""
    return [
        goal(
            TEACHER, "audit_level", functionality="To show a class what was tried and what came of it",
            against=("operator",), wanted=TEACHER_NEEDS, rationale=TEACHER_WHY,
        )
    ]  # fmt: skip


def relations(goal: Mapping[str, Any], policies: Iterable[Policy], host: Host, now: str) -> dict[str, list[str]]:
    """{"mutual", "conflicting"} of a goal: who shares the interest on all its switches, who is in conflict on one.

    An owner that is a tenant speaks for all its VMs; a stakeholder without a policy has nothing to compare.
    """
    situation = Situation(policies, host, now)
    return _relations(goal, situation, _clashes(situation))


def derived(policies: Iterable[Policy], host: Host, now: str) -> list[Goal]:
    """Every goal of the VMs and the operator, as documents: related, with its status.

    `agreed` while the terms that cover owner and opponents run: expired ones stay in force, but no longer agreed.
    """
    situation = Situation(policies, host, now)
    terms, agreed = host.agreement, {}
    if terms is not None and terms["notBefore"] <= now < terms["notAfter"]:
        agreed = {row["id"]: terms["agreement"] for row in terms["parties"]}
    found = [row for vm in situation.vms for row in vm_goals(situation, vm)] + operator_goals(host)
    return [without_values(row) for row in related(found, situation, agreed=agreed)]


def without_values(goal: Goal) -> Goal:
    """The goal as its format has it."""
    return {name: value for name, value in goal.items() if name != "wanted"}


def related(
    goals: Iterable[Goal],
    situation: Situation,
    *,
    by_value: Iterable[Goal] = (),
    shared: Collection[str] = (),
    agreed: Mapping[str, str],
    waived: Collection[str] = (),
) -> list[Goal]:
    """The goals with who shares each, who opposes it, and its status; after `goals` those in `by_value`.

    Policies are compared as `relations` says. Goals of those who have no policy here (the teacher, an operator without
    preferences, a neighbour known by what it was disclosed to want) are compared by the values that they name: with
    everybody's on the `shared` switches, else a VM's with the operator's and the teacher's. `agreed` names the
    agreement that an owner's wishes are under, `waived` the goals that their owners gave up.
    """
    clashes, everything, told = _clashes(situation), [*goals], [*by_value]
    everything += told
    found = []
    for mine in everything:
        row = _relations(mine, situation, clashes)
        meets, opposes = set(row["mutual"]), set(row["conflicting"])
        for theirs in everything if mine in told else told:
            if _touch(mine, theirs, shared) and not {mine["owner"], theirs["owner"]} <= set(situation.parties):
                if set(mine["wanted"]) & set(theirs["wanted"]):
                    meets |= {theirs["owner"]} - opposes
                elif not {mine["owner"], theirs["owner"]} <= {*situation.vms, OPERATOR}:
                    opposes.add(theirs["owner"])
        row = {"mutual": sorted(meets), "conflicting": sorted(opposes)}
        found.append({**mine, **row, **_status({**mine, **row}, agreed, waived)})
    return found


def _clashes(situation: Situation) -> Clashes:
    """Who is named together in the conflicts of a start on each switch, as `check` finds them.

    What `check` adds by solving all wishes jointly is about no single switch, so nothing is solved here.
    """
    findings = [*at_create(situation), *at_start(situation)]
    return [(row.switch, frozenset(row.parties)) for row in findings if row.switch is not None]


def _relations(goal: Mapping[str, Any], situation: Situation, clashes: Clashes) -> dict[str, list[str]]:
    owner, switches = goal["owner"], goal["switches"]
    speaks_for = {policy.vm for policy in situation.policies if owner in (policy.vm, policy.tenant)}
    speaks_for |= {OPERATOR} & {owner}
    named = [parties for switch, parties in clashes if switch in switches and parties & speaks_for]
    compared = switches and speaks_for and speaks_for <= set(situation.parties)
    others = [party for party in situation.parties if party not in speaks_for] if compared else []
    mutual = [party for party in others if all(_share(situation, own, party, switches) for own in speaks_for)]
    return {"mutual": mutual, "conflicting": sorted(frozenset().union(*named) - speaks_for)}


def _share(situation: Situation, one: str, other: str, switches: Iterable[str]) -> bool:
    """b of the one and b of the other have a value in common on every switch."""
    return all(set(situation.best_possible(one, s)) & set(situation.best_possible(other, s)) for s in switches)


def _touch(mine: Goal, theirs: Goal, shared: Collection[str]) -> bool:
    """Are the two about one value, of two stakeholders who both say what they want?"""
    if mine["switches"] != theirs["switches"] or not mine["wanted"] or not theirs["wanted"]:
        return False
    owners = {mine["owner"], theirs["owner"]}
    return len(owners) == 2 and (mine["switches"][0] in shared or bool(owners & {OPERATOR, TEACHER}))


def _status(goal: Goal, agreed: Mapping[str, str], waived: Collection[str]) -> dict[str, str]:
    """`agreed` carries the agreement: what was given up there was given up by consent."""
    if goal["goal"] in waived:
        return {"status": "waived"}
    parties = {goal["owner"], *goal["conflicting"]} - {OPERATOR, TEACHER}
    if parties and parties <= set(agreed):
        return {"status": "agreed", "agreement": agreed[min(parties)]}
    return {"status": "conflict" if goal["conflicting"] else "mutual" if goal["mutual"] else "open"}
