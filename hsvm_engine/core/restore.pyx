"""The reader of snapshots. It believes nothing: every number is checked before the host gets it."""

import hashlib
import json
import struct
import zlib

from cpython.bytes cimport PyBytes_AsString
from libc.stdlib cimport calloc, malloc
from libc.string cimport memcpy

from hsvm_engine import arguments
from hsvm_engine.core.bus cimport BUS_SETS
from hsvm_engine.core.context cimport MOST_IMPORTS, MOST_MARKS, Tally, Vm, core_enter, vm_by_slot
from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_FREE, POOL_SHADOW, Frames, frame_write, frames_reserve, lent_by, note_of, use_of,
)
from hsvm_engine.core.pages cimport is_merged, visited
from hsvm_engine.core.paging cimport BIT_LENDS, BIT_SHARED, BIT_SHARED_W, Leaf, each_leaf, has_bit
from hsvm_engine.core.shadow cimport SHADOWS, ShadowRoot
from hsvm_engine.core.snapshot cimport FORMAT, Entry, Run
from hsvm_engine.core.tlb cimport Level, cache_put, cache_turn, mmu_load, space_find, tlb_put, tlb_turn
from hsvm_engine.core.types cimport (
    FIRST_VM, HUGE, MAX_SLOT, MAX_VCPUS, PAGE, PERM_R, PERM_W, REGISTERS, uint8_t, uint32_t, uint64_t,
)

ARGUMENTS = dict.fromkeys((
    "frames", "hypervisor_frames", "protected_frames", "cores", "architecture", "seed", "options", "tlb", "costs",
)).keys()
SPARE = 1 << 26               # bytes that the sections of a small host may have beside its frames
SECTIONS = {
    b"OWNR", b"CONT", b"VMS ", b"CORE", b"TLBS", b"BUS ", b"MARK", b"HOST", b"STOR", b"SHDW", b"CNTR",
}


cdef bytes inflated(bytes packed, frames):
    """The sections, no more than a host of so many frames can have."""
    limit = frames * (PAGE + 32) + SPARE
    inflater = zlib.decompressobj()
    body = inflater.decompress(packed, limit)
    if inflater.unconsumed_tail or not inflater.eof or inflater.unused_data:
        raise ValueError("its sections are longer than such a host can have, or cut off")
    return body


cdef void check_owners(bytes data, frames) except *:
    """The owner section covers every frame of the host: known before the host is made."""
    cdef Run *run = <Run *>PyBytes_AsString(data)
    cdef uint64_t i, mfn = 0
    if len(data) % sizeof(Run):
        raise ValueError("snapshot: OWNR has a broken length")
    for i in range(len(data) / sizeof(Run)):
        if run[i].first != mfn:
            raise ValueError("snapshot: OWNR does not cover the frames once each")
        mfn += run[i].count
    if mfn != frames:
        raise ValueError("snapshot: OWNR does not cover every frame")


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
        if not isinstance(config, dict) or set(config) != ARGUMENTS:
            raise ValueError("its configuration does not have the machine's arguments")
        config = arguments.machine(*[config[name] for name in ARGUMENTS])
        body = inflated(data[10 + length:len(data) - 32], config["frames"])
    except (ValueError, RecursionError, zlib.error) as error:
        raise ValueError(f"snapshot: {error}") from None
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
    check_owners(sections[b"OWNR"], config["frames"])
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
    for i in range(MAX_SLOT + 1):
        f.owned[i] = 0
    for i in range(<uint32_t>(len(data) / sizeof(Run))):
        for k in range(run[i].count):
            f.owner[mfn + k] = run[i].owner
        mfn += run[i].count
        f.owned[run[i].owner] += run[i].count


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
    if vm == NULL:
        raise MemoryError
    h.store[slot] = vm                  # the host owns it from here on, whatever is wrong with the rest
    h.vm[slot] = vm
    vm.slot, vm.vcpus, vm.tables = slot, vcpus, NO_FRAME
    vm.handle, = r.take("<Q")
    if vm.handle != (slot - 2 if h.reuse_handles else h.generation[slot] << 16 | (slot - 2)):
        raise ValueError(f"snapshot: VMS : handle {vm.handle} does not fit its slot")
    vm.root = r.number("<I", f.count, "root")
    vm.swaps = r.number("<Q", 1 << 57, "version")
    vm.stopped = r.number("<B", 2, "stop")
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
        timed = r.number("<B", 2, "timer")
        left, = r.take("<Q")
        registers = r.take(f"<{REGISTERS}Q")
        if slot == 0:
            continue
        vm = vm_by_slot(h, slot)
        if vm == NULL or vcpu >= vm.vcpus or vm.core[vcpu] or (root >= h.frames.count and root != NO_FRAME):
            raise ValueError(f"snapshot: CORE: core {i} runs what it cannot")
        core_enter(h, &h.core[i], vm, vcpu)
        h.core[i].timed, h.core[i].left = timed, left
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
    if h.tlb.lru:
        ages, = r.take(f"<{total}s")
        for i in range(total):
            if ages[i] >= level.ways or ages[i] in ages[i - i % level.ways:i]:
                raise ValueError("snapshot: TLBS: the ages of a set are not an order")
            level.used[i] = level.ways - <uint8_t>ages[i]
    else:
        turns, = r.take(f"<{level.sets}s")
        for i in range(level.sets):
            if <uint8_t>turns[i] >= level.ways:
                raise ValueError("snapshot: TLBS: a turn beyond the ways")
            tlb_turn(level, i, turns[i])
    for _ in range(r.number("<Q", total + 1, "number of entries")):
        raw, = r.take(f"<{sizeof(Entry)}s")
        memcpy(&e, PyBytes_AsString(raw), sizeof(Entry))
        if e.place >= total or level.tag[e.place] or e.handle == 0 or e.vpn >> 36 or e.gpn >> 36:
            raise ValueError("snapshot: TLBS: an entry that cannot be")
        if (e.data >> 4) + (HUGE if e.data & 8 else 1) > h.frames.count:
            raise ValueError("snapshot: TLBS: an entry names a frame that the host does not have")
        space = space_find(&h.tlb, e.handle, e.cr3)
        tag = e.vpn << 28 | <uint64_t>space << 1 | (e.data >> 3 & 1)
        tlb_put(&h.tlb, which / 2, which & 1, e.place, tag, e.data, e.gpn)


