"""One writer for digest and snapshot, one reader that believes nothing.

A snapshot is `HSVM`, version, length of the configuration (JSON), the configuration, the zlib-packed sections, SHA-256 of all
before. A section is a name of four letters, its length as u64, its bytes. Everything is little-endian. Numbers that only speed the
simulator up (page places, space numbers, pool hint) are left out: they follow from the rest.
"""

import struct
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free, qsort
from libc.string cimport memcpy

from hsvm_engine.core.context cimport (
    Core, Tally, Vm, core_enter, guest_table_add, guest_tables_reserve, vm_by_slot,
)
from hsvm_engine.core.frames cimport (
    CHUNK, NO_FRAME, POOL_CONTEXT, POOL_FREE, POOL_RESERVE, POOL_TABLE, Frames, frame_is_zero, frame_write, frames_reserve,
    peek,
)
from hsvm_engine.core.tlb cimport Level, mmu_load, space_find, tlb_put, tlb_reserve
from hsvm_engine.core.types cimport (
    FIRST_VM, FREE, HSVM, HUGE, HYPERVISOR, MAX_SLOT, MAX_VCPUS, PAGE, REGISTERS, uint8_t, uint16_t, uint32_t, uint64_t,
)


cdef packed struct Run:           # neighbouring frames of one owner
    uint32_t first
    uint32_t count
    uint16_t owner

cdef packed struct Entry:         # one TLB entry
    uint32_t place
    uint64_t handle
    uint64_t cr3
    uint64_t vpn                  # of 4 KiB or, for a huge entry, of 2 MiB
    uint64_t gpn
    uint32_t data                 # as in Level.data; bit 3 = huge


# Writing

cdef bytes owner_section(Frames *f):
    cdef uint32_t i, start, runs = 0
    cdef Run *run
    for i in range(f.count):
        if i == 0 or f.owner[i] != f.owner[i - 1]:
            runs += 1
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>runs * sizeof(Run))
    run = <Run *>PyBytes_AsString(out) - 1
    for i in range(f.count):
        if i == 0 or f.owner[i] != f.owner[i - 1]:
            run += 1
            run.first = i
            run.owner = f.owner[i]
            run.count = 0
        run.count += 1
    return out


cdef int by_number(const void *a, const void *b) noexcept nogil:
    cdef uint32_t x = (<const uint32_t *>a)[0], y = (<const uint32_t *>b)[0]
    return (x > y) - (x < y)


cdef uint32_t *nonzero_frames(Frames *f, uint32_t *count) except NULL:
    """Ascending frames with a non-zero byte, those of a table that was stored into included; the caller frees."""
    cdef uint32_t page, mfn, n = 0
    cdef uint32_t *out = <uint32_t *>calloc(<size_t>f.fresh_page + f.table_frames + 1, sizeof(uint32_t))
    if out == NULL:
        raise MemoryError
    for page in range(f.fresh_page):
        mfn = (<uint32_t *>(f.chunk[page / CHUNK] + <size_t>CHUNK * PAGE))[page % CHUNK]
        if mfn < f.count and f.page[mfn] == page + 1 and not frame_is_zero(f, mfn):
            out[n] = mfn
            n += 1
    if f.table_written:
        for mfn in range(f.table_first, f.table_first + f.table_frames):
            if not frame_is_zero(f, mfn):
                out[n] = mfn
                n += 1
    qsort(out, n, sizeof(uint32_t), by_number)
    count[0] = n
    return out


cdef bytes content_section(Frames *f):
    cdef uint32_t i, n = 0
    cdef uint32_t *frames = nonzero_frames(f, &n)
    cdef bytes out
    cdef char *at
    try:
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>n * (PAGE + 4))
        at = PyBytes_AsString(out)
        for i in range(n):
            memcpy(at, &frames[i], 4)
            memcpy(at + 4, peek(f, frames[i]), PAGE)
            at += PAGE + 4
    finally:
        free(frames)
    return out


