"""What an operator may ask of a running VM: one row for each act. Forms, checks, the gate, the engine and the words all
read this table; a new act is one more row, and one more line in webapp.runs.engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from webapp.errors import BadInput, Fault
from webapp.strictjson import member

MOST_PAGES: Final = 1 << 20


class Facts(NamedTuple):
    """What the event of an act tells beside what was asked."""

    seals: bool  # pages leave this machine's memory sealed
    proven: bool  # the host proves what it runs
    hosts: Mapping[str, Mapping[str, Any]]  # documents of the hosts to which a VM might move
    others: Sequence[str]  # VMs that run beside it


Event = dict[str, Any]
Data = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """One act. `words` are English, with places: they are stored, and said in the reader's language where shown."""

    name: str
    title: Promise
    says: Promise
    button: Promise  # with %(vm)s
    fields: tuple[str, ...]  # of FIELDS
    event: Callable[[str, Data, Facts], Event] | None  # for the gate; None: nobody need be asked
    tried: str  # what the operator asked for
    refused: str  # what did not happen
    came_to: str  # what happened, filled from the result
    owner_decides: bool = False  # even where the agreement allows it


def _image(kind: str) -> Callable[[str, Data, Facts], Event]:
    return lambda vm, data, facts: {"kind": kind, "vm": vm, "encrypted": data["form"] == "sealed"}


def _look(vm: str, data: Data, facts: Facts) -> Event:
    return {"kind": "hv_read", "vm": vm, "purpose": "introspect", "probe": data["reader"] == "probe"}


def _move(vm: str, data: Data, facts: Facts) -> Event:
    target = facts.hosts[data["host"]]
    return {
        "kind": "migrate",
        "vm": vm,
        "mode": "precopy",
        "zone": target["zone"],
        "attested": target["attested"],
    }


_ROWS: Final = (
    Kind(
        "reclaim", _("Balloon: ask for memory back"),
        _("The guest gives spare pages back; each is wiped before anybody else can have it."),
        _("Ask %(vm)s for memory back"), ("pages",),
        lambda vm, data, facts: {"kind": "reclaim", "vm": vm, "pages": data["pages"]},
        "The operator asked {vm} for {pages} of memory.",
        "{vm} was asked for {pages} and keeps them.",
        "{released} pages were given back",
    ),
    Kind(
        "page_merge", _("Merge equal pages"),
        _(
            "Kernel pages of two VMs that hold the same bytes are kept once. "
            "Each VM could then measure what the other holds."
        ),
        _("Merge pages of %(vm)s"), ("other", "pages"),
        lambda vm, data, facts: {"kind": "page_merge", "vm": vm, "other": data["other"]},
        "The operator asked to merge pages of {vm} with those of a neighbour.",
        "The pages of {vm} stay apart from those of its neighbours.",
        "{merged} of {compared} compared pages were merged",
    ),
    Kind(
        "swap_out", _("Swap out"),
        _("Pages leave memory as images: sealed under H-SVM, else in the clear. They come back at the first touch."),
        _("Swap out pages of %(vm)s"), ("pages",),
        lambda vm, data, facts: {"kind": "swap_out", "vm": vm, "pages": data["pages"], "sealed": facts.seals},
        "The operator asked to swap out pages of {vm}.",
        "No page of {vm} was swapped out.",
        "{pages} pages were swapped out",
    ),
    Kind(
        "swap_in", _("Swap in"),
        _("Brings back what was swapped out. Under H-SVM an image that was changed or is old is refused."),
        _("Swap in pages of %(vm)s"), ("pages",), None, "", "", "{pages} pages were brought back",
    ),
    Kind(
        "core_dump", _("Dump the memory"), _("An image of all its pages. Only the digest is kept here."),
        _("Dump %(vm)s"), ("form",), _image("core_dump"),
        "The operator asked for a dump of the memory of {vm}.",
        "The memory of {vm} was not dumped.",
        "{pages} pages were dumped",
    ),
    Kind(
        "snapshot", _("Take a snapshot"),
        _("The same with the saved registers, as far as they can be had. Only the digest is kept here."),
        _("Take a snapshot of %(vm)s"), ("form",), _image("snapshot"),
        "The operator asked for a snapshot of {vm}.",
        "No snapshot of {vm} was taken.",
        "A snapshot of {pages} pages was taken",
    ),
    Kind(
        "introspect", _("Look inside"),
        _("Its first pages are read while it runs. Nothing of them is shown but a digest."),
        _("Look inside %(vm)s"), ("reader", "pages"),
        _look,
        "The operator asked to read pages of {vm}.",
        "No page of {vm} was read.",
        "{pages} pages were read",
    ),
    Kind(
        "migrate", _("Move to another host"),
        _(
            "Its owner is asked. With a yes its place there is negotiated while it runs on; "
            "then it stops here and starts there."
        ),
        _("Ask the owner of %(vm)s"), ("host",), _move,
        "The operator asked that {vm} moves to another host.",
        "{vm} stays where it is.",
        "Its owner agreed; negotiation {negotiation} decides",
        owner_decides=True,
    ),
)  # fmt: skip