cdef void load_bus(Host *h, bytes data) except *:
    cdef uint32_t side, place
    r = _Reader(data, "BUS ")
    while r.at < len(data):
        side = r.number("<B", 2, "side")
        place = r.number("<B", BUS_SETS, "set")
        h.bus.passage[side][place].mfn = r.number("<I", h.frames.count, "frame") + 1
        h.bus.passage[side][place].device = r.number("<H", 1 << 16, "device")
        h.bus.passage[side][place].perm = r.number("<B", 4, "permission")


cdef void load_marks(Host *h, bytes data) except *:
    before = (0, 0, 0)
    r = _Reader(data, "MARK")
    while r.at < len(data):
        row = r.take("<IQQ")
        if h.marks == MOST_MARKS or row <= before or row[1] >> 36 or vm_by_slot(h, min(row[0], MAX_SLOT)) == NULL:
            raise ValueError("snapshot: MARK: a row that cannot be")
        h.mark[h.marks].slot, h.mark[h.marks].gpn, h.mark[h.marks].partner = row
        h.marks += 1
        before = row


cdef void load_host(Host *h, bytes data) except *:
    r = _Reader(data, "HOST")
    h.pending.slot = r.number("<I", MAX_SLOT + 1, "slot")
    h.pending.mfn = r.number("<I", h.frames.count, "frame")
    h.pending.gpn = r.number("<Q", 1 << 36, "guest page")
    h.pending.step = r.number("<I", 5, "step")
    h.exports, = r.take("<Q")
    if (h.pending.slot and vm_by_slot(h, h.pending.slot) == NULL) or (len(data) - r.at) % 16:
        raise ValueError("snapshot: HOST: a release of no VM, or a broken length")
    while r.at < len(data):
        if h.imports == MOST_IMPORTS:
            raise ValueError("snapshot: HOST: too many images")
        name, = r.take("<16s")
        memcpy(h.imported[h.imports], PyBytes_AsString(name), 16)
        h.imports += 1


cdef void load_stored(Host *h, bytes data) except *:
    cdef uint32_t place
    r = _Reader(data, "STOR")
    while r.at < len(data):
        if not h.smi:
            raise ValueError("snapshot: STOR: this architecture compares no tables")
        place = r.number("<I", h.frames.pool_end - h.frames.pool_first, "table")
        table, = r.take(f"<{PAGE}s")
        h.table_copy[place] = <uint8_t *>malloc(PAGE)
        if h.stored[place] or h.table_copy[place] == NULL:
            raise ValueError("snapshot: STOR: a table comes twice")
        memcpy(h.table_copy[place], PyBytes_AsString(table), PAGE)
        h.stored[place] = 1
        h.stored_tables += 1


