"""The reader of snapshots. It believes nothing: every number is checked before the host gets it."""

import hashlib
import json
import struct
import zlib

from cpython.bytes cimport PyBytes_AsString
from libc.stdlib cimport calloc
from libc.string cimport memcpy

from hsvm_engine.core.context cimport Tally, Vm, core_enter, guest_table_add, guest_tables_reserve, vm_by_slot
from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_FREE, Frames, frame_write, frames_reserve, note_of, use_of,
)
from hsvm_engine.core.snapshot cimport FORMAT, Entry, Run
from hsvm_engine.core.tlb cimport Level, mmu_load, space_find, tlb_put, tlb_reserve
from hsvm_engine.core.types cimport FIRST_VM, HUGE, MAX_SLOT, MAX_VCPUS, PAGE, REGISTERS, uint8_t, uint32_t, uint64_t

ARGUMENTS = {
    "frames", "hypervisor_frames", "protected_frames", "cores", "architecture", "seed", "options", "tlb", "costs",
}
SECTIONS = {b"OWNR", b"CONT", b"VMS ", b"CORE", b"TLBS", b"CNTR"}


cdef tuple unpack(object data):
    """Configuration and sections of a snapshot; ValueError with the reason for anything else."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ValueError("snapshot: must be bytes")
    data = bytes(data)
    if len(data) < 42 or data[:4] != b"HSVM":
        raise ValueError("snapshot: not a snapshot of this engine")
    version, length = struct.unpack_from("<HI", data, 4)
    if version != FORMAT:
        raise ValueError(f"snapshot: version {version}, this engine reads {FORMAT}")
    if hashlib.sha256(data[:len(data) - 32]).digest() != data[len(data) - 32:]:
        raise ValueError("snapshot: damaged, the checksum differs")
    try:
        config = json.loads(data[10:10 + length])
        body = zlib.decompress(data[10 + length:len(data) - 32])
    except (ValueError, RecursionError, zlib.error) as error:
        raise ValueError(f"snapshot: {error}") from None
    if not isinstance(config, dict) or set(config) != ARGUMENTS:
        raise ValueError("snapshot: its configuration does not have the machine's arguments")
    sections, at = {}, 0
    while at < len(body):
        if at + 12 > len(body):
            raise ValueError("snapshot: a section ends too early")
        name, size = body[at:at + 4], int.from_bytes(body[at + 4:at + 12], "little")
        if size > len(body) - at - 12 or name in sections:
            raise ValueError("snapshot: a section ends too early or comes twice")
        sections[name] = body[at + 12:at + 12 + size]
        at += 12 + size
    if set(sections) != SECTIONS:
        raise ValueError("snapshot: its sections are not those of this version")
    return config, sections


class _Reader:
    """Takes numbers off a section and refuses what the host cannot have."""

    def __init__(self, bytes data, str name):
        self.data, self.at, self.name = data, 0, name

    def take(self, str form):
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise ValueError(f"snapshot: {self.name} ends too early")
        values = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return values

    def number(self, str form, limit, str what):
        """One number below `limit`."""
        value, = self.take(form)
        if value >= limit:
            raise ValueError(f"snapshot: {self.name}: {what} {value} is out of range")
        return value

    def end(self):
        if self.at != len(self.data):
            raise ValueError(f"snapshot: {self.name} has {len(self.data) - self.at} bytes too many")


cdef void load_owners(Frames *f, bytes data) except *:
    cdef uint32_t i, k, mfn = 0
    cdef Run *run = <Run *>PyBytes_AsString(data)
    if len(data) % sizeof(Run):
        raise ValueError("snapshot: OWNR has a broken length")
    for i in range(MAX_SLOT + 1):
        f.owned[i] = 0
    for i in range(<uint32_t>(len(data) / sizeof(Run))):
        if run[i].first != mfn or run[i].count > f.count - mfn:
            raise ValueError("snapshot: OWNR does not cover the frames once each")
        for k in range(run[i].count):
            f.owner[mfn + k] = run[i].owner
        mfn += run[i].count
        f.owned[run[i].owner] += run[i].count
    if mfn != f.count:
        raise ValueError("snapshot: OWNR does not cover every frame")


cdef void load_contents(Frames *f, bytes data) except *:
    cdef char *at = PyBytes_AsString(data)
    cdef uint32_t mfn, before = 0
    cdef uint64_t i
    if len(data) % (PAGE + 4):
        raise ValueError("snapshot: CONT has a broken length")
    for i in range(len(data) // (PAGE + 4)):
        memcpy(&mfn, at, 4)
        if mfn >= f.count or (i and mfn <= before):
            raise ValueError(f"snapshot: CONT: frame {mfn} is out of place")
        if not frames_reserve(f, 1):
            raise MemoryError
        frame_write(f, mfn, 0, PAGE, <uint8_t *>(at + 4))
        before = mfn
        at += PAGE + 4


cdef void use_pool(Frames *f, uint32_t mfn, uint32_t note) except *:
    if not f.pool_first <= mfn < f.pool_end or use_of(f, mfn).note != POOL_FREE or note & 3 == POOL_FREE:
        raise ValueError(f"snapshot: VMS : frame {mfn} cannot be a table or context")
    use_of(f, mfn).note = note


cdef void load_vm(Host *h, uint32_t slot, uint32_t vcpus, object r) except *:
    cdef Frames *f = &h.frames
    cdef Vm *vm = <Vm *>calloc(1, sizeof(Vm))
    cdef uint32_t i, last = NO_FRAME, mfn
    cdef uint64_t gpn
    if vm == NULL:
        raise MemoryError
    h.vm[slot] = vm                     # the host owns it from here on, whatever is wrong with the rest
    vm.slot, vm.vcpus, vm.tables = slot, vcpus, NO_FRAME
    vm.handle, = r.take("<Q")
    if vm.handle != (slot - 2 if h.reuse_handles else h.generation[slot] << 16 | (slot - 2)):
        raise ValueError(f"snapshot: VMS : handle {vm.handle} does not fit its slot")
    vm.root = r.number("<I", f.count, "root")
    for i in range(vcpus):
        vm.context[i] = r.number("<I", f.count, "context")
        use_pool(f, vm.context[i], POOL_CONTEXT)
    for _ in range(r.number("<I", f.count, "number of tables")):
        mfn = r.number("<I", f.count, "table")
        use_pool(f, mfn, r.number("<I", 1 << 30, "use of a table"))
        if last == NO_FRAME:
            vm.tables = mfn
        else:
            use_of(f, last).next = mfn
        use_of(f, mfn).next = NO_FRAME
        last = mfn
    if last == NO_FRAME or note_of(f, vm.root) == POOL_FREE:
        raise ValueError("snapshot: VMS : a VM without its root")
    for i in range(r.number("<I", 1 << 28, "number of guest tables")):
        gpn = r.number("<Q", 1 << 36, "guest table")
        if not guest_tables_reserve(vm, 1):
            raise MemoryError
        if i and gpn <= vm.guest_tables[i - 1]:
            raise ValueError("snapshot: VMS : guest tables out of order")
        guest_table_add(vm, gpn)


cdef void load_vms(Host *h, bytes data) except *:
    cdef uint32_t slot, vcpus
    r = _Reader(data, "VMS ")
    h.vm_end = r.number("<I", MAX_SLOT + 2, "number of slots")
    for slot in range(FIRST_VM, h.vm_end):
        h.generation[slot] = r.number("<Q", 1 << 48, "generation")
        vcpus = r.number("<I", MAX_VCPUS + 1, "number of vcpus")
        if vcpus:
            load_vm(h, slot, vcpus, r)
    r.end()


cdef void load_cores(Host *h, bytes data) except *:
    cdef uint32_t i, k, slot, vcpu, root
    cdef Vm *vm
    r = _Reader(data, "CORE")
    for i in range(h.cores):
        slot = r.number("<I", MAX_SLOT + 1, "slot")
        vcpu = r.number("<I", MAX_VCPUS, "vcpu")
        root, = r.take("<I")
        registers = r.take(f"<{REGISTERS}Q")
        if slot == 0:
            continue
        vm = vm_by_slot(h, slot)
        if vm == NULL or vcpu >= vm.vcpus or vm.core[vcpu] or (root >= h.frames.count and root != NO_FRAME):
            raise ValueError(f"snapshot: CORE: core {i} runs what it cannot")
        if not tlb_reserve(&h.tlb):
            raise MemoryError
        core_enter(h, &h.core[i], vm, vcpu)
        for k in range(REGISTERS):
            h.core[i].registers[k] = registers[k]
        mmu_load(&h.tlb, &h.core[i].mmu, vm.handle, root, h.core[i].registers[REGISTERS - 1])
    r.end()


cdef void load_level(Host *h, uint32_t which, object r) except *:
    cdef Level *level = &h.tlb.level[which]
    cdef uint64_t i, tag, total = <uint64_t>level.sets * level.ways
    cdef uint32_t space
    cdef Entry e
    cdef bytes raw
    turns, = r.take(f"<{level.sets}s")
    for i in range(level.sets):
        if <uint8_t>turns[i] >= level.ways:
            raise ValueError("snapshot: TLBS: a turn beyond the ways")
        level.turn[i] = turns[i]
    for _ in range(r.number("<Q", total + 1, "number of entries")):
        raw, = r.take(f"<{sizeof(Entry)}s")
        memcpy(&e, PyBytes_AsString(raw), sizeof(Entry))
        if e.place >= total or level.tag[e.place] or e.handle == 0 or e.vpn >> 36 or e.gpn >> 36:
            raise ValueError("snapshot: TLBS: an entry that cannot be")
        if (e.data >> 4) + (HUGE if e.data & 8 else 1) > h.frames.count:
            raise ValueError("snapshot: TLBS: an entry names a frame that the host does not have")
        if not tlb_reserve(&h.tlb):
            raise MemoryError
        space = space_find(&h.tlb, e.handle, e.cr3)
        tag = e.vpn << 28 | <uint64_t>space << 1 | (e.data >> 3 & 1)
        tlb_put(&h.tlb, which / 2, which & 1, e.place, tag, e.data, e.gpn)


cdef void load_sections(Host *h, dict sections) except *:
    """Fill a newly opened host; ValueError says what is wrong, and the host is then only good for closing."""
    cdef uint32_t which
    load_owners(&h.frames, sections[b"OWNR"])
    load_contents(&h.frames, sections[b"CONT"])
    load_vms(h, sections[b"VMS "])
    load_cores(h, sections[b"CORE"])
    r = _Reader(sections[b"TLBS"], "TLBS")
    for which in range(2 * h.cores):
        load_level(h, which, r)
    r.end()
    load_counters(h, sections[b"CNTR"])


cdef void load_tally(Tally *t, object r) except *:
    t.l1, t.l2, t.miss, t.faults, t.references = r.take("<5Q")


cdef void load_counters(Host *h, bytes data) except *:
    cdef uint32_t slot
    r = _Reader(data, "CNTR")
    h.journal.op, = r.take("<Q")
    h.journal.changes_lost = h.journal.op
    h.journal.events_lost = h.journal.op
    load_tally(&h.tally, r)
    h.counts.maps, h.counts.unmaps, h.counts.zeroed = r.take("<3Q")
    h.counts.switches, h.counts.shootdowns, h.counts.shot = r.take("<3Q")
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            load_tally(&h.vm[slot].tally, r)
    r.end()