KINDS: Final[Mapping[str, Kind]] = {row.name: row for row in _ROWS}
FORMS: Final = {"raw": _("in the clear"), "sealed": _("sealed with the VM's own key")}
READERS: Final = {"operator": _("by the operator"), "probe": _("by the probe that the host proves")}


def pages_in_words(pages: int) -> str:
    return "1 page" if pages == 1 else f"{pages:,} pages"


def options(kind: Kind, facts: Facts) -> dict[str, dict[str, Any]]:
    """What can be chosen, as a form's values and labels: of the one field that is a choice. Empty: there is none."""
    field = next((name for name in kind.fields if name != "pages"), "")
    return {"field": field, "values": _values(field, facts)} if field else {}


def _values(field: str, facts: Facts) -> dict[str, Any]:
    if field == "form":
        return {name: label for name, label in FORMS.items() if name == "raw" or facts.seals}
    if field == "reader":
        return {name: label for name, label in READERS.items() if name == "operator" or facts.proven}
    return {name: name for name in (facts.others if field == "other" else sorted(facts.hosts))}


def check(kind: Kind, data: Data, facts: Facts) -> None:
    """BadInput with each fault of what was given for the act's fields."""
    faults = [Fault(member("$", name), "is not a field of this act") for name in data if name not in kind.fields]
    if "pages" in kind.fields:
        pages = data.get("pages")
        if not isinstance(pages, int) or isinstance(pages, bool) or not 1 <= pages <= MOST_PAGES:
            faults.append(Fault("$.pages", f"must be a whole number from 1 to {MOST_PAGES}"))
    chosen = options(kind, facts)
    if chosen and (not isinstance(data.get(chosen["field"]), str) or data[chosen["field"]] not in chosen["values"]):
        names = ", ".join(chosen["values"])
        reason = f"must be one of {names}" if names else "there is nothing that could be chosen now"
        faults.append(Fault(member("$", chosen["field"]), reason))
    if faults:
        raise BadInput(faults)


def filled(template: str, vm: str, data: Data) -> str:
    """A sentence of the table about this VM."""
    return template.format(vm=vm, pages=pages_in_words(data.get("pages", 0)))


# -- afterwards


def came_to(kind: str, result: Data) -> str:
    """What an act came to, in one sentence; digests and yes or no stand beside it."""
    if kind not in KINDS or result.get("status") != "OK":
        return ""
    return KINDS[kind].came_to.format(**result)


def observed(result: Data) -> list[tuple[str, str]]:
    """What was seen of it, as facts: never a byte of a page."""
    facts = []
    if result.get("digest"):
        facts.append(("digest of the image", result["digest"]))
    if "sealed" in result and result.get("pages"):
        facts.append(("the image", "sealed" if result["sealed"] else "in the clear"))
    if "secret" in result:
        facts.append(("the guest's secret in it", "yes" if result["secret"] else "no"))
    if result.get("registers"):
        facts.append(("registers", result["registers"]))
    if result.get("left_out"):
        facts.append(("pages left out", f"{result['left_out']:,}"))
    if result.get("answers"):
        facts.append(("answer of the processor for these", result["answers"]))
    if "digest_after" in result:
        facts.append(("digest before and after", result["digest_after"]))
    return facts
