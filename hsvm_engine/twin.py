"""The slow twin: the same contract as the machine, as plain dicts. Written from engine.md, never from its source.

It is small enough to be believed by reading and slow enough to be simple: a page table is a dict of leaves, a TLB is a
dict that never forgets by itself, a frame's content is a bytearray that exists only while a byte of it is not zero.
Random operations drive it beside the machine (`hsvm check`, tests/engine/test_twin.py); what differs is an error in one
of the two. The operations are the functions of twinhost.py (hypervisor, devices), twinmove.py (swap, merge, export) and
twinguest.py; twinvm.py holds a VM, twinfields.py the rules for fields.

Left out: `hit` and `references` of `guest_access` and `walk`, which are a matter of the real TLB's size; the bytes of
sealed images; and what tables hold. The random operations therefore keep out of frames that hold tables (attacks A09
and A10 have them).
"""

from collections import Counter
from collections.abc import Callable
from itertools import groupby
from typing import Any

from hsvm_engine import twinguest, twinhost, twinmove
from hsvm_engine.operations import OPERATIONS
from hsvm_engine.twinfields import FieldRules
from hsvm_engine.twinvm import FREE, HSVM, HUGE, HYPERVISOR, PAGE, Op, Owner, Page, Refused, Vm, refuse

DO: dict[str, Callable[..., Op | None]] = {
    name: getattr(module, name)
    for module in (twinhost, twinmove, twinguest)
    for name in OPERATIONS
    if hasattr(module, name)
}
ZERO = bytes(PAGE)
assert DO.keys() == OPERATIONS.keys()


