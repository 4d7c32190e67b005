"""Questions about a step that is not yet shown, drawn from what the engine did at it; the beliefs behind wrong answers.

A kind asks one thing of a turn. It gives the right answer as the engine left it, wrong ones that somebody would give
who believes something of BELIEFS, and the reason with its values. Turn, seed and kinds decide the question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as lazy
from django.utils.translation import ngettext

from webapp.classroom import checks, replay
from webapp.classroom.replay import Turn
from webapp.courses.questions import Choice, Question
from webapp.runs.ahead import OwnStep
from webapp.saying import say

MOST_WRONG: Final = 3
SHUFFLED: Final = 4  # of fewer choices the order is the usual one

BELIEFS: Final[Mapping[str, Any]] = {
    "hypervisor-may-all": lazy("The hypervisor may do everything, on every machine."),
    "device-may-all": lazy("A device reaches all memory, on every machine."),
    "guest-reaches-all": lazy("A guest reaches memory that its tables do not lead to."),
    "checks-everywhere": lazy("Every machine checks to whom a page belongs."),
    "all-refused": lazy("H-SVM refuses whatever the hypervisor asks."),
    "guest-shut-out": lazy("A guest is kept from its own memory."),
    "other-check": lazy("Any check can be the one that refuses."),
    "refused-changes": lazy("A request that is refused changes something all the same."),
    "owner-stays": lazy("A page stays with its VM whatever is done to it."),
    "hypervisor-owns": lazy("The hypervisor owns the memory that it hands out."),
    "hsvm-owns": lazy("H-SVM owns the pages that it protects."),
    "free-at-once": lazy("A page that is touched by the hypervisor loses its owner."),
    "asking-is-getting": lazy("Who asks for a page gets it."),
    "always-wiped": lazy("Memory is wiped whenever it changes hands, on every machine."),
    "never-wiped": lazy("What was in memory stays there when it changes hands."),
    "write-is-lost": lazy("What is written into memory does not stay there."),
    "write-is-sealed-off": lazy("A write that is refused leaves bytes all the same."),
    "tlb-knows-all": lazy("The TLB knows a page before its first use."),
    "tlb-never-hits": lazy("Every access walks the tables."),
    "tlb-levels": lazy("Both levels of the TLB always hold the same."),
    "tlb-follows": lazy("The TLB notices by itself when a table is changed."),
    "tlb-never-told": lazy("No machine makes the TLB forget a page that was taken away."),
    "tlb-emptied": lazy("Every operation of the hypervisor empties the TLB."),
    "registers-open": lazy("The hypervisor can always read the registers of a guest that has stopped."),
    "registers-shut": lazy("The registers of a guest that has stopped are hidden on every machine."),
    "walk-too-short": lazy("A walk reads one table for each level and no more."),
    "walk-too-long": lazy("Every access costs a whole nested walk."),
    "guest-first": lazy("The guest's tables are read first, and the host's only at the end."),
    "nested-once": lazy("The host's tables are walked once for the whole address."),
    "level-skipped": lazy("A walk leaves levels out."),
    "caches-know-all": lazy("A page-walk cache saves every reference."),
    "caches-know-nothing": lazy("A page-walk cache saves nothing that was not read for this very page."),
    "walk-ends-early": lazy("A walk ends when the first table is found."),
    "walk-never-faults": lazy("Every walk finds a page."),
    "walk-always-faults": lazy("A walk that goes on must end in a fault."),
    "bits-of-other-level": lazy("All levels are indexed by the same bits."),
    "neighbours-take": lazy("What neighbours do changes which pages a VM has."),
    "misses-are-common": lazy("Most accesses miss the TLB."),
    "misses-are-never": lazy("A program that has warmed up never misses the TLB."),
}


class Asked(NamedTuple):
    """What a kind asks of one step: name -> (text, belief); the right one has no belief."""

    text: str
    choices: Mapping[str, tuple[str, str]]
    right: str
    why: str


class Kind(NamedTuple):
    """A row: `ask(turn)` gives None where there is nothing to ask."""

    label: Any
    ask: Callable[[Any], Asked | None]


def question_of(kinds: Mapping[str, Kind], turn: Any, *, number: int, seed: int) -> Question | None:
    """The question about this step for this seed; None: none of the kinds has one. Its key is `kind-number`."""
    found = [(name, asked) for name, kind in kinds.items() if (asked := kind.ask(turn)) is not None]
    if not found:
        return None
    draw = random.Random(f"{seed}/{number}")
    name, asked = draw.choice(found)
    wrong = [each for each in asked.choices if each != asked.right]
    kept = {asked.right, *draw.sample(wrong, min(MOST_WRONG, len(wrong)))}
    order = [each for each in asked.choices if each in kept]
    if len(order) >= SHUFFLED:
        draw.shuffle(order)
    choices = [Choice(each, asked.choices[each][0], asked.choices[each][1]) for each in order]
    return Question(f"{name}-{number}", asked.text, choices, asked.right, asked.why)


def kinds_of(kinds: Mapping[str, Kind], names: Collection[str]) -> dict[str, Kind]:
    """The rows of these names; of none, all."""
    return {name: kind for name, kind in kinds.items() if not names or name in names}


# -- words


def called(turn: Turn) -> dict[int, str]:
    """Handle -> name; an attack's VMs have letters, those of a run their own names."""
    return {handle: replay.vm_name(name) if turn.phase else name for handle, name in turn.names.items()}


