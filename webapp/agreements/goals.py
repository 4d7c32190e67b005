"""Goals of stakeholders (vpms-goal/1): whose, against whom, for which functionality, of which property, and why.

Plain Python over the policy language: no rows, no pages. Who shares or contradicts a goal is computed, never typed in.
That each switch is read as one goal, and what it protects from whom, is this project's own reading of the method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from webapp.vpms.conflicts import ACTION_RULES, ACTION_WORDS
from webapp.vpms.documents import Host
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

FORMAT: Final = "vpms-goal/1"
TEACHER: Final = "teacher"
ALWAYS: Final = {"notBefore": None, "notAfter": None}
Goal = dict[str, Any]
Views = Mapping[str, Mapping[str, str]]  # by VM: the value of every switch in force


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
        "goal": f"{owner}.{name or switch}"[:63],
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


def vm_goals(situation: Situation, vm: str) -> list[Goal]:
    """A VM's goals: each switch about which its wishes care, with the reason that the vocabulary gives for it."""
    policy, found = situation.by_vm[vm], []
    validity = {"notBefore": policy.not_before, "notAfter": policy.not_after}
    for switch in SWITCHES:
        wish = policy.switches.get(switch)
        if wish is None or not (wish["weight"] or VETO in wish["values"].values()):
            continue
        wanted = situation.best_possible(vm, switch) or situation.best_permitted(vm, switch)
        found.append(goal(vm, switch, rationale=_why(switch, wanted), validity=validity, wanted=wanted))
    return found


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


def related(goals: Sequence[Goal], *, shared: Iterable[str], agreed: Mapping[str, str]) -> list[Goal]:
    """The goals with who shares each, who contradicts it, and its status.

    Goals meet or clash where they are about one value: on a switch of the whole host everybody's, otherwise a VM's
    with those of the operator and the teacher. `agreed` names for each party the agreement that its wishes are under.
    """
    common = set(shared)
    found = []
    for mine in goals:
        others = [theirs for theirs in goals if theirs["owner"] != mine["owner"] and _touch(mine, theirs, common)]
        clash = {theirs["owner"] for theirs in others if not set(mine["wanted"]) & set(theirs["wanted"])}
        meet = {theirs["owner"] for theirs in others} - clash
        found.append(
            {**mine, "mutual": sorted(meet), "conflicting": sorted(clash), **_status(mine, clash, meet, agreed)}
        )
    return found


def _touch(mine: Goal, theirs: Goal, common: set[str]) -> bool:
    if mine["switches"] != theirs["switches"] or not mine["wanted"] or not theirs["wanted"]:
        return False
    return mine["switches"][0] in common or bool({mine["owner"], theirs["owner"]} & {OPERATOR, TEACHER})


def _status(mine: Goal, clash: set[str], meet: set[str], agreed: Mapping[str, str]) -> dict[str, str]:
    """`agreed` carries the agreement: what was given up there was given up by consent."""
    parties = {mine["owner"], *clash} - {OPERATOR, TEACHER}
    if parties and parties <= set(agreed):
        return {"status": "agreed", "agreement": agreed[sorted(parties)[0]]}
    return {"status": "conflict" if clash else "mutual" if meet else "open"}