class Twin:
    """A machine as plain as possible. Same constructor, `apply`, `dump` and `check_invariants` as the real one.

    Of the options it knows `page_map_rule`, `fault` and `machine_id`; the others change nothing that it has.
    """

    def __init__(
        self,
        frames: int,
        hypervisor_frames: int,
        protected_frames: int,
        cores: int = 1,
        architecture: str = "hsvm",
        options: dict[str, Any] | None = None,
    ) -> None:
        options = options or {}
        self.architecture = architecture
        self.checked = architecture in ("hsvm", "hsvm-smm")  # map calls are validated
        self.microcode = architecture == "hsvm"  # so are loads, stores, contexts and DMA
        self.literal = self.checked and options.get("page_map_rule") == "literal"
        self.fault: dict[str, int] | None = options.get("fault") if self.checked else None
        self.machine_id: str = options.get("machine_id", "0" * 32)
        self.frames, self.core_count = frames, cores
        self.rules = FieldRules(frames, cores)
        kept = frames - protected_frames
        self.owner: list[Owner] = [FREE] * frames
        self.owner[:hypervisor_frames] = [HYPERVISOR] * hypervisor_frames
        self.owner[kept:] = [HSVM] * protected_frames
        ownership_table = -(-16 * frames // PAGE)
        self.pool = range(kept + ownership_table, frames) if self.microcode else range(hypervisor_frames - 1, -1, -1)
        self.used: set[int] = set()  # frames of the pool that hold a table or a context
        self.content: dict[int, bytearray] = {}
        self.vms: dict[int, Vm] = {}
        self.generation: dict[int, int] = {}
        self.exports = 0
        self.imported: set[int] = set()
        self.borrows: dict[Page, tuple[Page, str]] = {}  # borrower to lender and the borrower's old permission
        self.lends: dict[Page, str] = {}  # lender to its old permission
        self.releases = 0
        self.releasing: dict[int, tuple[Page, int]] = {}  # frame to its page and the last step done
        self.on_core: list[tuple[int, int] | None] = [None] * cores
        self.registers: list[dict[str, int]] = [{} for _ in range(cores)]
        self.left: list[int | None] = [None] * cores  # accesses until the preemption
        # Per core: (handle, page, size) to frame and permission; and by handle (cr3, virtual page) to guest page,
        # frame and permission.
        self.tlb: list[dict[tuple[int, int, int], tuple[int, str]]] = [{} for _ in range(cores)]
        self.virtual: list[dict[int, dict[tuple[int, int], tuple[int, int, str]]]] = [{} for _ in range(cores)]

    def apply(self, op: object) -> Op:
        """Do one operation; the result as the machine's `apply` gives it, without `check` and `inputs`."""
        fields = self.rules.check(op)
        if fields is None:
            return {"status": "E_INPUT"}
        try:
            return {"status": "OK", **(DO[fields.pop("op")](self, **fields) or {})}
        except Refused as refusal:
            return {"status": str(refusal)}

    # What the operations share

    def vm(self, handle: int) -> Vm:
        return self.vms.get(handle) or refuse("E_NOVM")

    def running(self, core: int) -> Vm:
        running = self.on_core[core]
        return self.vms[running[0]] if running else refuse("E_STATE")

    def new_handle(self) -> int:
        slot = next(i for i in range(1, len(self.vms) + 2) if all(handle & 0xFFFF != i for handle in self.vms))
        if not self.checked:
            return slot
        self.generation[slot] = self.generation.get(slot, 0) + 1
        return self.generation[slot] << 16 | slot

    def take(self, count: int) -> list[int]:
        """Frames of the pool for tables: the lowest of H-SVM's, or the highest of the hypervisor's own region."""
        owned = HSVM if self.microcode else HYPERVISOR
        free = [mfn for mfn in self.pool if self.owner[mfn] == owned and mfn not in self.used] if count else []
        if len(free) < count:
            refuse("E_NOMEM")
        self.used.update(free[:count])
        return free[:count]

    def load(self, mfn: int, offset: int = 0, length: int = PAGE) -> bytes:
        page = self.content.get(mfn)
        return bytes(page[offset : offset + length]) if page else bytes(length)

    def store(self, mfn: int, offset: int, data: bytes) -> None:
        page = self.content.setdefault(mfn, bytearray(PAGE))
        page[offset : offset + len(data)] = data
        if page == ZERO:
            del self.content[mfn]

    def frames_of(self, vm: Vm, mfn: int) -> list[int]:
        """The guest pages of a VM that are mapped to a frame; more than one under the literal rule only."""
        found = [gpn for gpn, leaf in vm.pages.items() if leaf[0] == mfn]
        return found + [gpn + mfn - first for gpn, (first, _) in vm.large.items() if first <= mfn < first + HUGE]

    def borrowers(self, lender: Page) -> list[Page]:
        return [borrower for borrower, (page, _) in self.borrows.items() if page == lender]

    def is_merged(self, page: Page) -> bool:
        return page in self.borrows or page in self.lends

    def is_listed(self, page: Page) -> bool:
        return any(listed == page for listed, _ in self.releasing.values())

    def check_free(self, mfn: int, size: int = 1, also: Owner = FREE) -> None:
        """Every frame is FREE (or owned by `also`); the first that is not decides. Unchecked rows do not ask."""
        for owner in self.owner[mfn : mfn + size] if self.checked else ():
            if owner not in (FREE, also):
                refuse("E_PROT" if owner == HSVM else "E_OWNER")

    def shoot(self, page: Page) -> None:
        """Drop what any core knows of a guest page: its own entries and all guest-virtual ones of the VM."""
        handle, gpn = page
        for tlb, virtual in zip(self.tlb, self.virtual, strict=True):
            tlb.pop((handle, gpn, 1), None)
            tlb.pop((handle, gpn // HUGE, HUGE), None)
            virtual.pop(handle, None)

    def flush(self, core: int, handle: int) -> None:
        self.tlb[core] = {key: value for key, value in self.tlb[core].items() if key[0] != handle}
        self.virtual[core].pop(handle, None)

    # Releases

    def drop(self, vm: Vm, gpn: int) -> int:
        """Clear a leaf with its share, its mark and its merge; the frame that it named."""
        page = vm.handle, gpn
        vm.split(gpn)
        vm.guest_tables.discard(gpn)
        vm.shares.pop(gpn, None)
        vm.marks.pop(gpn, None)
        if page in self.borrows:
            lender, _ = self.borrows.pop(page)
            if not self.borrowers(lender):
                del self.lends[lender]
        if page in self.lends:
            del self.lends[page]
            for borrower in self.borrowers(page):
                del self.borrows[borrower]
        return vm.pages.pop(gpn)[0]

    def release_page(self, vm: Vm, gpn: int) -> None:
        """Take a page from a VM; its frame goes with its last leaf."""
        mfn = self.drop(vm, gpn)
        if not self.checked:
            self.owner[mfn] = FREE
        elif self.literal and self.frames_of(vm, mfn):
            self.shoot((vm.handle, gpn))
        else:
            self.release_frame((vm.handle, gpn), mfn)

    def release_frame(self, page: Page, mfn: int) -> None:
        """Section 3's order, after 1 clear the entry: 2 shoot down, 3 zero, 4 mark FREE. The fault may stop it."""
        if not self.checked:
            self.owner[mfn] = FREE
            return
        stop = self.fault_step()
        self._finish(page, mfn, 1, stop or 4)
        if stop:
            self.releasing[mfn] = page, stop
            refuse("E_STATE")

    def fault_step(self) -> int | None:
        """Count a release: the step after which this one stops, or None."""
        self.releases += 1
        return self.fault["step"] if self.fault and self.fault["nth"] == self.releases else None

    def _finish(self, page: Page, mfn: int, done: int, last: int) -> None:
        if done < 2 <= last:
            self.shoot(page)
        if done < 3 <= last:
            self.content.pop(mfn, None)
        if done < 4 <= last:
            self.owner[mfn] = FREE

    def complete(self, pages: Callable[[Page], bool]) -> bool:
        """Finish the releases listed for these pages; whether there was one."""
        listed = [mfn for mfn, (page, _) in self.releasing.items() if pages(page)]
        for mfn in listed:
            page, step = self.releasing.pop(mfn)
            self._finish(page, mfn, step, 4)
        return bool(listed)

    def dissolve(self, vm: Vm) -> None:
        """Release every page in order; then go frames that have no leaf, tables, contexts and the handle."""
        self.complete(lambda page: page[0] == vm.handle)
        for base, _, size, _ in sorted(vm.leaves()):
            for gpn in range(base, base + size):
                self.release_page(vm, gpn)
        for mfn in [mfn for mfn, owner in enumerate(self.owner) if owner == vm.handle]:
            self.owner[mfn] = FREE
            if self.checked:
                self.content.pop(mfn, None)
        if self.checked:
            for core in range(self.core_count):
                self.flush(core, vm.handle)
        self.used.difference_update(vm.frames())
        del self.vms[vm.handle]

    # What can be seen

    def dump(self) -> Op:
        owners, first = [], 0
        for owner, run in groupby(self.owner):
            count = len(list(run))
            owners.append([first, count, f"vm:{owner}" if isinstance(owner, int) else owner])
            first += count
        vms = sorted(self.vms.items())
        return {
            "owners": owners,
            "leaves": {handle: sorted(map(list, vm.leaves())) for handle, vm in vms},
            "shared": [[handle, *share] for handle, vm in vms for share in sorted(vm.shares.items())],
            "merged": sorted([*borrower, *lender] for borrower, (lender, _) in self.borrows.items()),
            "releasing": sorted([mfn, *page] for mfn, (page, _) in self.releasing.items()),
            "swapped": [[handle, gpn, v] for handle, vm in vms for gpn, (v, _) in sorted(vm.records.items())],
            "cores": [[core, *pair] for core, pair in enumerate(self.on_core) if pair],
            "vms": [[handle, len(vm.saved)] for handle, vm in vms],
            "nonzero": sorted(mfn for mfn in self.content if self.owner[mfn] != HSVM),
        }

    def check_invariants(self) -> None:
        """The rules of section 9 that dicts can break; AssertionError names the rule."""
        running = [pair for pair in self.on_core if pair]
        assert len(set(running)) == len(running), "a vcpu is on at most one core"
        assert all(handle in self.vms for handle, _ in running), "no dead VM on a core"
        tables = [mfn for vm in self.vms.values() for mfn in vm.frames()]
        assert len(tables) == len(set(tables)) and set(tables) == self.used, "tables are a tree without second parents"
        for vm in self.vms.values():
            self._check_slots(vm)
        lenders = {lender for lender, _ in self.borrows.values()}
        assert lenders == self.lends.keys() and not lenders & self.borrows.keys(), "borrowers never lend on"
        if self.checked:
            self._check_owners()
            self._check_translations()

    def _check_slots(self, vm: Vm) -> None:
        bases = {gpn & -HUGE for gpn in (*vm.pages, *vm.records)}
        assert not bases & vm.large.keys(), "a guest page has one leaf"
        assert not vm.records.keys() & vm.pages.keys(), "a swapped page has no frame"
        assert vm.shares.keys() <= vm.pages.keys(), "only a mapped page is shared"
        for gpn in (*vm.marks, *vm.guest_tables):
            assert vm.leaf(gpn), "marks and guest tables are mapped"

    def _check_owners(self) -> None:
        mapped: list[int] = []
        for vm in self.vms.values():
            own = [mfn for gpn, (mfn, _) in vm.pages.items() if (vm.handle, gpn) not in self.borrows]
            mapped += own
            for mfn, _ in vm.large.values():
                mapped += range(mfn, mfn + HUGE)
                own.append(mfn)
                assert self.owner[mfn : mfn + HUGE] == [vm.handle] * HUGE, "a 2 MiB leaf owns its 512 frames"
            assert all(self.owner[mfn] == vm.handle for mfn in own), "a leaf maps only frames of its VM"
        if not self.literal:
            pending = sum(self.owner[mfn] == page[0] and step < 4 for mfn, (page, step) in self.releasing.items())
            counts = Counter(self.owner)
            owned = sum(counts[handle] for handle in self.vms)
            assert len(mapped) == len(set(mapped)) == owned - pending, "a VM's frame has exactly one leaf"
        for borrower, (lender, _) in self.borrows.items():
            leaves = [self.vms[handle].pages[gpn] for handle, gpn in (borrower, lender)]
            assert leaves[0][0] == leaves[1][0] and "w" not in leaves[0][1] + leaves[1][1], "a merge is read only"
        if self.microcode:
            assert all(self.owner[mfn] != FREE for mfn in self.content), "free frames are zero"

    def _check_translations(self) -> None:
        pending = {page for page, step in self.releasing.values() if step < 2}
        for tlb, virtual in zip(self.tlb, self.virtual, strict=True):
            assert all(handle in self.vms for handle in virtual), "no translation of a dead VM"
            for (handle, page, size), (mfn, perm) in tlb.items():
                assert handle in self.vms, "no translation of a dead VM"
                vm, gpn = self.vms[handle], page * size
                agrees = vm.large.get(gpn) if size == HUGE else vm.leaf(gpn)
                if agrees != (mfn, perm) and (handle, gpn) not in pending:
                    pages = range(size) if size == HUGE else ()
                    split = [vm.leaf(gpn + i) == (mfn + i, perm) or (handle, gpn + i) in pending for i in pages]
                    assert split and all(split), "every translation agrees with a walk"