def said_op(turn: Turn) -> str:
    """What is about to be done, with its fields, as the script will have it."""
    fields = {name: value for name, value in turn.op.items() if value is not None}
    return f"{turn.op['op']} {replay.fields_of(fields, called(turn))}".strip()


def _owner(turn: Turn, owner: str) -> str:
    return say(replay.owner_name(owner, called(turn)))


def _refused(turn: Turn) -> bool:
    return str(turn.result["status"]) != "OK"


def _answer(turn: Turn) -> str:
    """What the machine answered and why, with the values that the check compared."""
    status, check = turn.result["status"], turn.result.get("check", "")
    if check:
        compared = say(checks.refusal(turn.result, called(turn)))
        told = _("The machine answers %(status)s: %(check)s refuses.") % {"status": status, "check": check}
        return f"{told} {compared}." if compared else told
    if status != "OK":
        return _("The machine answers %(status)s; no protection check had to refuse it.") % {"status": status}
    told = _("The machine answers OK: on %(architecture)s no check stands against it.")
    return told % {"architecture": turn.architecture}


def _port(turn: Turn) -> str:
    name = str(turn.op["op"])
    return "device" if name.startswith("dma_") else "guest" if name.startswith("guest_") else "hypervisor"


# -- how the machine answers

PLAUSIBLE: Final[Mapping[str, tuple[str, ...]]] = {
    "page_map": ("owner_check", "slot_check", "protected_check"),
    "page_unmap": ("owner_check", "handle_check", "busy_check"),
    "delete_vm": ("handle_check", "owner_check", "busy_check"),
    "balloon": ("owner_check", "busy_check", "handle_check"),
    "swap_out": ("owner_check", "busy_check", "handle_check"),
    "swap_in": ("swap_version", "swap_binding", "owner_check"),
    "hv_read": ("hv_access_check", "owner_check", "smram_lock"),
    "hv_write": ("hv_access_check", "npt_protection", "owner_check"),
    "cold_boot_read": ("hv_access_check", "smram_lock"),
    "hv_read_context": ("context_protection", "hv_access_check", "handle_check"),
    "hv_write_context": ("context_protection", "hv_access_check", "handle_check"),
    "set_npt_root": ("npt_root_protection", "npt_protection", "owner_check"),
    "dma_read": ("dma_check", "hv_access_check", "owner_check"),
    "dma_write": ("dma_check", "hv_access_check", "owner_check"),
    "merge": ("merge_consent", "owner_check", "busy_check"),
    "context_save": ("context_protection", "handle_check"),
    "context_restore": ("context_protection", "handle_check"),
}
REACHES: Final = {"hypervisor": "hypervisor-may-all", "device": "device-may-all", "guest": "guest-reaches-all"}


