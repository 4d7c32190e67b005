"""The player: the only loop. A scenario goes in, steps come out, and a saved player goes on as if nothing had happened.

The hypervisor played here is an honest one: it schedules, backs pages at first touch, takes memory back only where the
guest agreed, and where the architecture does not wipe and shoot down by itself, it does so. Attacks come from drills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hsvm_engine import acts
from hsvm_engine.attackfile import Attack, builtin
from hsvm_engine.core.machine import Machine
from hsvm_engine.drill import DrillError, Stage
from hsvm_engine.guestos import Fetch, GuestError, GuestOS, OutOfFrames, secret_of
from hsvm_engine.honest import Hypervisor
from hsvm_engine.interpreter import Verdict, run_attack
from hsvm_engine.scenarios import Scenario, VmSpec
from hsvm_engine.step import FIRST_VM, WAY, Frames, Geometry, Slots, Step, Ways
from hsvm_engine.tracefile import Trace, builtin_trace
from hsvm_engine.watch import geometry_of, rules_of, violations_of, ways_of
from hsvm_engine.wire import COUNTS, OTHER, State, letter, seal, unseal

if TYPE_CHECKING:
    from hsvm_engine.core.machine import TraceResult

SAVE_MAGIC = b"HSVR"
GIVE_BACK = (3, 4)  # share of its spare pages that a guest with a balloon driver gives back when a process ends
MAX_RETRIES = 8  # faults of one and the same access before the guest is taken to be broken
DRILL_NAME = "drill"
NOBODY = 65_535  # an owner slot of the machine that no living VM has


class PlayError(ValueError):
    """A command that cannot be carried out, or a save that does not fit; says why. Nothing changed."""


@dataclass
class Vm:
    """A living VM of the run and what its program has done."""

    spec: VmSpec
    slot: int  # in this run, never used twice
    byte: int  # on the wire
    handle: int
    guest: GuestOS
    trace: Trace
    cursor: int = 0  # next reference of the trace
    turn: int = 0  # quanta run
    waiting: bool = False  # for a free frame
    halted: bool = False
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))


class Player:
    """Plays a scenario step by step. Everything it does is decided by the scenario, the traces and the commands."""

    def __init__(self, scenario: Scenario, *, traces: Mapping[str, Trace] | None = None) -> None:
        self._prepare(scenario, Machine(**scenario.machine, seed=scenario.seed), traces)
        for spec in scenario.vms:
            self.start_vm(spec)

    def _prepare(self, scenario: Scenario, machine: Machine, traces: Mapping[str, Trace] | None) -> None:
        self.scenario, self.machine, self._traces = scenario, machine, traces or {}
        self.hypervisor = Hypervisor(machine, seed=scenario.seed)
        self.geometry: Geometry = geometry_of(machine)
        self.number = 0
        self.vms: list[Vm] = []
        self._started = 0
        self._ended = dict.fromkeys(COUNTS, 0)  # counts of VMs that are gone
        self._events: list[dict[str, Any]] = []  # since the last step
        self._event_number = 0
        self._strangers: list[tuple[int, int]] = []  # handles and slots of guests that a drill made
        self._harmed: str | None = None  # the victim of the last drill, until that is cleared up
        self._shown = False  # whether a step has shown what the last drill did
        self._suspect = False  # whether an attack may have left violations
        self.images: acts.Images = {}  # pages that are swapped out now, sealed where the architecture seals
        self._since = 0  # operation up to which changes were given out
        self._extra: Frames = np.empty(0, np.uint32)  # changed frames that a loaded player still has to give out
        self._ways: Ways = ways_of(machine, self._run_slots(), self.geometry)

    # --- the loop ---

    def step(self, accesses: int = 5_000) -> Step:
        """Let the program of every living VM go on by this many references, in turns of one quantum; what changed."""
        if not 1 <= accesses <= 1 << 32:
            raise PlayError("accesses must be 1 to 2^32")
        if self._shown:
            self._end_drill()
        left = accesses
        while left > 0:
            count = min(left, self.scenario.quantum)
            for vm in self.vms:
                if not vm.halted:
                    self._quantum(vm, count)
            left -= count
        return self._collect()

    def _quantum(self, vm: Vm, count: int) -> None:
        core = vm.spec.core
        self._flush(vm)
        if not self._enter(vm, vm.turn % vm.spec.vcpus):
            return
        vm.turn += 1
        try:
            vm.guest.load_tables(core)
            self._run(vm, core, count)
        except OutOfFrames:
            if not vm.waiting:
                self._event("memory", vm, "The host has no free frame for the guest", "WAITING")
            vm.waiting = True
        except GuestError as error:
            self._crash(vm, core, str(error), fatal=error.fatal)
        self.hypervisor.must("context_save", core=core)

    def _flush(self, vm: Vm) -> None:
        """Drop what the agreed mitigations want dropped before the VM enters its core; until then it stays."""
        for other in self.vms:
            if other.spec.core != vm.spec.core:
                continue
            if self.scenario.flush == "always" or (self.scenario.flush == "on_change" and other is not vm):
                self.hypervisor.must("hv_flush", core=other.spec.core, vm=other.handle)

    def _run(self, vm: Vm, core: int, count: int) -> None:
        """Run `count` references of the program, with a new process when it ends. Faults are answered on the way."""
        retries = 0
        while count > 0:
            if vm.cursor == len(vm.trace):
                self._end_process(vm, core)
            result = self._access(vm, core, count)
            done = result["done"]
            vm.cursor += done
            count -= done
            vm.counts["references"] += done
            vm.counts["l1"] += result["l1"]
            vm.counts["l2"] += result["l2"]
            vm.counts["miss"] += result["miss"]
            retries = 0 if done else retries
            if result["status"] != "OK":
                vm.counts["faults"] += 1
                retries += 1
                gva = int(vm.trace.addresses[vm.cursor])
                if retries > MAX_RETRIES:
                    raise GuestError(f"{result['status']} again and again at {gva:#x}")
                vm.guest.fault(core, result["status"], gva, int(vm.trace.kinds[vm.cursor]))
                vm.waiting = False

    def _access(self, vm: Vm, core: int, count: int) -> TraceResult:
        """At most `count` references of the program, up to the first that faults."""
        part = slice(vm.cursor, vm.cursor + count)
        return self.machine.run_trace(core, vm.trace.addresses[part].data, vm.trace.kinds[part].data)

    def _enter(self, vm: Vm, vcpu: int = 0) -> bool:
        """Put a vcpu on its core. Only an attack can have made that impossible; then the VM is halted."""
        result = self.machine.hypervisor.context_restore(vm=vm.handle, vcpu=vcpu, core=vm.spec.core)
        if result["status"] != "OK":
            self._halt(vm, f"its vcpu cannot run: {result['status']}")
        return bool(result["status"] == "OK")

    def _halt(self, vm: Vm, reason: str) -> None:
        vm.halted = True
        self._event("crash", vm, f"{vm.spec.name} stands still", "HALTED", reason=reason)

    def _end_process(self, vm: Vm, core: int) -> None:
        touched = vm.guest.touched
        vm.guest.exit_process(core)
        vm.cursor = 0
        given = 0
        if vm.spec.balloon == "on":
            given = self._balloon(vm, vm.guest.spare(self._out(vm)) * GIVE_BACK[0] // GIVE_BACK[1])
        detail: dict[str, Any] = {"process": vm.guest.processes, "touched": touched, "given_back": given}
        self._event("process", vm, f"{vm.spec.trace} ended and starts again", "OK", **detail)

    def _crash(self, vm: Vm, core: int, reason: str, *, fatal: bool) -> None:
        """The program cannot go on: start it anew, with new page tables if the old ones no longer serve."""
        vm.cursor = 0
        try:
            if fatal:
                vm.guest.abandon_process(core)
            else:
                vm.guest.exit_process(core)
        except GuestError:
            try:
                vm.guest.abandon_process(core)
            except GuestError:
                vm.halted = True
        vm.halted = vm.halted or (fatal and vm.guest.next_table >= vm.guest.tables)
        outcome = "HALTED" if vm.halted else "RESTARTED"
        self._event("crash", vm, f"{vm.spec.trace} was stopped by its guest", outcome, reason=reason)

    # --- commands, between steps; what they change comes with the next step ---

    def start_vm(self, spec: VmSpec) -> dict[str, Any]:
        """Make the VM and boot its guest; PlayError, and nothing changed, if the host has no room for it."""
        if any(vm.spec.name == spec.name for vm in self.vms):
            raise PlayError(f"{spec.name} is running already")
        if spec.core >= self.geometry.cores:
            raise PlayError(f"{spec.name}: the machine has no core {spec.core}")
        if FIRST_VM + self._started >= NOBODY:
            raise PlayError(f"{spec.name}: this run has started all the VMs that it can tell apart")
        trace = self._trace(spec.trace)
        result = self.machine.hypervisor.create_vm(vcpus=spec.vcpus)
        if result["status"] != "OK":
            raise PlayError(f"{spec.name}: create_vm was answered with {result['status']}")
        vm = self._vm(spec, result["vm"], FIRST_VM + self._started, trace)
        self.hypervisor.must("context_restore", vm=vm.handle, vcpu=0, core=spec.core)
        try:
            vm.guest.boot(spec.core)
        except (OutOfFrames, GuestError) as error:
            self.hypervisor.must("context_save", core=spec.core)
            self.hypervisor.delete(vm.handle)
            raise PlayError(f"{spec.name}: {str(error) or 'the host has too few free frames to boot it'}") from None
        self.hypervisor.must("context_save", core=spec.core)
        self._started += 1
        self.vms.append(vm)
        self._event("start", vm, f"{spec.name} started", "OK", pages=spec.vm_pages, program=spec.trace)
        return {"status": "OK", "slot": vm.slot, "handle": vm.handle}

    def stop_vm(self, name: str) -> dict[str, Any]:
        """Delete a VM: under H-SVM its frames are wiped before anybody can have them."""
        vm = self._find(name)
        acts.part(self, vm, ends=True)
        self.hypervisor.delete(vm.handle)
        self._forget(vm)
        self._event("stop", vm, f"{name} stopped", "OK")
        return {"status": "OK"}

    def balloon(self, name: str, pages: int) -> dict[str, Any]:
        """Ask a guest for memory. Refused, with nothing changed, where its agreement has no balloon."""
        vm = self._find(name)
        if isinstance(pages, bool) or not isinstance(pages, int) or pages < 1:
            raise PlayError("pages must be a positive integer")
        if vm.spec.balloon == "none":
            result = {"status": "REFUSED", "check": "balloon_policy", "released": 0}
            inputs = {"vm": f"vm:{vm.handle}", "balloon": "none", "pages": pages}
            self._event("balloon", vm, f"{name} gives no memory back", "REFUSED", check="balloon_policy", inputs=inputs)
            return {**result, "inputs": inputs}
        released = self._balloon(vm, min(pages, vm.guest.spare(self._out(vm))))
        self._event("balloon", vm, f"{name} gave memory back", "OK", asked=pages, released=released)
        return {"status": "OK", "released": released}

    def _balloon(self, vm: Vm, pages: int) -> int:
        released = self.hypervisor.balloon(vm.handle, pages)
        vm.guest.ballooned(released, self._out(vm))
        return released

    def _out(self, vm: Vm) -> frozenset[int]:
        return frozenset(gpn for handle, gpn in self.images if handle == vm.handle)

    # The operator's software: each act is answered with what was done and what was seen. (acts.py)

    def merge(self, name: str, other: str, pages: int) -> dict[str, Any]:
        """Let the two guests share up to so many of their kernel pages that hold the same bytes."""
        vm, second = self._find(name), next((vm for vm in self.vms if vm.spec.name == other), None)
        if second is None or second is vm:
            raise PlayError("the other VM is not running")
        result = acts.merge(self, vm, second, pages)
        for each in (vm, second):  # each of their owners reads only of its own
            title = f"{each.spec.name} shares {result['merged']} equal pages with a neighbour"
            self._event("merge", each, title, "OK", compared=result["compared"], merged=result["merged"])
        return {"status": "OK", **result}

    def part(self, names: Iterable[str]) -> int:
        """End what these VMs share with others: each gets a page of its own again. The number of pages."""
        return sum(acts.part(self, vm) for vm in self.vms if vm.spec.name in names)

    def swap_out(self, name: str, pages: int) -> dict[str, Any]:
        """Take up to so many pages out of memory; their images are kept, and come back at a touch."""
        vm = self._find(name)
        result = acts.swap_out(self, vm, vm.guest.lendable(self._out(vm))[: -pages - 1 : -1])
        self._event("swap", vm, f"{result['pages']} pages of {name} were swapped out", "OK", **result)
        return {"status": "OK", **result}

    def swap_in(self, name: str, pages: int) -> dict[str, Any]:
        """Bring up to so many swapped pages back; the processor checks each image that it sealed."""
        vm = self._find(name)
        back = sum(acts.fetch(self, vm.handle, gpn) for gpn in sorted(self._out(vm))[:pages])
        self._event("swap", vm, f"{back} pages of {name} were brought back", "OK", pages=back)
        return {"status": "OK", "pages": back}

    def fetch_all(self, vm: Vm) -> None:
        """Bring back everything that the VM has swapped out, as far as the host has frames."""
        for gpn in sorted(self._out(vm)):
            if not acts.fetch(self, vm.handle, gpn):
                return

    def dump(self, name: str, form: str) -> dict[str, Any]:
        """An image of the VM's memory, `raw` or `sealed`: its digest and what was in it, never its bytes."""
        vm = self._find(name)
        result = acts.image(self, vm, sealed=form == "sealed")
        self._event("dump", vm, f"The memory of {name} was dumped", "OK", form=form, **result)
        return {"status": "OK", **result}

    def snapshot(self, name: str, form: str) -> dict[str, Any]:
        """An image of the VM's memory with the registers that can be had."""
        vm = self._find(name)
        result = {**acts.image(self, vm, sealed=form == "sealed"), "registers": acts.registers(self, vm)}
        self._event("snapshot", vm, f"A snapshot of {name} was taken", "OK", form=form, **result)
        return {"status": "OK", **result}

    def introspect(self, name: str, pages: int) -> dict[str, Any]:
        """Read the first pages of the running VM, with the guest's help where the processor guards them."""
        vm = self._find(name)
        result = acts.image(self, vm, sealed=False, most=pages)
        self._event("introspect", vm, f"{result['pages']} pages of {name} were read", "OK", **result)
        return {"status": "OK", **result}

    def drill(self, attack: str | Attack, victim: str) -> dict[str, Any]:
        """Carry out an attack against a living VM; the verdict is what was observed.

        What the attack did stays to be seen in the next step; the step after that begins with clearing it up. An
        attack that deletes its victim ends that VM.
        """
        self._end_drill()
        vm = self._find(victim)
        chosen = builtin(attack) if isinstance(attack, str) else attack
        try:
            stage = Stage(
                self.machine,
                chosen,
                victim=vm.handle,
                secret=vm.guest.secret,
                free_frame=self.hypervisor.free_frame,
                rewrite_secret=vm.guest.rewrite_secret,
            )
        except DrillError as error:
            raise PlayError(f"{chosen.id}: {error}") from None
        self._suspect = True
        try:
            verdict = stage.run()
        except (DrillError, GuestError, OutOfFrames) as error:
            raise PlayError(f"{chosen.id}: {str(error) or 'the host has no free frame'}") from None
        finally:
            self._harmed = victim
            self._note_strangers()
        verdict = self._explained(chosen, verdict)
        step = verdict.step
        result = {name: getattr(verdict, name) for name in ("attack", "title", "outcome", "reason", "check", "inputs")}
        result["step"] = {"number": step.number, "op": step.op, "result": step.result} if step else None
        detail = {name: result[name] for name in ("reason", "inputs", "step")} | {"paper": verdict.paper}
        self._event("drill", vm, f"{chosen.id} {verdict.title}", verdict.outcome, check=verdict.check or "", **detail)
        if vm.handle not in self.hypervisor.living():
            self._forget(vm)
            self._event("stop", vm, f"{victim} was deleted by the attack", "DELETED")
        return {"status": "OK", **result}

    def _explained(self, attack: Attack, verdict: Verdict) -> Verdict:
        """A harmless attack that no check refused: the check that held is found by experiment, on fresh machines."""
        if verdict.outcome != "BLOCKED" or verdict.check is not None:
            return verdict
        fresh = run_attack(attack, self.machine.architecture, options=self.scenario.machine.get("options"))
        if fresh.check is None:
            return verdict
        return replace(verdict, check=fresh.check, reason=f"on a fresh machine, {fresh.reason}")

    def _note_strangers(self) -> None:
        """Give a slot to every guest that a drill made: they are to be seen, and to be cleared away."""
        known = {vm.handle for vm in self.vms}
        for handle in self.hypervisor.living():
            if handle not in known:
                self._strangers.append((handle, FIRST_VM + self._started))
                self._started += 1

    def _end_drill(self) -> None:
        """Clear up after a drill that was seen: its guests go, a victim whose page may be harmed gets it anew."""
        for handle, _ in self._strangers:
            self.hypervisor.delete(handle)
        vm = next((vm for vm in self.vms if vm.spec.name == self._harmed), None)
        self._strangers, self._harmed, self._shown = [], None, False
        if vm is None or self.hypervisor.protected:
            return
        self.hypervisor.take_away(vm.handle, 0)
        if not self._enter(vm):
            return
        try:
            vm.guest.rewrite_secret(vm.spec.core)
        except (OutOfFrames, GuestError) as error:
            self._halt(vm, f"its first page is lost: {error}")
        self.hypervisor.must("context_save", core=vm.spec.core)

    # --- what onlookers get ---

    def _collect(self) -> Step:
        slots = self._run_slots()
        changed = self._changed()
        ways = ways_of(self.machine, slots, self.geometry)
        self.number += 1
        step = Step(
            number=self.number,
            op=self.machine.op,
            changed=changed,
            owner=slots[self.machine.ownership()[changed]],
            tlb=ways[ways != self._ways],
            counters=self._counters(),
            events=self._events,
            violations=self._violations(ways),
            vms=self._rows(),
        )
        self._ways, self._since, self._extra, self._events = ways, self.machine.op, np.empty(0, np.uint32), []
        self._shown = self._harmed is not None
        return step

    def _changed(self) -> Frames:
        """The frames whose owner changed since the last step, sorted; all, if more did than the machine remembers."""
        try:
            dirty = self.machine.dirty(self._since)
        except ValueError:
            return np.arange(len(self.machine.ownership()), dtype=np.uint32)
        return np.union1d(dirty, self._extra).astype(np.uint32)

    def state(self) -> State:
        """Everything an onlooker who comes now needs; goes on with the next step."""
        slots = self._run_slots()
        return State(
            geometry=self.geometry,
            number=self.number,
            op=self.machine.op,
            owners=slots[self.machine.ownership()],
            tlb=self._ways.copy(),
            violations=self._violations(self._ways),
            counters=self._counters(),
            vms=self._rows(),
        )

    def digest(self) -> str:
        """The machine's digest: equal for equal runs, however often they were saved and loaded on the way."""
        return str(self.machine.digest())

    def rules(self) -> dict[str, Any]:
        """The rules of ownership, looked at in all memory and all TLBs as they are now. It changes nothing."""
        return rules_of(self.machine, ways_of(self.machine, self._run_slots(), self.geometry))

    def _run_slots(self) -> Slots:
        """The slot in this run of each of the machine's owner slots."""
        table = np.full(1 << 16, NOBODY, np.uint16)
        table[:FIRST_VM] = range(FIRST_VM)
        for vm in self.vms:
            table[self.machine.slot_of(vm.handle)] = vm.slot
        for handle, slot in self._strangers:
            table[self.machine.slot_of(handle)] = slot
        return table

    def _rows(self) -> list[dict[str, Any]]:
        rows = [(vm.slot, vm.byte, vm.spec.name, vm.handle) for vm in self.vms]
        rows += [(slot, self._byte(slot), DRILL_NAME, handle) for handle, slot in self._strangers]
        return [
            {"slot": slot, "byte": byte, "letter": letter(byte - FIRST_VM), "name": name, "handle": handle}
            for slot, byte, name, handle in rows
        ]

    def _byte(self, slot: int) -> int:
        """The owner byte of a new VM: its slot while these last, then the lowest that no living VM has."""
        if slot < OTHER:
            return slot
        taken = {vm.byte for vm in self.vms}
        return next(byte for byte in range(FIRST_VM, OTHER) if byte not in taken)

    def _counters(self) -> dict[str, Any]:
        living = [{"slot": vm.slot, **vm.counts} for vm in self.vms]
        living += [{"slot": slot, **dict.fromkeys(COUNTS, 0)} for _, slot in self._strangers]
        totals = {name: self._ended[name] + sum(row[name] for row in living) for name in COUNTS}
        return {**totals, "vms": living}

    def _violations(self, ways: Ways) -> Frames:
        found, self._suspect = violations_of(self.machine, ways, look_everywhere=self._suspect)
        return found

    def _event(self, kind: str, vm: Vm, title: str, outcome: str, *, check: str = "", **detail: Any) -> None:
        self._event_number += 1
        self._events.append(
            {
                "number": self._event_number,
                "op": self.machine.op,
                "kind": kind,
                "vm": vm.spec.name,
                "slot": vm.slot,
                "title": title,
                "outcome": outcome,
                "check": check,
                "detail": detail,
            }
        )

    # --- VMs ---

    def _vm(self, spec: VmSpec, handle: int, slot: int, trace: Trace) -> Vm:
        guest = GuestOS(
            self.machine,
            pages=spec.vm_pages,
            seed=spec.seed ^ self.scenario.seed,
            secret=secret_of(spec.name, spec.seed ^ self.scenario.seed),
            back=lambda gpn, perm: self.hypervisor.back(handle, gpn, perm),
            fetch=self._fetcher(handle),
            image=spec.image,
        )
        return Vm(spec=spec, slot=slot, byte=self._byte(slot), handle=handle, guest=guest, trace=trace)

    def _fetcher(self, handle: int) -> Fetch:
        def fetch(gpn: int) -> bool:
            if (handle, gpn) not in self.images:
                return False
            if not acts.fetch(self, handle, gpn):
                raise OutOfFrames
            return True

        return fetch

    def _trace(self, name: str) -> Trace:
        try:
            return self._traces[name] if name in self._traces else builtin_trace(name)
        except ValueError as error:
            raise PlayError(str(error)) from None

    def _find(self, name: str) -> Vm:
        for vm in self.vms:
            if vm.spec.name == name:
                return vm
        raise PlayError(f"{name} is not running")

    def _forget(self, vm: Vm) -> None:
        self.vms.remove(vm)
        self.hypervisor.frames.forget(vm.handle)
        self.images = {page: image for page, image in self.images.items() if page[0] != vm.handle}
        for name in COUNTS:
            self._ended[name] += vm.counts[name]

    # --- saving ---

    def save(self) -> bytes:
        """Everything, as bytes. The traces are not in it, only their names and digests."""
        now = ways_of(self.machine, self._run_slots(), self.geometry)
        changed = self._changed()
        head = {
            "scenario": self.scenario.to_json(),
            "number": self.number,
            "started": self._started,
            "ended": self._ended,
            "events": self._events,
            "event_number": self._event_number,
            "strangers": self._strangers,
            "harmed": self._harmed,
            "shown": self._shown,
            "suspect": self._suspect,
            "frames": self.hypervisor.frames.save(),
            "images": [[*page, image] for page, image in self.images.items()],
            "vms": [
                {
                    "spec": asdict(vm.spec),
                    "trace": vm.trace.digest,
                    "guest": vm.guest.save(),
                    **{name: getattr(vm, name) for name in _SAVED_OF_VM},
                }
                for vm in self.vms
            ],
        }
        snapshot = np.frombuffer(self.machine.snapshot(), np.uint8)
        return seal(SAVE_MAGIC, head, (snapshot, changed, self._ways[self._ways != now]))

    @classmethod
    def load(cls, data: bytes, *, traces: Mapping[str, Trace] | None = None) -> Player:
        """The player that was saved. ValueError if the bytes are damaged or a trace is not the one that was played."""
        head, (snapshot, changed, ways) = unseal(SAVE_MAGIC, data, ("u1", "<u4", WAY))
        self = cls.__new__(cls)
        self._prepare(Scenario.from_json(head["scenario"]), Machine.restore(snapshot.tobytes()), traces)
        self.number, self._started, self._ended = head["number"], head["started"], head["ended"]
        self._events, self._event_number = head["events"], head["event_number"]
        self._strangers = [(handle, slot) for handle, slot in head["strangers"]]
        self._harmed, self._shown, self._suspect = head["harmed"], head["shown"], head["suspect"]
        self.hypervisor.frames.load(head["frames"])
        self.images = {(handle, gpn): image for handle, gpn, image in head.get("images", ())}
        for saved in head["vms"]:
            spec = VmSpec(**saved["spec"])
            trace = self._trace(spec.trace)
            if trace.digest != saved["trace"]:
                raise PlayError(f"the trace {spec.trace} is not the one that was played")
            vm = self._vm(spec, saved["handle"], saved["slot"], trace)
            vm.guest.load(saved["guest"])
            for name in _SAVED_OF_VM:
                setattr(vm, name, saved[name])
            self.vms.append(vm)
        self._since, self._extra = self.machine.op, changed
        self._ways = ways_of(self.machine, self._run_slots(), self.geometry)
        self._ways[ways["index"]] = ways
        return self


_SAVED_OF_VM = ("slot", "byte", "handle", "cursor", "turn", "waiting", "halted", "counts")