cdef bytes vm_section(Host *h):
    """Each VM: handle, slot, vcpus, root, context frames, tables with their use, guest tables."""
    cdef uint32_t slot, i, table
    cdef Vm *vm
    cdef list parts = [struct.pack("<I", h.vm_end)]
    cdef list tables
    for slot in range(FIRST_VM, h.vm_end):
        parts.append(struct.pack("<Q", h.generation[slot]))
        vm = h.vm[slot]
        if vm == NULL:
            parts.append(struct.pack("<I", 0))
            continue
        parts.append(struct.pack("<IQI", vm.vcpus, vm.handle, vm.root))
        parts.append(struct.pack(f"<{vm.vcpus}I", *[vm.context[i] for i in range(vm.vcpus)]))
        tables = []
        table = vm.tables
        while table != NO_FRAME:
            tables += [table, h.frames.note[table]]
            table = h.frames.link[table]
        parts.append(struct.pack(f"<I{len(tables)}I", len(tables) // 2, *tables))
        parts.append(struct.pack(f"<I{vm.guest_table_count}Q", vm.guest_table_count,
                                 *[vm.guest_tables[i] for i in range(vm.guest_table_count)]))
    return b"".join(parts)


cdef bytes core_section(Host *h):
    cdef uint32_t i, k
    cdef Core *core
    cdef list parts = []
    for i in range(h.cores):
        core = &h.core[i]
        parts.append(struct.pack("<III", core.vm.slot if core.vm != NULL else 0, core.vcpu, core.mmu.root))
        parts.append(struct.pack(f"<{REGISTERS}Q", *[core.registers[k] for k in range(REGISTERS)]))
    return b"".join(parts)


cdef bytes level_bytes(Host *h, uint32_t which):
    """One TLB level of one core: the turns, then the entries."""
    cdef Level *level = &h.tlb.level[which]
    cdef uint64_t place, entries = 0, total = <uint64_t>level.sets * level.ways, tag
    cdef uint32_t space
    cdef Entry *entry
    for place in range(total):
        entries += level.tag[place] != 0
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>entries * sizeof(Entry))
    entry = <Entry *>PyBytes_AsString(out)
    for place in range(total):
        tag = level.tag[place]
        if tag:
            space = (tag >> 1) & 0x7FFFFFF
            entry.place = <uint32_t>place
            entry.handle = h.tlb.space[space].handle
            entry.cr3 = h.tlb.space[space].cr3
            entry.vpn = tag >> 28
            entry.gpn = level.gpn[place]
            entry.data = level.data[place]
            entry += 1
    return (<char *>level.turn)[:level.sets] + struct.pack("<Q", entries) + out


cdef list state_sections(Host *h):
    """(name, bytes) of everything that decides the host's future: owners, contents, VMs, cores, TLBs."""
    return [
        (b"OWNR", owner_section(&h.frames)),
        (b"CONT", content_section(&h.frames)),
        (b"VMS ", vm_section(h)),
        (b"CORE", core_section(h)),
        (b"TLBS", b"".join([level_bytes(h, which) for which in range(2 * h.cores)])),
    ]


cdef bytes tally_bytes(Tally *t):
    return struct.pack("<5Q", t.l1, t.l2, t.miss, t.faults, t.references)


cdef bytes counter_section(Host *h):
    """The operation number and the counters: part of a snapshot, not of the digest."""
    cdef uint32_t slot
    return b"".join([
        struct.pack("<Q", h.journal.op), tally_bytes(&h.tally),
        struct.pack("<6Q", h.counts.maps, h.counts.unmaps, h.counts.zeroed, h.counts.switches, h.counts.shootdowns,
                    h.counts.shot),
        *[tally_bytes(&h.vm[slot].tally) for slot in range(FIRST_VM, h.vm_end) if h.vm[slot] != NULL],
    ])


# Reading

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
    if not f.pool_first <= mfn < f.pool_end or f.note[mfn] != POOL_FREE or note & 3 == POOL_FREE:
        raise ValueError(f"snapshot: VMS : frame {mfn} cannot be a table or context")
    f.note[mfn] = note


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
    for i in range(r.number("<I", f.count, "number of tables")):
        mfn = r.number("<I", f.count, "table")
        use_pool(f, mfn, r.number("<I", 1 << 30, "use of a table"))
        if last == NO_FRAME:
            vm.tables = mfn
        else:
            f.link[last] = mfn
        f.link[mfn] = NO_FRAME
        last = mfn
    if last == NO_FRAME or f.note[vm.root] == POOL_FREE:
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
    cdef uint64_t i, total = <uint64_t>level.sets * level.ways
    cdef uint32_t space
    cdef Entry e
    cdef bytes raw
    turns, = r.take(f"<{level.sets}s")
    for i in range(level.sets):
        if <uint8_t>turns[i] >= level.ways:
            raise ValueError("snapshot: TLBS: a turn beyond the ways")
        level.turn[i] = turns[i]
    for i in range(r.number("<Q", total + 1, "number of entries")):
        raw, = r.take(f"<{sizeof(Entry)}s")
        memcpy(&e, PyBytes_AsString(raw), sizeof(Entry))
        if e.place >= total or level.tag[e.place] or e.handle == 0 or e.vpn >> 36 or e.gpn >> 36 or e.data >> 4 >= h.frames.count:
            raise ValueError("snapshot: TLBS: an entry that cannot be")
        if e.data & 8 and (e.data >> 4) + HUGE > h.frames.count:
            raise ValueError("snapshot: TLBS: an entry that cannot be")
        if not tlb_reserve(&h.tlb):
            raise MemoryError
        space = space_find(&h.tlb, e.handle, e.cr3)
        tlb_put(&h.tlb, which / 2, which & 1, e.place, e.vpn << 28 | <uint64_t>space << 1 | (e.data >> 3 & 1), e.data, e.gpn)


cdef void load_sections(Host *h, dict sections) except *:
    """Fill a newly opened host; ValueError says what is wrong, and the host is then only good for closing."""
    cdef uint32_t which
    try:
        load_owners(&h.frames, sections.pop(b"OWNR"))
        load_contents(&h.frames, sections.pop(b"CONT"))
        load_vms(h, sections.pop(b"VMS "))
        load_cores(h, sections.pop(b"CORE"))
        r = _Reader(sections.pop(b"TLBS"), "TLBS")
    except KeyError as missing:
        raise ValueError(f"snapshot: section {missing} is missing") from None
    for which in range(2 * h.cores):
        load_level(h, which, r)
    r.end()


cdef void load_tally(Tally *t, object r) except *:
    t.l1, t.l2, t.miss, t.faults, t.references = r.take("<5Q")


cdef void load_counters(Host *h, bytes data) except *:
    cdef uint32_t slot
    r = _Reader(data, "CNTR")
    h.journal.op, = r.take("<Q")
    h.journal.changes_lost = h.journal.op
    h.journal.events_lost = h.journal.op
    load_tally(&h.tally, r)
    (h.counts.maps, h.counts.unmaps, h.counts.zeroed, h.counts.switches, h.counts.shootdowns, h.counts.shot) = r.take("<6Q")
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            load_tally(&h.vm[slot].tally, r)
    r.end()