def _ask_answer(turn: Turn) -> Asked | None:
    """Which check fires, if any does."""
    if not turn.done or "status" not in turn.result:
        return None
    status, check, port = str(turn.result["status"]), turn.result.get("check", ""), _port(turn)
    right = "ok" if status == "OK" else check or status
    refused_as = {"ok": "all-refused" if turn.architecture.startswith("hsvm") else "checks-everywhere"}
    belief = refused_as.get(right, "other-check")
    choices: dict[str, tuple[str, str]] = {"ok": (_("It is done (OK)"), "" if right == "ok" else REACHES[port])}
    for name in PLAUSIBLE.get(str(turn.op["op"]), ("owner_check", "handle_check") if port == "hypervisor" else ()):
        choices[name] = (_("It is refused by %(check)s") % {"check": name}, belief)
    if port == "guest" or right not in choices:
        faults = ("F_NOT_PRESENT", "F_PERMISSION") if turn.op["op"] in ACCESSES else ("E_STATE",)
        for name in dict.fromkeys((*faults, *(() if right in choices else (right,)))):
            text = _("It is refused by %(check)s") if name == check else _("It fails with %(status)s")
            wrong = "guest-shut-out" if right == "ok" else "other-check"
            choices[name] = (text % {"check": name, "status": name}, wrong)
    choices[right] = (choices[right][0], "")
    return Asked(_("How does the machine answer this step?"), choices, right, _answer(turn))


# -- the frame

MOVES: Final = (
    *("page_map", "page_unmap", "balloon", "swap_out", "swap_in", "delete_vm", "claim", "release"),
    *("merge", "unmerge", "guest_share", "guest_unshare", "export_vm", "import_vm"),
)
WRITES: Final = ("hv_write", "guest_write", "dma_write")
SWITCHES: Final = (
    "context_save",
    "context_restore",
    "set_npt_root",
    "hv_flush",
    "guest_map",
    "guest_unmap",
    "guest_flush",
)
ACCESSES: Final = ("guest_read", "guest_write", "guest_fetch", "guest_access")


def _ask_owner(turn: Turn) -> Asked | None:
    """Who owns the frame afterwards."""
    before, after = turn.owner
    if not turn.done or turn.frame is None or (turn.op["op"] not in MOVES and before == after):
        return None
    asker = f"vm:{turn.op['vm']}" if turn.op.get("vm") in turn.names else ""
    offered = dict.fromkeys(name for name in (before, after, asker, "free", "hypervisor") if name)
    if turn.architecture.startswith("hsvm"):
        offered["hsvm"] = None
    refused = _refused(turn)
    choices = {}
    for name in offered:
        if name == after:
            belief = ""
        elif name == before:
            belief = "owner-stays"
        elif refused:
            belief = "refused-changes"
        else:
            belief = {"hypervisor": "hypervisor-owns", "hsvm": "hsvm-owns", "free": "free-at-once"}.get(
                name, "asking-is-getting"
            )
        choices[name] = (_owner(turn, name), belief)
    names = {"frame": hex(turn.frame), "before": _owner(turn, before), "after": _owner(turn, after)}
    text = _("Owner of frame %(frame)s before this step: %(before)s. Who is its owner afterwards?") % names
    same = before == after
    told = _("Owner of frame %(frame)s as before: %(after)s.") if same else _("%(frame)s: %(before)s → %(after)s.")
    return Asked(text, choices, after, f"{_answer(turn)} {told % names}")


def _ask_holds(turn: Turn) -> Asked | None:
    """What the frame holds afterwards: zeros, or bytes."""
    before, after = turn.holds
    if not turn.done or turn.frame is None or not (before or after) or turn.op["op"] not in (*MOVES, *WRITES):
        return None
    if _refused(turn):
        wrong = "refused-changes" if before else "write-is-sealed-off"
    elif before:
        wrong = "always-wiped" if after else "never-wiped"
    else:
        wrong = "write-is-lost"
    words = {True: _("Bytes that somebody wrote"), False: _("Nothing but zeros")}
    names = {"frame": hex(turn.frame), "before": words[before].lower(), "after": words[after].lower()}
    choices = {
        name: (words[kept], "" if kept == after else wrong) for name, kept in (("bytes", True), ("zeros", False))
    }
    text = _("Before this step frame %(frame)s holds: %(before)s. What does it hold afterwards?") % names
    told = _("Frame %(frame)s held: %(before)s; it holds: %(after)s.") % names
    wiped = ""
    if before and not after:
        wiped = " " + _("It was wiped before it changed hands.")
    elif before and after and turn.owner[0] != turn.owner[1]:
        wiped = " " + _("It changed hands and nothing wiped it.")
    return Asked(text, choices, "bytes" if after else "zeros", f"{_answer(turn)} {told}{wiped}")


