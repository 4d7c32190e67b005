"""What answers would lead to, before they are saved: the drill really run, an estimate of the cost really executed with
the engine's cost table, the hosts that can keep them, and the conflicts. Nothing is stored and nobody else is told."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from webapp.agreements import checks, places
from webapp.agreements.steps import now_text
from webapp.classroom import mine
from webapp.classroom.selectors import DRILL
from webapp.fleet.selectors import document_of, hosts_open
from webapp.runs import engine
from webapp.strictjson import canonical
from webapp.tenants.models import Policy
from webapp.tenants.selectors import policy_newest
from webapp.tenants.services import policy_read
from webapp.vpms import documents, enforcement

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.fleet.models import Host
    from webapp.tenants.models import VirtualMachine

OPEN: Final = ("nested", "tagged")  # the machine without protection that keeps its TLB entries
# The cost table's figures are orders of magnitude, so the estimate is made with half and with double of each.
RANGE: Final = (1, 2, 4)  # halves of the table's figure
COSTS: Final = {"walk_reference": 20, "world_switch": 1000, "owner_check": 60, "map": 500}
PROGRAM: Final = "gzip"
PAGES, WARM, MEASURED = 2048, 20_000, 30_000


def consequences_of(*, user: User, vm: VirtualMachine, document: bytes | dict[str, Any]) -> dict[str, Any]:
    """All four parts for this document; BadInput where it is none that could be saved next for the VM."""
    parsed = policy_read(vm=vm, last=policy_newest(user=user, vm=vm), document=document)
    text = document if isinstance(document, bytes) else canonical(document)
    policy = Policy(vm=vm, version=parsed.version, document=text.decode())
    spots = places.places_of(user=user, policy=policy)
    home = vm.placement.host if hasattr(vm, "placement") else hosts_open(user=user).first()
    found: dict[str, Any] = {
        "vm": vm,
        "places": spots,
        "can": sum(place["can"] for place in spots),
        "here": next((place for place in spots if home and place["host"] == home), None),
        "at_once": [place["host"].name for place in spots if place["at_once"]],
        "check": checks.shown(checks.create_check(host=home, policy=policy), names=[vm.name]) if home else None,
        "host": home,
    }
    if home is not None:
        found |= _on(home, vm, text)
    return found


def _on(host: Host, vm: VirtualMachine, text: bytes) -> dict[str, Any]:
    alone = documents.read_host({**document_of(host), "running": [], "agreement": None})
    view = enforcement.values_in_force([documents.read_policy(text)], alone, now_text())[vm.name]
    options = enforcement.scenario_options({vm.name: view}, alone)
    row = options["architecture"] if options["vms"][vm.name]["protected"] else OPEN[0]
    flush = engine.FLUSH[options["flush"]]
    return {
        "row": row,
        "drill": mine.counted(row),
        "attacks": [mine.answer_of(attack, row) for attack in DRILL],
        "slower": slower(row, flush),
        "memory_mib": json.loads(text)["size"]["memory_mib"],
        "promised": options["overcommit_percent"],
        "flush": options["flush"].replace("_", " "),
    }


def slower(row: str, flush: str) -> dict[str, str]:
    """How much slower than without protection in percent: with the table's figures, and the least and most of RANGE."""
    parts = [100 * cycles(row, flush, halves) / cycles(*OPEN, halves) - 100 for halves in RANGE]
    return {"estimate": f"{parts[1]:.1f}", "least": f"{min(parts):.1f}", "most": f"{max(parts):.1f}"}


@lru_cache(maxsize=64)
def cycles(row: str, flush: str, halves: int) -> int:
    """Cycles of two equal programs that take turns on one core of this machine, once their pages are there."""
    machine = {
        "frames": 2 * PAGES + engine.HYPERVISOR_FRAMES + engine.PROTECTED_FRAMES,
        "hypervisor_frames": engine.HYPERVISOR_FRAMES,
        "protected_frames": engine.PROTECTED_FRAMES if row == "hsvm" else 0,
        "cores": 1,
        "architecture": row,
        "costs": {
            name: figure * halves // 2 for name, figure in COSTS.items() if name != "owner_check" or row == "hsvm"
        },
    }
    player = engine.Player(engine.Scenario(machine=machine, seed=1, flush=flush))
    for name in ("one", "two"):
        player.start_vm(engine.VmSpec(name=name, vm_pages=PAGES, trace=PROGRAM, seed=1))
    player.step(WARM)
    before = player.machine.counters()["cycles"]
    player.step(MEASURED)
    return int(player.machine.counters()["cycles"] - before)
