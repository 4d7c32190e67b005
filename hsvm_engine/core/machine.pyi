"""The machine and its Python API. Contract: engine.md; "section" below means its sections.

Readings: where the contract is silent, the machine does this. Machine and slow twin agree on it. "Checked rows" are
those whose map calls are validated (`hsvm`, `hsvm-smm`), "unchecked rows" the others (`nested`, `shadow`).

Translation (section 6)
 1. `guest_read`, `guest_write` and `guest_fetch` use guest-physical TLB entries only, `guest_access` guest-virtual ones
    while cr3 is not 0. A two-dimensional walk reads every table through the nested table itself: it neither uses nor
    fills guest-physical entries.
 2. The guest's own permissions are judged before the page itself is reached (F_PERMISSION before a nested
    F_NOT_PRESENT).
 3. A TLB hit that lacks the permission counts as a miss: the walk decides and its result takes the entry's place. A
    faulting access leaves the TLB as it was.
 4. A fill takes the first empty way of its set, else the way under the set's turn (round-robin) or the one used longest
    ago (option `lru`). A hit in the second level is copied into the first; a miss fills both.
 5. A shootdown for a guest page drops the VM's guest-physical entries of it and all of that VM's guest-virtual entries,
    on every core: the page may be a guest table, and an entry does not say which tables it came from.
 6. Guest tables have 4 KiB leaves: the page-size bit is looked at in level 2 of nested tables only. In a walk, an entry
    that names a frame the host does not have, or a guest page of 2^36 and more, is as if not present. No accessed or
    dirty bits are written.
 7. `guest_flush`, `guest_map` and `guest_unmap` drop entries of the present cr3 only.

Guest tables (section 5, section 12.6)
 8. The guest edits its table through the nested table, past the TLB: a table page that is not mapped is F_NOT_PRESENT,
    one without w F_PERMISSION (after E_EXIST and E_NOENT, before E_NOMEM). The page that is mapped need not exist in
    the nested table.
 9. The topmost missing table gets the highest page; the page that cr3 names is none of them. A page whose leaf the
    hypervisor clears or replaces is no table any more, also when it is swapped back in.

Status (section 4)
10. `pages` has no upper limit. An operation counts as a number even when it is E_INPUT. Within rank 3 E_BUSY goes
    before E_STATE, but an empty core is E_STATE before all that needs its VM.
11. `set_npt_root` on `hsvm` is E_PROT after E_NOVM. Option `skip: owner_check` switches E_OWNER off, never E_PROT.
12. A result carries `check` and `inputs` beside `status` when a protection check refused; CHECKS in architectures.py
    names them, `handle_check` is E_NOVM. A hypervisor's load or store in a nested table is refused by npt_protection,
    in a saved context by context_protection, in any other frame by hv_access_check or smram_lock.

Pool (sections 2, 3, 7)
13. The ownership table takes the lowest protected frames; on `hsvm` tables and contexts then take the lowest free
    protected frame. On the other rows they take the highest frame of the hypervisor's region that the hypervisor still
    owns and no table uses, wiped when taken. `create_vm` takes the root, then the contexts in order; a map takes its
    tables from the top down, a 2 MiB reserve last.
14. A context frame holds the registers as 8-byte words in the order of `guest_registers`, then the machine address of
    the nested root.
15. Handles: generation << 16 | n, n the lowest free slot number from 1; unchecked rows: n alone. The owner slot in
    `ownership()` is n + 2.

Unchecked rows (section 7)
16. `claim` and `release` only set the owner. `page_unmap` and `swap_out` set FREE whoever owns the frame. `delete_vm`
    unmaps every leaf so, then sets FREE what the VM still owns. Its tables and contexts go back to the pool as they
    are.
17. `page_map` over a 2 MiB leaf splits it first; a 2 MiB map over a table of the VM keeps that table as its reserve.
    (So does `literal`.)
18. `set_npt_root` stores into every context of the VM; it is loaded by the next `context_restore`. `page_map`,
    `page_unmap`, `npt_locate` and `dump` go on with the table made by `create_vm`. `hv_read_context` reads what was
    saved last.
19. An enumeration of leaves (`dump`, `balloon`, `delete_vm`, table pages) enters each table frame once.
20. A leaf that is cleared or replaced takes its share, its mergeable mark and its merge along. If it lent, its
    borrowers keep their leaves as they are, unrecorded; if it borrowed, the lender's permission stays as it is.
21. Guest operations answer as on `hsvm`, E_BUSY of `guest_share` included.

Unfinished releases (section 3, section 12.3)
22. `fault` counts releases from boot, frame by frame (512 for a 2 MiB leaf), and fires once. Unchecked rows release by
    one store: there it has no effect. A stop in `balloon`, `delete_vm` or `export_vm` leaves done what was done before.
23. `page_unmap` of a listed page finishes that release and does nothing else; that comes before E_BUSY and E_NOENT,
    also when the slot holds a leaf again, as after a stopped merge.

Swap (section 5, section 12.10)
24. An image has 4,141 bytes: header of 16 (`HSVMSWAP`, version as u64), permission bits, nonce of 12, the page, tag of
    16. Little-endian. The nonce is version (57 bits), permission (3) and guest page (36), so nothing but the page need
    be under the tag; the VM is bound by its key. Unsealed rows have the same form with the page in the clear and zeros
    for nonce and tag.
25. The record is the slot's own entry: not present, bit 1 set, bits 2 and 3 w and x, the version from bit 4 on. It
    blocks a map (E_EXIST) and is removed by `swap_in`, `delete_vm` and, where the slot check is off, by a map over it.
    `page_unmap` of a swapped page is E_NOENT. The counter rises only when the page is really gone.
26. `swap_in` on unchecked rows: E_NOENT without a record, mapped or not; any image of the right form is taken; the
    permission is the record's.

Shares and merges (section 5, section 12.5)
27. Hypervisor and devices read a frame that is shared r or rw, and write one that is shared rw. `guest_share` checks in
    this order: E_BUSY (merged), E_STATE (rw without w), E_EXIST, E_NOENT.
28. `with` lists at most 1,024 handles; all marks of a host have room for 65,536 handles together (`any` is one, a
    handle named twice is one, 0 is none), then E_NOMEM. An empty list is `none`; a new mark replaces the old one; the
    list may name handles that do not live.
29. `merge` checks E_NOVM (`vm` first), E_NOENT, E_BUSY, E_STATE, E_OWNER. E_BUSY and E_STATE of `merge` and `unmerge`
    stay on every row; unchecked rows ask neither consent nor bytes. Two pages on one frame are E_STATE. A page whose
    frame another page lends is E_BUSY at either end. Marks stay. `unmerge`: E_NOVM, E_STATE, then the frame.

Export and import (section 5, section 12.2)
30. `export_vm` is E_BUSY on every row in all cases that the contract names. The image carries saved registers and which
    pages are guest tables; the swap counter starts anew. Checked rows seal it, and its bytes are the machine's own
    business. `import_vm` checks E_INPUT, E_INTEGRITY, E_REPLAY, E_NOMEM; unchecked rows only the first and last.

Interrupts (section 5, section 12.7)
31. `inject` of vector 128 adds 1 to rax modulo 2^64. An access that runs over two pages counts once for `preempt`; an
    access that is E_INPUT does not count; each access of a trace counts.

`hsvm`, rule `literal` (section 7)
32. A map takes frames that are FREE or the VM's own; of an occupied slot the old leaf is dropped and shot down, its
    share and mark are gone, its frame stays with the VM. A merged slot, or an alias of a frame that is lent or whose
    release is not finished, is E_BUSY. Frames without a leaf are wiped by `delete_vm`, uncounted for `fault`. A frame
    with several leaves is shared if one of them is; `merge` of such a page is E_BUSY.

`hsvm-smm` (section 7, section 12.9)
33. Statuses are those of `hsvm` (strict or literal), but: loads, stores and DMA reach every frame that is not HSVM's;
    contexts and roots are open as on `nested`; `release` of a frame that holds a table or a context is E_PROT;
    `page_map` and `import_vm` zero a frame before they give it.
34. Every operation of the hypervisor that changes tables or owners is an SMI and first compares every table that was
    stored into past the handler with what the handler last left there; so does each `smi_period`-th operation, when it
    is done. A VM with a table that differs is stopped: `delete_vm` (by the ownership table) ends it, other table
    operations on it are E_STATE, its guest's accesses and table edits F_TAMPERED (after E_INPUT and E_STATE).

`shadow` (section 7, section 12.4)
35. Statuses are those of `nested`. Shadow tables take frames of the hypervisor's region that are left over and give way
    to every other use; `npt_locate` finds the shadow entry of gva = gpa, which is the table that `page_map` fills."""