# -- TLB and walks


def _ask_level(turn: Turn) -> Asked | None:
    """TLB hit or miss."""
    if not turn.level:
        return None
    words = {
        "l1": _("Hit in the first level of the TLB"),
        "l2": _("Hit in the second level of the TLB"),
        "miss": _("Miss: the tables are walked"),
    }
    belief = {
        ("miss", "l1"): "tlb-knows-all",
        ("miss", "l2"): "tlb-knows-all",
        ("l1", "miss"): "tlb-never-hits",
        ("l2", "miss"): "tlb-never-hits",
        ("l1", "l2"): "tlb-levels",
        ("l2", "l1"): "tlb-levels",
    }
    choices = {name: (text, belief.get((turn.level, name), "")) for name, text in words.items()}
    read = ngettext("%(count)s table entry was read.", "%(count)s table entries were read.", turn.references)
    why = f"{words[turn.level]}. {read % {'count': turn.references}}"
    known = ngettext(
        "Before the step the TLBs held %(count)s entry.",
        "Before the step the TLBs held %(count)s entries.",
        turn.entries[0],
    )
    return Asked(
        _("Does the TLB know this access?"), choices, turn.level, f"{why} {known % {'count': turn.entries[0]}}"
    )


def _ask_references(turn: Turn) -> Asked | None:
    """How many table entries the access reads."""
    if not turn.level:
        return None
    right = turn.references
    choices = {}
    for number in dict.fromkeys((0, 4, 24, right)):
        belief = "walk-too-long" if number > right else "tlb-knows-all" if number == 0 else "walk-too-short"
        text = ngettext("%(count)s entry", "%(count)s entries", number) % {"count": number}
        choices[str(number)] = (text, "" if number == right else belief)
    if right == 0:
        choices = {name: (text, belief and "tlb-never-hits") for name, (text, belief) in choices.items()}
    why = {
        "miss": _("The access missed the TLB, and the walk read %(count)s entries."),
        "l1": _("The access hit the first level of the TLB: no table was read."),
        "l2": _("The access hit the second level of the TLB: no table was read."),
    }[turn.level] % {"count": right}
    return Asked(_("How many entries of tables are read for this access?"), choices, str(right), why)


def _ask_flush(turn: Turn) -> Asked | None:
    """Which entries of the TLBs are gone or stale afterwards."""
    if not turn.done or not turn.entries[0] or turn.op["op"] not in (*MOVES, *SWITCHES, "hv_write"):
        return None
    more = turn.stale[1] - turn.stale[0]
    if more > 0 and turn.gone:
        return None
    right = "stale" if more > 0 else "gone" if turn.gone else "same"
    belief = {
        "stale": {"gone": "tlb-emptied", "same": "tlb-follows"},
        "gone": {"stale": "tlb-never-told", "same": "tlb-never-told"},
        "same": {"stale": "refused-changes" if _refused(turn) else "tlb-never-told", "gone": "tlb-emptied"},
    }[right]
    words = {
        "gone": _("Entries are dropped"),
        "stale": _("Entries stay that no longer agree with the tables (STALE)"),
        "same": _("None is dropped, and none becomes STALE"),
    }
    choices = {name: (text, belief.get(name, "")) for name, text in words.items()}
    text = ngettext(
        "The TLBs hold %(count)s entry. What becomes of it at this step?",
        "The TLBs hold %(count)s entries. What becomes of them at this step?",
        turn.entries[0],
    ) % {"count": turn.entries[0]}
    told = _(
        "Entries: %(before)s before, %(after)s after, %(gone)s of them dropped; STALE: %(old)s before, %(new)s after."
    )
    names = {"before": turn.entries[0], "after": turn.entries[1], "gone": turn.gone}
    why = told % {**names, "old": turn.stale[0], "new": turn.stale[1]}
    return Asked(text, choices, right, f"{_answer(turn)} {why}")


