"""Plain words for what the policy language computes. Labels come from the vocabulary; nothing here names a party."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from webapp.agreements.models import Conflict, Negotiation, Rung
from webapp.vpms.vocabulary import FACTS, SWITCHES

State = Negotiation.State

STATUS_WORDS: Final = {
    "no_static_conflict_now": "No static conflict now",
    "possible_when_running": "Possible when running",
    "conflict_negotiable": "Conflict: negotiable",
    "conflict_unresolvable": "Conflict: cannot both be met",
}
STATUS_TONES: Final = {
    "no_static_conflict_now": "ok",
    "possible_when_running": "neutral",
    "conflict_negotiable": "warning",
    "conflict_unresolvable": "violation",
}
SEVERITY_WORDS: Final = {
    "hard": "cannot both be met",
    "negotiable": "negotiable",
    "possible": "possible when running",
    "advice": "advice",
}
DYNAMIC_WORDS: Final = {"hard": "refused", "negotiable": "waits for consent"}
SEVERITY_TONES: Final = {"hard": "violation", "negotiable": "warning", "possible": "accent", "advice": "accent"}
NOT_CHECKED_WORDS: Final = {
    "vms_not_given": "VMs that are not on this host now",
    "other_hosts": "other hosts",
    "future_events": "events that have not happened yet",
    "declared_only_switches": "settings that this simulated host only notes down",
    "joint_feasibility": "whether all wishes together can be met (the time limit came first)",
    "start_rules": "neighbours (that happens when the VM starts)",
    "run_rules": "what can only happen while it runs",
}
ANSWER_WORDS: Final = {True: "accepted", False: "rejected"}
COUNTERED: Final = "countered"

# Every finer state of the protocol shows exactly one chip: word and tone.
CHIPS: Final = {
    State.DRAFT: ("Draft", "accent"),
    State.DETECTED: ("Draft", "accent"),
    State.INVITED: ("Draft", "accent"),
    State.COMMITTED: ("Draft", "accent"),
    State.PROPOSED: ("Proposed", "accent"),
    State.ACCEPTED_ALL: ("Accepted", "ok"),
    State.SIGNED: ("Accepted", "ok"),
    State.ENFORCED: ("Accepted", "ok"),
    State.SUPERSEDED: ("Accepted", "ok"),
    State.BREACHED: ("Accepted", "violation"),
    State.NO_AGREEMENT: ("Rejected", "violation"),
    State.WITHDRAWN: ("Withdrawn", "warning"),
}
EMPTIED = "A party was deleted with its wishes, so nothing of what was wished and proposed stands here any more."
SENTENCES: Final = {
    State.DRAFT: "The start is waiting its turn: another start on this host is being settled.",
    State.DETECTED: "Wishes clash. Everyone concerned is being invited; only the new start is held.",
    State.INVITED: "Everyone was invited and is putting the sealed wishes on the table at the same time.",
    State.COMMITTED: "All wishes are sealed. The solver is looking for a settlement.",
    State.PROPOSED: "A settlement is proposed. It holds only if everyone accepts it.",
    State.ACCEPTED_ALL: "Everyone accepted. The agreement is being signed.",
    State.SIGNED: "The agreement is signed by all and is about to be put in force.",
    State.ENFORCED: "The agreement is in force.",
    State.SUPERSEDED: "The agreement was in force until a newer one replaced it.",
    State.BREACHED: "The agreement is in force; something happened against it, and the evidence is recorded.",
    State.NO_AGREEMENT: "There is no agreement. Everyone who was running keeps everything as it was.",
    State.WITHDRAWN: "The start was withdrawn. Everyone who was running keeps everything as it was.",
}
HONESTY: Final = (
    "No procedure of this kind is proof against strategic answers. In our test (60 random cases, 4 parties, "
    "6 settings) 82 percent of parties who knew everything about the others could have gained by a simple "
    "misstatement; of all blind misstatements 26 "
    "percent helped, 9 percent hurt their author and 2 percent destroyed the agreement."
)


def severity_words(conflict: Conflict) -> str:
    """What a conflict means: found in documents it says whether it can be settled, while running what was done."""
    if conflict.kind == "dynamic" and conflict.severity in DYNAMIC_WORDS:
        return DYNAMIC_WORDS[conflict.severity]
    return SEVERITY_WORDS.get(conflict.severity, conflict.severity)


def evidence_words(value: object) -> str:
    """A piece of evidence for a page: what belongs together side by side, without the marks of a program."""
    return ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else str(value)


def switch_of(issue: str) -> str:
    """The switch of an issue `host/<switch>` or `<vm>/<switch>`."""
    return issue.rpartition("/")[2]


def switch_of_form(name: str) -> dict[str, str]:
    """A switch with the question of the form that decides it."""
    return {"name": name, "label": SWITCHES[name].label, "question": SWITCHES[name].question}


def switch_label(issue: str) -> str:
    return SWITCHES[switch_of(issue)].label


def switch_help(issue: str) -> str:
    return SWITCHES[switch_of(issue)].help


def value_label(issue: str, value: str) -> str:
    """The short label of a value, or the name itself where a document has one that is not known here."""
    for known in SWITCHES[switch_of(issue)].values:
        if known.name == value:
            return known.label
    return value


def any_of(issue: str, values: Iterable[str]) -> str:
    """`Never or Ask me`, strict to lax."""
    wanted = set(values)
    labels = [known.label for known in SWITCHES[switch_of(issue)].values if known.name in wanted]
    return " or ".join(labels)


def percent(points: int) -> str:
    """Points of a million as `61.2 %`, rounded down so that no page promises more than there is."""
    return f"{points // 1000 / 10:.1f} %"


def joined(items: Iterable[str]) -> str:
    """`a, b and c`."""
    parts = list(items)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def background_words(item: str) -> str:
    """A condition that nobody here chose, as a sentence part."""
    kind, _, name = item.partition(":")
    label = SWITCHES[name].label if name in SWITCHES else name
    words = {
        "law": f"a rule of the operator that is not negotiable ({label})",
        "capability": f"what the host can do at all ({label})",
        "offer": f"what the operator offers ({label})",
        "population": "who may share a host with whom",
        "capacity": f"how much the host has ({label.replace('_', ' ')})",
        "departed": "a waiting time after another VM left",
        "validity": "the time for which wishes are valid",
    }
    if kind in words:
        return words[kind]
    fact = next((fact for fact in FACTS if fact.name == item), None)
    if fact is None:
        return item
    return f"{SWITCHES[fact.switch].label} and {SWITCHES[fact.then_switch].label} depend on each other"


def demand_words(item: str, parties: int) -> str:
    """One demand of a core, said of so many parties without naming them."""
    kind, _, rest = item.partition(":")
    detail = rest.partition(":")[2]
    label = SWITCHES[detail].label if detail in SWITCHES else detail
    who = "one party" if parties == 1 else f"{parties} parties"
    if parties == 1:
        words = {
            "veto": f"{who} rules out values of “{label}”",
            "rule": f"{who} ties two settings together by a rule",
            "label": f"{who} refuses a neighbour of a certain kind",
        }
    else:
        words = {
            "veto": f"{who} rule out different values of “{label}”",
            "rule": f"{who} tie two settings together by a rule",
            "label": f"{who} refuse a neighbour of a certain kind",
        }
    return {
        **words,  # labels are words of their owners: all who are seated read this, so it does not repeat them
        "reservation": f"{who} would rather have no agreement than so little",
        "class": f"{who} must not share a host with a competitor",
    }.get(kind, item)


WITHDRAWN: Final = "The start was withdrawn by the one who had asked for it."


def ending(state: dict[str, Any]) -> str:
    """Why a negotiation ended without agreement, in sentences that name no owner of any demand."""
    kind, _, rest = str(state["reason"]).partition(": ")
    if state["state"] == State.WITHDRAWN:
        return WITHDRAWN
    if kind == "deadline":
        who = rest.partition(" ")[0]
        return (
            f"{who} gave no answer in time; silence counts as a no." if who.startswith("T-") else f"Too late: {rest}."
        )
    if kind == "reject":
        return f"{rest.partition(' ')[0]} rejected the proposal and wants no other."
    if kind in ("core", "conflict"):
        return core_sentence(state["core"], state["background"])
    if kind == "rounds":
        return f"{rest.capitalize()}."
    if kind == "time":
        return "The solver found no settlement in the time that it had."
    return f"{str(state['reason']).capitalize()}."


def core_sentence(core: Iterable[str], background: Iterable[str]) -> str:
    """The demands that cannot hold together, without their owners, and what limits them."""
    owners: dict[str, set[str]] = {}
    for item in core:
        kind, _, rest = item.partition(":")
        owner, _, detail = rest.partition(":")
        named = detail if kind == "veto" else ""
        owners.setdefault(f"{kind}::{named}", set()).add(owner)
    demands = [demand_words(item, len(parties)) for item, parties in sorted(owners.items())]
    limits = sorted({background_words(item) for item in background})
    told = f"These cannot hold together: {joined(demands)}." if demands else "The host cannot do this at all."
    return f"{told} It is limited by {joined(limits)}." if limits else told


def difference(row: Negotiation, *, round: int, vm: str) -> str:
    """What is otherwise than in the proposal that was answered, as far as the VM's owner may know it."""
    word, _ = CHIPS[State(row.state)]
    if row.state != State.PROPOSED:
        return f"The negotiation is now: {word}. {row.reason or SENTENCES[State(row.state)]}"
    proposals = {proposal["k"]: proposal for proposal in row.protocol["proposals"]}
    old, new = proposals.get(round), proposals[row.round]
    if old is None or old is new:
        return f"The proposal on the table is number {row.round}."
    views = [{**proposal["assignment"]["host"], **proposal["assignment"]["vms"][vm]} for proposal in (old, new)]
    shown = {
        switch_of(issue) for issue in (*old["contested"], *new["contested"]) if issue.partition("/")[0] in ("host", vm)
    }
    changed = [
        f"{switch_label(name)}: was {value_label(name, views[0][name])}, is {value_label(name, views[1][name])}"
        for name in SWITCHES
        if name in shown and views[0][name] != views[1][name]
    ]
    return f"The proposal on the table is number {row.round}. {'; '.join(changed)}".rstrip(" ;") + "."