from typing import Any, TypedDict, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort, PhysicalPort

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
    options           skip           list of checks to switch off (section 7; SKIPPABLE in architectures.py)
                      page_map_rule  "strict" or "literal" (section 7)
                      fault          {"step": 1..4, "nth": 1..2^32}: the release that stops (section 3)
                      smi_period     operations between periodic SMIs, 1..2^32, 64 by default (section 12.9)
                      machine_id     32 digits of lower-case hex, by default derived from the seed (section 12.2)
                      platform_key   64 digits, by default zeros: shared by hosts that trust each other
    tlb               {"l1": {"sets": 16, "ways": 4}, "l2": {"sets": 128, "ways": 12}, "policy": "round-robin",
                      "walk_cache": {"guest": 0, "nested": 0}}; sets a power of two to 4096, ways to 64; policy also
                      "lru"; entries of the page-walk caches to 64, 0 = none
    costs             cycles by event, over the row's own

    ValueError names the argument that is wrong; only plain Python values are taken, no subclasses. One thread at a
    time: while `run_trace` or `run_batch` runs without the interpreter's lock, every other call raises RuntimeError.
    """

    architecture: str
    seed: int

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
    def hypervisor(self) -> HypervisorPort: ...
    @property
    def guest(self) -> GuestPort: ...
    @property
    def device(self) -> DevicePort: ...
    @property
    def physical(self) -> PhysicalPort: ...
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

    def run_batch(
        self,
        op: str,
        columns: dict[str, Any],
        images: Buffer | npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Do many operations of one name, each as `apply` would: the status of each, shape (n,). (section 11)

        op       page_map, page_unmap, swap_out, swap_in, claim or release
        columns  every field of the operation but `image`: one value for all, or (vm, gpn, mfn) a contiguous uint64
                 array; at least one array, all of one length n. An element out of range is E_INPUT.
        images   of swaps: n images of 4,141 bytes, one after the other; swap_out fills them, zeros where it was refused

        A run of plain elements (4 KiB pages of one table, nothing else known of them) has one event, its `amount` their
        number, and is taken back whole.

        ValueError names a wrong argument, and nothing was done.
        """

    def run_trace(
        self,
        core: int,
        addresses: Buffer | npt.NDArray[np.uint64],
        kinds: Buffer | npt.NDArray[np.uint8],
        limit: int | None = None,
    ) -> TraceResult:
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
        ("" = not present). `skipped`: a page-walk cache would save it now; an access makes the others.
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

    def diff(self, since_op: int, until_op: int | None = None) -> npt.NDArray[np.void]:
        """Frames that had another owner after `until_op` (now) than after `since_op`: mfn, old, new, ascending.

        Costs what changed. ValueError if the journal no longer reaches back so far. (section 9)
        """

    @property
    def oldest_op(self) -> int:
        """The lowest number that `step_back` can go to: the journal keeps 8 MiB of old values. (section 9)"""

    def step_back(self, to_op: int) -> int:
        """Undo operations, the newest first, until the last one is not after `to_op`; its number. (section 9)

        The state is that after that operation, digest and counters included; what came after is gone. A trace is undone
        whole. Costs what is undone. ValueError below `oldest_op`; nothing is undone then.
        """

    def translations(self) -> list[dict[str, Any]]:
        """What hypervisor and devices remember of frames that they were let into. (section 6)

        Rows by frame: holder ("hypervisor", "device:3"), mfn, perm.
        """

    def dominant(self, width: int, height: int) -> npt.NDArray[np.uint16]:
        """The host drawn small: owner slots, shape (height, width). (section 11)

        Cell i of n stands for frames [i * frames // n, (i + 1) * frames // n): the slot that has most, the lowest of
        equals. ValueError for fewer frames than cells.
        """

    def tlb(self, core: int | None = None) -> npt.NDArray[np.void]:
        """One row per way, ordered by core, level, set, way. (section 6)

        Columns: core, level 1|2, set, way, valid, dim (1 gpa, 2 gva), slot (0: the VM is gone), cr3, vpn (4 KiB pages,
        also for a 2 MiB entry), mfn, size (1|512), perm (r 1, w 2, x 4), age (how many ways of the set are replaced
        later, 0 = replaced last; under "lru" 0 is the way used last), state (0 agrees with a walk now, 1 STALE,
        2 PENDING: it does not agree, and its shootdown is still to come: its page's release was stopped before).
        """

    def events(self, since_op: int) -> list[dict[str, Any]]:
        """Operations after `since_op` in order. (section 9)

        Keys: op, kind, status, check, vm, gpn (of an access that the nested table refused: the page that faulted),
        mfn, core, amount, zeroed (frames), shot, filled, evicted (TLB entries); None where a field does not apply. A
        trace is one event, its `amount` the accesses done. ValueError if the journal no longer reaches back so far.
        """

    def counters(self) -> dict[str, Any]:
        """Totals since boot. (section 9)

        op, accesses, l1, l2, miss, faults, references (table entries read), cycles (model), maps, unmaps, zeroed,
        world_switches, shootdowns, shot, seals (pages), smis; `vms`: the first six per living VM with handle, slot,
        frames, interrupts; `owners`: frames by owner's name.
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