cdef void load_shadows(Host *h, bytes data) except *:
    cdef uint32_t i
    cdef ShadowRoot *root
    if not h.shadow.on:
        if data:
            raise ValueError("snapshot: SHDW: this architecture has no shadow tables")
        return
    r = _Reader(data, "SHDW")
    roots, tables, sources = r.take("<III")
    for _ in range(roots):
        root = &h.shadow.root[r.number("<I", SHADOWS, "place")]
        root.handle, root.cr3 = r.take("<QQ")
        root.nested = r.number("<I", h.frames.count, "root")
        root.root = r.number("<I", h.frames.count, "root")
    for _ in range(tables):
        i = r.number("<I", h.frames.count, "table")
        use_pool(&h.frames, i, POOL_SHADOW)
    for _ in range(sources):
        h.shadow.source[r.number("<I", h.frames.count, "source")] = 1
    r.end()


cdef struct Counting:
    Host *host
    Vm *vm


cdef bint count_leaf(void *context, Leaf *leaf) noexcept nogil:
    """What the ownership table holds beside owners follows from the leaves."""
    cdef Counting *c = <Counting *>context
    cdef Frames *f = &c.host.frames
    cdef uint32_t mfn
    for mfn in range(leaf.mfn, min(leaf.mfn + leaf.size, f.count)):
        f.leaves[mfn] += 1 if c.host.counted or is_merged(leaf.entry) else 0
        if leaf.size == 1 and has_bit(leaf.entry, BIT_SHARED):
            f.shared[mfn] |= PERM_R | (PERM_W if has_bit(leaf.entry, BIT_SHARED_W) else 0)
        if leaf.size == 1 and has_bit(leaf.entry, BIT_LENDS):
            f.lender[mfn] = lent_by(c.vm.slot, leaf.gpn)
    return False


cdef void count_leaves(Host *h) except *:
    cdef uint32_t slot
    cdef Counting work
    work.host = h
    if h.frames.table_written:          # then its bytes came with the contents
        return
    for slot in range(FIRST_VM, h.vm_end):
        work.vm = h.vm[slot]
        if work.vm != NULL:
            each_leaf(&h.frames, work.vm.root, 4, 0, False, visited(h), count_leaf, &work)
cdef void load_cache(Host *h, uint32_t core, object r) except *:
    cdef uint32_t which, place, size, space
    cdef uint64_t handle, cr3, region, target
    for which in range(2):
        size = h.tlb.cache_size[which]
        if size == 0:
            continue
        cache_turn(&h.tlb, core, which, r.number("<I", size, "turn of a page-walk cache"))
        for _ in range(r.number("<I", size + 1, "number of cached walks")):
            place, handle, cr3, region, target = r.take("<IQQQQ")
            if place >= size or h.tlb.cache[core].tag[which][place] or handle == 0 or region >> 27 or target >> 36:
                raise ValueError("snapshot: TLBS: a cached walk that cannot be")
            if (cr3 == 0) != (which == 1):
                raise ValueError("snapshot: TLBS: a cached walk of the wrong kind")
            space = space_find(&h.tlb, handle, cr3)
            cache_put(&h.tlb, core, which, place, region << 28 | <uint64_t>space << 1 | 1, target)


cdef void load_sections(Host *h, dict sections) except *:
    """Fill a newly opened host; ValueError says what is wrong, and the host is then only good for closing."""
    cdef uint32_t which
    h.journal.quiet = True
    load_owners(&h.frames, sections[b"OWNR"])
    load_contents(&h.frames, sections[b"CONT"])
    load_vms(h, sections[b"VMS "])
    count_leaves(h)
    load_cores(h, sections[b"CORE"])
    r = _Reader(sections[b"TLBS"], "TLBS")
    for which in range(2 * h.cores):
        load_level(h, which, r)
    for which in range(h.cores):
        load_cache(h, which, r)
    r.end()
    load_bus(h, sections[b"BUS "])
    load_marks(h, sections[b"MARK"])
    load_host(h, sections[b"HOST"])
    load_stored(h, sections[b"STOR"])
    load_shadows(h, sections[b"SHDW"])
    load_counters(h, sections[b"CNTR"])
    h.journal.quiet = False


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
    h.counts.seals, h.counts.smis, h.counts.releases = r.take("<3Q")
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            load_tally(&h.vm[slot].tally, r)
            h.vm[slot].interrupts, = r.take("<Q")
    r.end()
