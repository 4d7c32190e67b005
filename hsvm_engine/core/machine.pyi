"""The machine and its Python API. Contract: engine.md; "section" below means its sections.

Readings: where the contract is silent, the machine does this. Machine and slow twin agree on it.

Translation (section 6)
 1. `guest_read`, `guest_write` and `guest_fetch` use guest-physical TLB entries only, `guest_access` guest-virtual
    ones while cr3 is not
 0. A two-dimensional walk reads every table through the nested table itself: it neither uses nor fills guest-
    physical entries.
 2. The guest's own permissions are judged before the page itself is reached (F_PERMISSION before a nested
    F_NOT_PRESENT).
 3. A TLB hit that lacks the permission counts as a miss: the walk decides and its result takes the entry's place. A
    faulting access leaves the TLB as it was.
 4. A fill takes the first empty way of its set, else the way under the set's turn (round-robin). A hit in the
    second level is copied into the first; a miss fills both.
 5. A shootdown for a guest page drops the VM's guest-physical entries of it and all of that VM's guest-virtual
    entries, on every core: the page may be a guest table, and an entry does not say which tables it came from.
 6. Guest tables have 4 KiB leaves: the page-size bit is looked at in level 2 of nested tables only. An entry that
    names a frame the host does not have, or a guest page of 2^36 and more, is as if not present. No accessed or
    dirty bits are written.
 7. `guest_flush`, `guest_map` and `guest_unmap` drop entries of the present cr3 only.

Guest tables (section 5, section 12.6)
 8. The guest edits its table through the nested table, past the TLB: a table page that is not mapped is
    F_NOT_PRESENT, one without w F_PERMISSION (after E_EXIST and E_NOENT, before E_NOMEM). The page that is mapped
    need not exist in the nested table.
 9. The topmost missing table gets the highest page. An unmap of a page by the hypervisor ends its being a table.

Status (section 4)
10. `pages` has no upper limit. An operation counts as a number even when it is E_INPUT.
11. `set_npt_root` on `hsvm` is E_PROT after E_NOVM. Option `skip: owner_check` switches E_OWNER off, never E_PROT.
12. A result carries `check` and `inputs` beside `status` when a protection check refused: owner_check, slot_check,
    protected_check, hv_access_check, context_protection, npt_protection, npt_root_protection, dma_check,
    handle_check (E_NOVM). A hypervisor's load or store in a nested table is refused by npt_protection, in a saved
    context by context_protection, in any other protected frame by hv_access_check.

Pool (sections 2, 3, 7)
13. The ownership table takes the lowest protected frames; then tables and contexts take the lowest free protected
    frame. On `nested` they take the highest frame of the hypervisor's region that the hypervisor still owns and no
    table uses, wiped when taken. `create_vm` takes the root, then the contexts in order; a map takes its tables
    from the top down, a 2 MiB reserve last.
14. A context frame holds the registers as 8-byte words in the order of `guest_registers`, then the machine address
    of the nested root.
15. Handles: generation << 16 | n, n the lowest free slot number from 1; `nested`: n alone. The owner slot in
    `ownership()` is n + 2.

`nested` (section 7)
16. `claim` and `release` only set the owner. `page_unmap` sets FREE whoever owns the frame. `delete_vm` unmaps
    every leaf so, then sets FREE what the VM still owns. Its tables and contexts go back to the pool as they are.
17. `page_map` over a 2 MiB leaf splits it first; a 2 MiB map over a table of the VM keeps that table as its
    reserve.
18. `set_npt_root` stores into every context of the VM; it is loaded by the next `context_restore`. `page_map`,
    `page_unmap`, `npt_locate` and `dump` go on with the table made by `create_vm`. `hv_read_context` reads what was
    saved last.
19. An enumeration of leaves (`dump`, `balloon`, `delete_vm`, table pages) enters each table frame once.
"""

from typing import Any, TypedDict, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort

class KindCounts(TypedDict):
    l1: int
    l2: int
    miss: int

class TraceResult(TypedDict):
    done: int
    status: str
    gva: int | None
    gpa: int | None
    l1: int
    l2: int
    miss: int
    references: int
    kinds: dict[str, KindCounts]

class WalkReference(TypedDict):
    order: int
    stage: str
    guest_level: int
    nested_level: int
    mfn: int
    offset: int
    entry: str
    perm: str
    skipped: bool

class WalkResult(TypedDict):
    status: str
    gpa: int | None
    mfn: int | None
    references: list[WalkReference]

