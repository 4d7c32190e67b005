"""The hosts' engines in this process: hot players, slices that can be done again, sealed checkpoints.

A slice is decided by its run, its number and the acts bound to it, and by nothing else: no clock, no chance. So a
slice that is done twice, in two processes or after a crash, ends in the same digest and publishes the same bytes.
"""

from __future__ import annotations

import gc
import io
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

# The one place of this app that imports the engine: the others take what they need from here.
import hsvm_engine
from hsvm_engine import wire as wire
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import builtin
from hsvm_engine.moment import FOREVER as FOREVER
from hsvm_engine.moment import Looker as Looker
from hsvm_engine.play import Player as Player
from hsvm_engine.play import PlayError
from hsvm_engine.scenarios import PAGES_PER_MIB as PAGES_PER_MIB
from hsvm_engine.scenarios import Scenario as Scenario
from hsvm_engine.scenarios import VmSpec as VmSpec
from hsvm_engine.step import STATES as STATES
from hsvm_engine.step import Step as Step
from hsvm_engine.trace import import_trace
from hsvm_engine.tracefile import MAGIC, Trace, TraceReader, builtin_trace, builtin_traces, make_trace
from hsvm_engine.tracefile import TraceError as TraceError
from hsvm_engine.turns import Turn as Turn
from hsvm_engine.turns import between as between
from hsvm_engine.turns import context_answer as context_answer
from hsvm_engine.turns import facts_of as facts_of
from webapp.fleet.models import architecture_of
from webapp.tenants.models import UPLOAD
from webapp.tenants.selectors import workload_content

ENGINE_VERSION: Final[str] = hsvm_engine.__version__
SLICES_A_SECOND: Final = 4  # of a paced run
FAST_STEPS, FAST_ACCESSES = 4, 250_000  # of a slice of a run without a pace
HYPERVISOR_FRAMES: Final = 1024
PROTECTED_FRAMES: Final = 1024
HOT_PLAYERS: Final = 8
FORWARD_AT_MOST: Final = 4_000_000  # accesses: playing them again costs less than loading a checkpoint
NONCE_BYTES: Final = 12
UPLOADS_KEPT: Final = 4  # uploaded programs that a process keeps inflated
GUEST_IMAGE: Final = "guest-1"  # all VMs boot the same kernel: its pages could be merged
PAGES_NAMED: Final = 8  # of those that break a rule
FLUSH: Final = {"always": "always", "vm_change": "on_change", "tagged": "tagged"}  # the gate's words -> the scenario's


class Stored(NamedTuple):
    """What is kept of a player between slices: its digest, everything sealed, and figures for the pages."""

    digest: str
    sealed: bytes
    figures: dict[str, dict[str, int]]
    picture: bytes

    @staticmethod
    def of(player: Player, *, run: int, slice_no: int) -> Stored:
        sealed = seal(player.save(), run=run, slice_no=slice_no)
        return Stored(player.digest(), sealed, figures_of(player), state_of(player))


class Plan(NamedTuple):
    """How far a slice goes: so many steps of so many accesses each, and one of the rest."""

    steps: int
    accesses: int
    rest: int = 0

    @property
    def total(self) -> int:
        return self.steps * self.accesses + self.rest

    @property
    def sizes(self) -> list[int]:
        """Accesses of each step."""
        return [self.accesses] * self.steps + ([self.rest] if self.rest else [])


@dataclass(frozen=True)
class Order:
    """An act as the engine gets it: what is asked, and how the gate answered before."""

    act: int
    kind: str
    vm: str
    data: dict[str, Any]


@dataclass
class Outcome:
    """What a slice did."""

    seq: int
    op: int
    results: dict[int, dict[str, Any]] = field(default_factory=dict)  # by act
    events: list[dict[str, Any]] = field(default_factory=list)
    living: set[str] = field(default_factory=set)
    wrong: int = 0  # violations that stand


