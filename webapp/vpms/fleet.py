"""A whole fleet: which hosts have conflicts that no setting can mend, and which could take one VM more.

Policies compile to words of bits, once each; the compiled fleet then answers for 5,000 hosts in less than the time of
one document. The naive definition is that of conflicts.py; tests hold both against each other.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.solver.fleet import Fleet as Bits
from webapp.vpms.documents import Host, Policy, read_host, read_policy
from webapp.vpms.formats import HOST, POLICY
from webapp.vpms.shapes import Array, Faults, Integer, Object, OneOf
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import ORDER, SWITCHES

MOST: Final = 1 << 28  # bytes, so also more than any array can hold
TIMED: Final = 20
FULL: Final = 15  # all four bits of a switch: it takes no part
NAMES: Final = tuple(SWITCHES)
FLEET: Final = Object(
    {
        "format": OneOf(["vpms-fleet/1"]),
        "host": HOST,
        "templates": Array(POLICY, most=MOST),
        "hosts": Array(Array(Integer(0, MOST), most=MOST), most=MOST),
    }
)


@dataclass(frozen=True)
class Fleet:
    """Hosts of one kind: which templates run on each. Each use of a template is one VM."""

    host: Host
    templates: Sequence[Policy]
    hosts: Sequence[Sequence[int]]


def read_fleet(source: bytes | str) -> Fleet:
    """The fleet in this text, or BadInput naming every fault (at most 20)."""
    document = strictjson.load(source, max_bytes=MOST, max_depth=16, max_array=None)
    faults: Faults = []
    FLEET.check(document, "$", faults)
    if faults:
        raise BadInput(faults)
    parts: list[Any] = []
    for path, read, given in [
        ("$.host", read_host, document["host"]),
        *((f"$.templates[{n}]", read_policy, row) for n, row in enumerate(document["templates"])),
    ]:
        try:
            parts.append(read(given))
        except BadInput as refused:
            faults += [Fault(path + fault.path[1:], fault.reason) for fault in refused.faults]
    known = len(document["templates"])
    for host, row in enumerate(document["hosts"]):
        faults += [Fault(f"$.hosts[{host}][{n}]", "names no template") for n, at in enumerate(row) if at >= known]
    if faults:
        raise BadInput(faults)
    return Fleet(parts[0], parts[1:], document["hosts"])


def bit_of(switch: str, value: str) -> int:
    """Where a value stands in the mask of 128 bits: switch k, value v (strict = 0) is bit 4k + v."""
    return 4 * ORDER[switch] + SWITCHES[switch].names.index(value)


def mask_of(policy: Policy, host: Host) -> int:
    """The values of H and P switches that this VM can live with here; all ones where it takes no part."""
    situation = Situation([policy], host, "")
    permitted = situation.permitted(policy.vm)
    mask = (1 << 128) - 1
    for number, (name, switch) in enumerate(SWITCHES.items()):
        possible = [value for value in permitted[name] if value in situation.offered(name)]
        if switch.shared_by_nature and possible:
            mask &= ~(FULL << 4 * number)
            mask |= sum(1 << bit_of(name, value) for value in possible)
    return mask


class Compiled:
    """A fleet in bits, and the way back to names."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        shown = {label for policy in fleet.templates for label in policy.exhibits | policy.refuses}
        self.labels = sorted(shown)
        self.classes = sorted({name for policy in fleet.templates for name in policy.classes})
        tenants = {name: n for n, name in enumerate(sorted({policy.tenant for policy in fleet.templates}))}
        label_bit = {name: n for n, name in enumerate(self.labels)}
        class_bit = {name: n for n, name in enumerate(self.classes)}
        label_words, class_words = -(-len(self.labels) // 64), -(-len(self.classes) // 64)
        words = array("Q")
        for policy in fleet.templates:
            for mask, count in (
                (mask_of(policy, fleet.host), 2),
                (sum(1 << label_bit[name] for name in policy.exhibits), label_words),
                (sum(1 << label_bit[name] for name in policy.refuses), label_words),
                (sum(1 << class_bit[name] for name in policy.classes), class_words),
            ):
                words.extend(mask >> 64 * word & (1 << 64) - 1 for word in range(count))
        self.bits = Bits(
            label_words,
            class_words,
            words.tobytes(),
            array("i", (tenants[policy.tenant] for policy in fleet.templates)).tobytes(),
            array("i", (len(row) for row in fleet.hosts)).tobytes(),
            array("i", (at for row in fleet.hosts for at in row)).tobytes(),
        )

    def flagged(self) -> dict[int, dict[str, list[str]]]:
        """Hosts on which something cannot stand together: switches in switch order, labels and classes sorted."""
        return {host: self.flags(host) for host in self.bits.flagged()}

    def flags(self, host: int) -> dict[str, list[str]]:
        switches, labels, classes = self.bits.flags(host)
        return {
            "switches": [NAMES[number] for number in switches],
            "labels": [self.labels[number] for number in labels],
            "classes": [self.classes[number] for number in classes],
        }

    def admitting(self, template: int) -> list[int]:
        """Hosts whose flags stay the same when a VM of this template is added."""
        return [host for host, same in enumerate(self.bits.admit(template)) if same]

    def event(self, host: int, switch: str, value: str) -> list[str]:
        """VMs (by their templates) of a host that cannot live with this value of a shared switch."""
        return [self.fleet.templates[at].vm for at in self.bits.watching(host, bit_of(switch, value))]


def median_ms(what: Callable[[], object], times: int = TIMED) -> float:
    took = []
    for _ in range(times):
        before = time.perf_counter()
        what()
        took.append((time.perf_counter() - before) * 1000)
    return statistics.median(took)


def report(fleet: Fleet, admit: int | None = None) -> Mapping[str, Any]:
    """The result of `vpms fleet` (policy.md, section 13). IndexError if there is no such template to admit."""
    compiled = Compiled(fleet)
    if admit is not None and not 0 <= admit < len(fleet.templates):
        raise IndexError(admit)
    full = median_ms(compiled.bits.recompute)
    one = None if admit is None else median_ms(lambda: compiled.bits.admit(admit))
    return {
        "hosts": len(fleet.hosts),
        "vms": sum(len(row) for row in fleet.hosts),
        "flagged": {str(host): flags for host, flags in compiled.flagged().items()},
        "elapsed_ms": {"full": round(full, 3), "admit": None if one is None else round(one, 3)},
        "admit": None if admit is None else compiled.admitting(admit),
    }