@final
class Machine:
    """One simulated host; deterministic: same arguments and operations, same state, journal and digest. (section 2)

    frames            4 KiB frames, 256..2^28
    hypervisor_frames frames [0, n) of the hypervisor at boot, at least 1
    protected_frames  frames of H-SVM at the end, at least ceil(16 * frames / 4096); 0 where the row protects nothing
    cores             1..256
    architecture      a row of ARCHITECTURES
    seed              0..2^64-1
    options           {"skip": [names]}: checks to switch off (section 7; SKIPPABLE in architectures.py)
    tlb               {"l1": {"sets": 16, "ways": 4}, "l2": {"sets": 128, "ways": 12}}; sets a power of two to 4096,
                      ways to 64
    costs             cycles by event, over the row's own

    ValueError names the argument that is wrong. One thread at a time: while `run_trace` runs without the interpreter's
    lock, every other call raises RuntimeError.
    """

    architecture: str
    seed: int
    hypervisor: HypervisorPort
    guest: GuestPort
    device: DevicePort

    def __init__(
        self,
        frames: int,
        hypervisor_frames: int,
        protected_frames: int,
        cores: int = 1,
        architecture: str = "hsvm",
        seed: int = 0,
        options: dict[str, Any] | None = None,
        tlb: dict[str, Any] | None = None,
        costs: dict[str, int] | None = None,
    ) -> None: ...
    @property
    def op(self) -> int:
        """Number of the last operation; each access of a trace is one. (section 9, section 12.13)"""

    @property
    def frames(self) -> int: ...
    @property
    def cores(self) -> int: ...
    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments in canonical form: `Machine(**m.config)` is the same host at boot."""

    def apply(self, op: object) -> dict[str, Any]:
        """Do one operation. Any value is accepted; what is no operation is E_INPUT. (sections 4 and 5)

        {"status": "OK", **results}, or {"status": refusal} and, if a protection check refused, "check" and "inputs".
        A refused operation changes nothing.
        """

    def run_trace(self, core: int, addresses: Buffer, kinds: Buffer, limit: int | None = None) -> TraceResult:
        """Translate accesses on a core until the first that faults. (section 6)

        addresses  contiguous uint64, guest-virtual (guest-physical while cr3 is 0)
        kinds      contiguous uint8 of the same length: 0 read, 1 write, 2 fetch
        limit      at most so many

        `done` accesses succeeded: `l1` + `l2` + `miss`. Otherwise `status`, `gva` of access number `done` and `gpa`,
        the guest-physical address that the nested table refused (None: the guest's own table did). `references` =
        table entries read by walks. E_STATE without a vcpu on the core; E_INPUT for a core, address or kind out of
        range.
        ValueError names a wrong buffer.
        """

    def walk(self, core: int, gva: int) -> WalkResult:
        """Every memory reference of a walk for `gva` as if no TLB existed; nothing changes. (section 6)

        24 with a guest table, 4 or 3 without. `guest_level` 4..1 while a guest table is resolved, 0 for the page
        itself; `nested_level` 4..1, 0 for the guest's own entry. `entry` is hex of 64 bits, `perm` what it allows
        ("" = not present). `skipped`: a page-walk cache answered.
        """

    def ownership(self) -> npt.NDArray[np.uint16]:
        """Owner slot of every frame, shape (frames,), read-only, no copy: it follows later operations. (section 9)

        Values: `Owner`.
        """

    def slot_of(self, handle: int) -> int:
        """Owner slot of a living VM, 3..65535; ValueError if there is none."""

    def handle_of(self, slot: int) -> int:
        """Handle of the living VM at an owner slot; ValueError if there is none."""

    def dirty(self, since_op: int) -> npt.NDArray[np.uint32]:
        """Frames whose owner changed after operation `since_op`, ascending, once each. (section 9)

        Takes time in proportion to the changes. ValueError if the journal no longer reaches back so far: start again
        from `ownership()`.
        """

    def tlb(self, core: int | None = None) -> npt.NDArray[np.void]:
        """One row per way, ordered by core, level, set, way. (section 6)

        Columns: core, level 1|2, set, way, valid, dim (1 gpa, 2 gva), slot (0: the VM is gone), cr3, vpn (4 KiB pages,
        also for a 2 MiB entry), mfn, size (1|512), perm (r 1, w 2, x 4), age (0 = replaced last), state (0 agrees with
        a walk now, 1 STALE).
        """

    def events(self, since_op: int) -> list[dict[str, Any]]:
        """Operations after `since_op` in order. (section 9)

        Keys: op, kind, status, check, vm, gpn, mfn, core, amount, zeroed (frames), shot (TLB entries); None where a
        field does not apply. A trace is one event, its `amount` the accesses done. ValueError if the journal no longer
        reaches back so far.
        """

    def counters(self) -> dict[str, Any]:
        """Totals since boot. (section 9)

        op, accesses, l1, l2, miss, faults, references (table entries read), cycles (model), maps, unmaps, zeroed,
        world_switches, shootdowns, shot; `vms`: the first six per living VM with handle, slot, frames; `owners`: frames
        by owner's name.
        """

    def dump(self) -> dict[str, Any]:
        """State as plain sorted lists: owners, leaves, shared, merged, releasing, swapped, cores, vms, nonzero."""

    def digest(self) -> str:
        """SHA-256, hex, over owners, contents, VMs, cores and TLBs; not over counters. (section 9)

        Tables and contexts are contents.
        """

    def check_invariants(self) -> list[str]:
        """Names of the rules that were checked; InvariantError at the first that is broken. (section 9)

        A check that is off has no rule.
        """

    def snapshot(self) -> bytes:
        """All state and counters, versioned and checksummed; not the journal. (section 9)"""

    @staticmethod
    def restore(data: bytes) -> Machine:
        """The machine of a snapshot; ValueError with the reason for anything damaged or foreign. (section 9)"""