def plan_of(*, rate: int | None, length: int | None, slice_no: int) -> Plan:
    """The part of a run that its slice `slice_no` does."""
    steps, accesses = (1, max(1, rate // SLICES_A_SECOND)) if rate else (FAST_STEPS, FAST_ACCESSES)
    if length is None:
        return Plan(steps, accesses)
    left = max(0, length - slice_no * steps * accesses)
    if left >= steps * accesses:
        return Plan(steps, accesses)
    return Plan(left // accesses, accesses, left % accesses)


def scenario_of(*, document: dict[str, Any], seed: int) -> dict[str, Any]:
    """The scenario of a host without VMs. A host that can protect memory runs the row `hsvm`, any other `nested`."""
    architecture = architecture_of(document)
    machine = {
        "frames": document["capacity"]["memory_mib"] * PAGES_PER_MIB,
        "hypervisor_frames": HYPERVISOR_FRAMES,
        "protected_frames": PROTECTED_FRAMES if architecture == "hsvm" else 0,
        "cores": document["capacity"]["cores"],
        "architecture": architecture,
    }
    return {"machine": machine, "seed": seed}


def tlb_facts(*, machine: dict[str, Any], flush: str) -> dict[str, Any]:
    """What decides how long a TLB entry lasts on a run's machine; `flush` in the scenario's words, "" if unknown."""
    skipped = machine.get("options", {}).get("skip", ())
    return {
        "architecture": machine["architecture"],
        "shoots": ARCHITECTURES[machine["architecture"]].tlb_shootdown and "tlb_shootdown" not in skipped,
        "lru": machine.get("tlb", {}).get("policy") == "lru",
        "flush": flush,
    }


def terms_of(values: dict[str, dict[str, str]], *, flush: str, agreement: str) -> dict[str, Any]:
    """What an agreement asks of the run: its flush policy, and the guests that have a balloon driver."""
    balloons = {vm: "none" if view["balloon"] == "none" else "on" for vm, view in values.items()}
    return {
        "flush": FLUSH[flush],
        "balloons": balloons,
        "agreement": agreement,
        "apart": sorted(vm for vm, view in values.items() if view["page_sharing"] == "off"),
        "in_memory": sorted(vm for vm, view in values.items() if view["swap"] == "never"),
    }


def seals(*, machine: dict[str, Any]) -> bool:
    """Whether pages leave this machine's memory sealed."""
    return ARCHITECTURES[machine["architecture"]].swap_sealed


def spec_of(*, name: str, size: dict[str, Any], trace: str, core: int, seed: int, balloon: str) -> dict[str, Any]:
    """A VM as the engine starts it. Only a VM that agreed to give memory back has a balloon driver."""
    return {
        "name": name,
        "vm_pages": size["memory_mib"] * PAGES_PER_MIB,
        "trace": trace,
        "vcpus": size["vcpus"],
        "core": core,
        "seed": seed,
        "balloon": "none" if balloon == "none" else "on",
        "image": GUEST_IMAGE,
    }


def mib_of(spec: dict[str, Any]) -> int:
    """The memory of a VM as the engine starts it, in MiB."""
    return int(spec["vm_pages"]) // PAGES_PER_MIB


def attack_title(attack: str) -> str:
    """The plain title of a built-in attack."""
    return builtin(attack).title


# -- programs that tenants uploaded


class _Uploads(Mapping[str, Trace]):
    """Uploaded programs by our names, read from the database by whichever process plays them."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(UPLOAD)

    def __getitem__(self, name: str) -> Trace:
        return _uploaded(name)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())  # what there is is not listed here: a name is asked for

    def __len__(self) -> int:
        return 0


UPLOADS: Final = _Uploads()


@lru_cache(maxsize=UPLOADS_KEPT)
def _uploaded(name: str) -> Trace:
    content = workload_content(name)
    if content is None:
        raise ValueError(f"no uploaded program is named {name!r}")
    blocks = list(TraceReader(io.BytesIO(content), name))
    return make_trace(np.concatenate([block[0] for block in blocks]), np.concatenate([block[1] for block in blocks]))


class TooLong(Exception):
    """A program of so many references is longer than it may be."""

    def __init__(self, references: int) -> None:
        super().__init__(references)
        self.references = references


def read_workload(data: bytes, *, most: int) -> tuple[bytes, int]:
    """A trace in the engine's form, or Valgrind lackey's text, read strictly and written anew: its bytes and how many
    references. TraceError where a byte is wrong, TooLong where there are more than `most`. What a header claims is
    checked before anything is inflated, and each block inflates to no more than its references can need."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "given"), Path(folder, "kept")
        source.write_bytes(data)
        if data.startswith(MAGIC):
            claimed = TraceReader(io.BytesIO(data), "the file").references
            if claimed > most:
                raise TooLong(claimed)
        count = import_trace(source, output)
        if count > most:
            raise TooLong(count)
        return output.read_bytes(), count


# -- players


class Hot(NamedTuple):
    slice_no: int  # the next slice
    player: Player


_hot: OrderedDict[int, Hot] = OrderedDict()  # by run; of this process alone

Orders = Callable[[int, int], dict[int, list[Order]]]  # (from, below) -> the orders of these slices, by slice


def seal(data: bytes, *, run: int, slice_no: int) -> bytes:
    """The bytes sealed for this place: moved to another run or slice they do not open."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(settings.SEAL_KEY).encrypt(nonce, data, _place(run, slice_no))


def unseal(sealed: bytes, *, run: int, slice_no: int) -> bytes:
    nonce, body = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    return AESGCM(settings.SEAL_KEY).decrypt(nonce, body, _place(run, slice_no))


def _place(run: int, slice_no: int) -> bytes:
    return f"checkpoint:{ENGINE_VERSION}:{run}:{slice_no}".encode()


def player_at(
    *,
    run: int,
    slice_no: int,
    scenario: dict[str, Any],
    rate: int | None,
    length: int | None,
    checkpoint: tuple[int, bytes] | None,
    orders: Orders,
) -> Player:
    """The player as it stands before slice `slice_no`: hot if this process has it, else restored and played forward.

    It is taken out of the cache: a slice that fails half-way leaves no half-way player behind.
    """
    hot = _hot.pop(run, None)
    if hot is not None and checkpoint is not None:
        saved = (checkpoint[0] - hot.slice_no) * plan_of(rate=rate, length=None, slice_no=0).total
        if saved > FORWARD_AT_MOST:
            hot = None
    if hot is None or hot.slice_no > slice_no:
        hot = None
        gc.collect()  # players are cyclic garbage of many megabytes each, which the collector underrates
        if checkpoint is None:
            hot = Hot(0, Player(Scenario(**scenario), traces=UPLOADS))
        else:
            at, sealed = checkpoint
            hot = Hot(at, Player.load(unseal(sealed, run=run, slice_no=at), traces=UPLOADS))
    at, player = hot
    if at < slice_no:
        bound = orders(at, slice_no)
        for number in range(at, slice_no):
            for _ in play(
                player, plan_of(rate=rate, length=length, slice_no=number), bound.get(number, []), Outcome(0, 0)
            ):
                pass
    return player


def keep_hot(*, run: int, slice_no: int, player: Player) -> None:
    """Remember the player for the next slice. Only the newest few runs stay hot."""
    _hot[run] = Hot(slice_no, player)
    _hot.move_to_end(run)
    while len(_hot) > HOT_PLAYERS:
        _hot.popitem(last=False)


def is_hot(run: int, slice_no: int) -> bool:
    """Whether this process has the run's player just before this slice. One that fell behind is the first to go when
    there are too many: others play its run."""
    hot = _hot.get(run)
    if hot is not None and hot.slice_no < slice_no:
        _hot.move_to_end(run, last=False)
    return hot is not None and hot.slice_no == slice_no


def hot_runs() -> list[int]:
    """The runs whose players this process has."""
    return list(_hot)


def forget(*, run: int) -> None:
    _hot.pop(run, None)


def figures_of(player: Player) -> dict[str, dict[str, int]]:
    """By VM: how many machine pages it has mapped, and how many of them the ownership table gives to it."""
    owners = player.machine.ownership()
    state = player.machine.dump()
    borrowed = {(handle, gpn) for handle, gpn, _, _ in state["merged"]}  # by consent, so not wrong
    found = {}
    for vm in player.vms:
        slot = player.machine.slot_of(vm.handle)
        leaves = state["leaves"].get(vm.handle, [])
        frames = [mfn + i for gpn, mfn, size, _ in leaves if (vm.handle, gpn) not in borrowed for i in range(size)]
        found[vm.spec.name] = {"mapped": len(frames), "owned": int((owners[frames] == slot).sum()) if frames else 0}
    return found


# -- what is watched on a host


class Sight(NamedTuple):
    """What was found of one check: its state, and why, as a code with its figures."""

    state: str
    code: str = ""
    data: Mapping[str, Any] = MappingProxyType({})


OK, DEGRADED, VIOLATION, NONE = "ok", "degraded", "violation", "none"


def sights_of(player: Player) -> dict[str, Sight]:
    """The four checks that the machine itself is asked for, everywhere and now. Nothing changes by it."""
    found = player.rules()
    return {
        "ownership": _broken(found, "ownership") or Sight(OK),
        "region": _broken(found, "region") or (Sight(NONE, "no_region") if found["region"] is None else Sight(OK)),
        "tlb": _broken(found, "stale") or _waiting(found),
        "swap": _swap(found),
    }


def _broken(found: dict[str, Any], name: str) -> Sight | None:
    if found[name]:
        return Sight(VIOLATION, f"{name}_broken", {"count": found[name]})
    if name in found["broken"]:
        return Sight(VIOLATION, "rule_broken", {"rule": found["broken"][name]})
    return None


def _waiting(found: dict[str, Any]) -> Sight:
    return Sight(DEGRADED, "pending", {"count": found["pending"]}) if found["pending"] else Sight(OK)


def _swap(found: dict[str, Any]) -> Sight:
    if found["swapped"] is None:
        return Sight(NONE, "swap_clear")
    if found["repeated"]:
        return Sight(VIOLATION, "swap_repeated", {"count": found["repeated"]})
    return Sight(OK, "swapped", {"count": found["swapped"]}) if found["swapped"] else Sight(OK)


# -- slices


def play(player: Player, plan: Plan, orders: Sequence[Order], outcome: Outcome) -> Iterator[Step]:
    """Carry out the orders and play the slice; each step as it is done, and everything that came of it in `outcome`."""
    for order in orders:
        outcome.results[order.act] = _carry_out(player, order, outcome)
    for accesses in plan.sizes:
        step = player.step(accesses)
        outcome.events += [{**event, "act": None} for event in step.events]
        outcome.events += _watched(step, outcome)
        yield step
    outcome.seq, outcome.op = player.number, player.machine.op
    outcome.living = {vm.spec.name for vm in player.vms}


def _watched(step: Step, outcome: Outcome) -> list[dict[str, Any]]:
    """The event that pages came to break a rule of ownership, or that none does any more."""
    before, outcome.wrong = outcome.wrong, len(step.violations)
    if outcome.wrong == before or (before and outcome.wrong):
        return []
    event = {"op": step.op, "vm": "", "outcome": "", "check": "", "act": None, "kind": "violation", "detail": {}}
    if not outcome.wrong:
        return [{**event, "kind": "mended", "title": "No page breaks a rule of ownership any more"}]
    pages = outcome.wrong
    title = "1 page breaks a rule of ownership" if pages == 1 else f"{pages:,} pages break a rule of ownership"
    shown = [hex(mfn) for mfn in step.violations[:PAGES_NAMED].tolist()]
    return [{**event, "title": title, "detail": {"pages": ", ".join(shown)}}]


def look_until(looker: Looker, plan: Plan, orders: Sequence[Order], op: int) -> bool:
    """Play a slice, but not past operation `op`. True: it is reached, and the looker stands there."""
    for order in orders:
        if looker.command_until(partial(_carry_out, looker, order, Outcome(0, 0)), op):
            return True
    return any(looker.step_until(accesses, op) for accesses in plan.sizes)


def looker_at(*, run: int, scenario: dict[str, Any], checkpoint: tuple[int, bytes] | None) -> Looker:
    """The run at a checkpoint, or at its very beginning, to be looked at."""
    if checkpoint is None:
        return Looker(Scenario(**scenario), traces=UPLOADS)
    at, sealed = checkpoint
    looker = Looker.load(unseal(sealed, run=run, slice_no=at), traces=UPLOADS)
    assert isinstance(looker, Looker)
    return looker


def warm() -> None:
    """Read the built-in traces, so that the first moment that somebody looks at does not wait for it."""
    for name in builtin_traces():
        builtin_trace(name)


def carry_out(player: Player, order: Order) -> None:
    """Do one act again, as it was done."""
    _carry_out(player, order, Outcome(0, 0))


def _carry_out(player: Player, order: Order, outcome: Outcome) -> dict[str, Any]:
    """The result of one act. What the gate denied is not done, and the digests before and after show it."""
    if order.data.get("decision", "allow") != "allow":
        before = player.digest()
        evidence = {"op": player.machine.op, "digest_before": before, "digest_after": player.digest()}
        return {"status": "DENIED", **evidence}
    try:
        if order.kind == "agreement":
            return _agree(player, order.data)
        if order.kind in _ACTS:
            return _ACTS[order.kind](player, order.vm, order.data)
    except PlayError as error:
        return {"status": "REFUSED", "reason": str(error)}
    raise ValueError(f"an act of kind {order.kind} cannot be carried out")


_ACTS: Final[Mapping[str, Callable[[Player, str, dict[str, Any]], dict[str, Any]]]] = {
    "start_vm": lambda player, vm, data: player.start_vm(VmSpec(**data["spec"])),
    "stop_vm": lambda player, vm, data: player.stop_vm(vm),
    "reclaim": lambda player, vm, data: player.balloon(vm, data["pages"]),
    "page_merge": lambda player, vm, data: player.merge(vm, data["other"], data["pages"]),
    "swap_out": lambda player, vm, data: player.swap_out(vm, data["pages"]),
    "swap_in": lambda player, vm, data: player.swap_in(vm, data["pages"]),
    "core_dump": lambda player, vm, data: player.dump(vm, data["form"]),
    "snapshot": lambda player, vm, data: player.snapshot(vm, data["form"]),
    "introspect": lambda player, vm, data: player.introspect(vm, data["pages"]),
    "drill": lambda player, vm, data: player.drill(data["attack"], vm),
}


def _agree(player: Player, data: dict[str, Any]) -> dict[str, Any]:
    """From now on the run keeps these terms: when TLBs are flushed, and which guests have a balloon driver."""
    player.scenario = replace(player.scenario, flush=data["flush"], agreement=data["agreement"])
    for vm in player.vms:
        if vm.spec.name in data["balloons"]:
            vm.spec = replace(vm.spec, balloon=data["balloons"][vm.spec.name])
    player.part(data.get("apart", ()))
    for vm in player.vms:
        if vm.spec.name in data.get("in_memory", ()):
            player.fetch_all(vm)
    return {"status": "OK"}


def entry_of(step: Step) -> bytes:
    """The step as it goes on the run's stream: owners, TLB ways, counters; never a page's content."""
    return wire.encode(step)


def state_of(player: Player) -> bytes:
    """The whole picture of the run now, for who comes later."""
    return wire.State.from_player(player).to_bytes()