def _ask_registers(turn: Turn) -> Asked | None:
    """Whether the state that the exit left can be read by the hypervisor."""
    if not turn.context or turn.saved is None:
        return None
    status, _space, check = turn.context.partition(" ")
    right = "open" if status == "OK" else "shut"
    who = called(turn).get(turn.saved[0], hex(turn.saved[0]))
    choices = {
        "open": (_("It reads them"), "" if right == "open" else "registers-open"),
        "shut": (_("It is refused"), "" if right == "shut" else "registers-shut"),
    }
    text = _("After this step the hypervisor asks for the registers of %(vm)s, vcpu %(vcpu)s. What does it get?")
    tried = _("It was tried on this machine and taken back: hv_read_context is answered %(status)s.") % {
        "status": status
    }
    by = _("%(check)s refuses.") % {"check": check} if check else ""
    return Asked(text % {"vm": who, "vcpu": turn.saved[1]}, choices, right, f"{tried} {by}".strip())


TURNS: Final[Mapping[str, Kind]] = {
    "answer": Kind(lazy("Which check fires, if any"), _ask_answer),
    "owner": Kind(lazy("Who owns the frame afterwards"), _ask_owner),
    "holds": Kind(lazy("What the frame holds afterwards"), _ask_holds),
    "hit": Kind(lazy("TLB hit or miss"), _ask_level),
    "references": Kind(lazy("How many entries of tables are read"), _ask_references),
    "flush": Kind(lazy("What becomes of the TLB's entries"), _ask_flush),
    "registers": Kind(lazy("Whether the saved registers can be read"), _ask_registers),
}


# -- the nested walk


class WalkTurn(NamedTuple):
    """The next reference of a walk: what was read before it, and the row that follows."""

    before: list[Mapping[str, Any]]
    row: Mapping[str, Any]
    last: bool
    cached: bool


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['guest_level']}-{row['nested_level']}"


def _place_said(place: str) -> str:
    guest, nested = map(int, place.split("-"))
    if not nested:
        return _("The guest's own table of level %(level)s") % {"level": guest}
    if guest:
        told = _("The nested table of level %(nested)s, to find the guest's table of level %(guest)s")
        return told % {"nested": nested, "guest": guest}
    return _("The nested table of level %(nested)s, to find the page itself") % {"nested": nested}


def _ask_next(turn: WalkTurn) -> Asked | None:
    """Which reference is next."""
    row, right = turn.row, _place(turn.row)
    guest, nested = row["guest_level"], row["nested_level"]
    wrong: dict[str, str] = {}
    if nested > 1:
        wrong[f"{guest}-{nested - 1}"] = "level-skipped"
    if nested and guest:
        wrong[f"{guest}-0"] = "guest-first"
    if not nested and guest > 1:
        wrong[f"{guest - 1}-0"] = "nested-once"
    if not nested:
        wrong[f"{guest - 1}-4"] = "level-skipped"
    if nested and guest > 1:
        wrong[f"{guest - 1}-{nested}"] = "nested-once"
    wrong.setdefault("0-1", "walk-ends-early")
    wrong.pop(right, None)
    if len(wrong) < 2:
        wrong.setdefault("1-0", "guest-first")
        wrong.pop(right, None)
    choices = {name: (_place_said(name), belief) for name, belief in sorted({**wrong, right: ""}.items())}
    return Asked(_("Which table is read next?"), choices, right, say(row["says"]))


def _ask_saved(turn: WalkTurn) -> Asked | None:
    """Whether a page-walk cache saves it."""
    if not turn.cached:
        return None
    saved = bool(turn.row["skipped"])
    choices = {
        "made": (_("It is read from memory"), "caches-know-nothing" if saved else ""),
        "saved": (_("A page-walk cache saves it"), "" if saved else "caches-know-all"),
    }
    text = _("Reference %(order)s comes next. Is it made, or does a page-walk cache save it?")
    return Asked(text % {"order": turn.row["order"]}, choices, "saved" if saved else "made", say(turn.row["says"]))