LADDER: Final = {
    "relocate_requester": "The VM that wants to start can be placed on another host.",
    "migrate_willing": "A neighbour that allows being moved can be asked to move.",
    "another_time": "The start can be tried again at another time.",
    "edit_preference": "Someone whose wish stands in the way can change it; nobody else can.",
    "dedicated_host": "A host of its own can be had at the posted price.",
    "refuse_action": "Only this start is refused; everybody keeps the present state. This is what happens by itself.",
}
# The same as steps that the one who wanted to start can choose: what begins, whose consent it needs, the button.
RUNGS: Final[dict[str, dict[str, str]]] = {
    "relocate_requester": {
        "title": "Start on another host",
        "begins": "The start is negotiated there. If that comes to nothing, the VM is placed where it is now.",
        "consent": "yours by this button, and that of every VM there for which something would change",
        "button": "Try the other host",
    },
    "migrate_willing": {
        "title": "Ask whether a neighbour would move",
        "begins": "Neighbours that stand in the way and allow being moved are asked; you are not told who they are. "
        "If one agrees and finds a place on another host, your start is tried again here.",
        "consent": "the neighbour's own, and that of the VMs on the host to which it would move",
        "button": "Ask the neighbours",
    },
    "another_time": {
        "title": "Try again at another time",
        "begins": "The start is tried again then, with the wishes and the neighbours of that time.",
        "consent": "yours by this button; at that time everybody is asked as at any start",
        "button": "Try again then",
    },
    "edit_preference": {
        "title": "Change a wish of yours",
        "begins": "Opens your wishes at the question concerned. Nobody can change them but you, and you need not.",
        "consent": "yours, when you save",
        "button": "",
    },
    "dedicated_host": {
        "title": "Take a host of its own",
        "begins": "The VM starts on an empty host, and nobody else starts beside it while it is there.",
        "consent": "yours by this button, to the price",
        "button": "Take the host at this price",
    },
    "refuse_action": {
        "title": "Leave it at that",
        "begins": "Only this start is refused; everybody keeps the present state. It is always safe, and it is what "
        "happens if you do nothing. You can press Start again whenever you like.",
        "consent": "nobody's",
        "button": "Leave it at that",
    },
}


def rung_words(rung: Rung) -> str:
    """What became of a chosen step, without naming a neighbour."""
    if rung.state in (Rung.State.REFUSED, Rung.State.CANCELLED):
        title = RUNGS[rung.step]["title"]
        return f"{title}: {rung.reason or 'ended.'}"
    if rung.step == "migrate_willing" and rung.state == Rung.State.ASKED:
        return f"Neighbours are asked whether they would move. No answer by {rung.due_at:%H:%M} UTC counts as a no."
    if rung.step == "migrate_willing" and rung.state == Rung.State.WAITING:
        return "A neighbour agreed to move. Its place on the other host is being negotiated; your start follows."
    if rung.step == "another_time" and rung.state == Rung.State.WAITING:
        return f"The start will be tried again at {rung.due_at:%Y-%m-%d %H:%M} UTC."
    if rung.step == "refuse_action":
        return "You left it at that."
    where = f" on host {rung.host.name}" if rung.host and rung.step != "migrate_willing" else ""
    return f"The start is tried again{where}."