def _ask_end(turn: WalkTurn) -> Asked | None:
    """Whether the walk ends with it."""
    right = "fault" if turn.row["fault"] else "found" if turn.last else "on"
    belief = {
        "on": {"fault": "walk-always-faults", "found": "walk-ends-early"},
        "found": {"fault": "walk-always-faults", "on": "walk-too-long"},
        "fault": {"on": "walk-never-faults", "found": "walk-never-faults"},
    }[right]
    words = {
        "on": _("The walk goes on after it"),
        "found": _("The walk ends: the page is found"),
        "fault": _("The walk ends with a fault"),
    }
    choices = {name: (text, belief.get(name, "")) for name, text in words.items()}
    text = _("Reference %(order)s comes next. What follows from it?") % {"order": turn.row["order"]}
    return Asked(text, choices, right, f"{say(turn.row['says'])} {words[right]}.")


def _ask_bits(turn: WalkTurn) -> Asked | None:
    """Which bits of the address choose the entry."""
    right = str(turn.row["bits"])
    choices = {}
    for low in (39, 30, 21, 12):
        bits = f"{low + 8} to {low}"
        choices[bits] = (_("Bits %(high)s to %(low)s") % {"high": low + 8, "low": low}, "bits-of-other-level")
    choices[right] = (choices[right][0], "")
    told = _("%(place)s comes next. Which bits of the %(of)s choose its entry?")
    text = told % {"place": _place_said(_place(turn.row)), "of": say(turn.row["of"])}
    why = _("Each level takes nine bits: entry %(index)s of 512, by bits %(bits)s.")
    return Asked(text, choices, right, why % {"index": turn.row["index"], "bits": say(right)})


WALKS: Final[Mapping[str, Kind]] = {
    "next": Kind(lazy("Which reference is next"), _ask_next),
    "saved": Kind(lazy("Whether a page-walk cache saves it"), _ask_saved),
    "end": Kind(lazy("What follows from the reference"), _ask_end),
    "bits": Kind(lazy("Which bits choose the entry"), _ask_bits),
}


# -- what a tenant sees of a run


def _ask_own_frames(turn: OwnStep) -> Asked:
    before, after = turn.frames
    right = "same" if before == after else "more" if after > before else "fewer"
    words = {"fewer": _("It has fewer"), "same": _("It has as many as before"), "more": _("It has more")}
    choices = {
        name: (text, "" if name == right else "owner-stays" if name == "same" else "neighbours-take")
        for name, text in words.items()
    }
    names = {"vm": turn.vm, "before": f"{before:,}", "after": f"{after:,}"}
    text = _("%(vm)s has %(before)s pages of the host. How many does it have after the next step?") % names
    return Asked(text, choices, right, _("%(vm)s: %(before)s pages before, %(after)s after.") % names)


SHARES: Final = (("few", 0.01), ("some", 0.1), ("many", 1.1))


def _ask_own_misses(turn: OwnStep) -> Asked | None:
    if not turn.accesses:
        return None
    share = turn.misses / turn.accesses
    right = next(name for name, most in SHARES if share < most)
    words = {
        "few": _("Fewer than 1 in 100 miss the TLB"),
        "some": _("From 1 to 10 in 100 miss the TLB"),
        "many": _("More than 10 in 100 miss the TLB"),
    }
    order = [name for name, _most in SHARES]
    choices = {
        name: (
            text,
            ""
            if name == right
            else "misses-are-common"
            if order.index(name) > order.index(right)
            else "misses-are-never",
        )
        for name, text in words.items()
    }
    names = {"vm": turn.vm, "accesses": f"{turn.accesses:,}", "misses": f"{turn.misses:,}"}
    text = _("%(vm)s makes accesses to its memory in the next step. How many of them miss the TLB?") % names
    told = _("%(vm)s made %(accesses)s accesses; %(misses)s of them missed, and %(read)s entries of tables were read.")
    return Asked(text, choices, right, told % {**names, "read": f"{turn.references:,}"})


OWN: Final[Mapping[str, Kind]] = {
    "own-frames": Kind(lazy("How many pages the VM has afterwards"), _ask_own_frames),
    "own-misses": Kind(lazy("How many accesses miss the TLB"), _ask_own_misses),
}


def labels() -> dict[str, Any]:
    """Every kind's name and label."""
    return {name: kind.label for row in (TURNS, WALKS, OWN) for name, kind in row.items()}


def belief_said(name: str) -> str:
    return str(BELIEFS.get(name, ""))


def unknown(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in TURNS]
