"""One writer for digest and snapshot. The reader is restore.pyx.

A snapshot is `HSVM`, version, length of the configuration (JSON), the configuration, the zlib-packed sections, SHA-256
of all before. A section is a name of four letters, its length as u64, its bytes. Everything is little-endian. Numbers
that only speed the simulator up (page places, space numbers, pool hint) are left out: they follow from the rest.
"""

import hashlib
import json
import struct
import zlib

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdlib cimport calloc, free, qsort
from libc.string cimport memcpy

from hsvm_engine.core.bus cimport BUS_SETS
from hsvm_engine.core.context cimport Core, Tally, Vm
from hsvm_engine.core.frames cimport NO_FRAME, POOL_SHADOW, frame_is_zero, frame_of_page, peek, use_of
from hsvm_engine.core.shadow cimport SHADOWS, ShadowRoot
from hsvm_engine.core.tlb cimport Cache, Level, Space, tag_space, tlb_age
from hsvm_engine.core.types cimport FIRST_VM, PAGE, REGISTERS, uint64_t


cdef bytes owner_section(Frames *f):
    cdef uint32_t i, runs = 0
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
    cdef uint32_t *out = <uint32_t *>calloc(<size_t>f.fresh + f.table_frames + 1, sizeof(uint32_t))
    if out == NULL:
        raise MemoryError
    for page in range(f.fresh):
        mfn = frame_of_page(f, page)
        if mfn != NO_FRAME and not frame_is_zero(f, mfn):
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
    """Each VM: handle, slot, vcpus, root, newest image, whether it was stopped, context frames, tables and use."""
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
        parts.append(struct.pack("<IQIQB", vm.vcpus, vm.handle, vm.root, vm.swaps, vm.stopped))
        parts.append(struct.pack(f"<{vm.vcpus}I", *[vm.context[i] for i in range(vm.vcpus)]))
        tables = []
        table = vm.tables
        while table != NO_FRAME:
            tables += [table, use_of(&h.frames, table).note]
            table = use_of(&h.frames, table).next
        parts.append(struct.pack(f"<I{len(tables)}I", len(tables) // 2, *tables))
    return b"".join(parts)


cdef bytes core_section(Host *h):
    cdef uint32_t i, k
    cdef Core *core
    cdef list parts = []
    for i in range(h.cores):
        core = &h.core[i]
        parts.append(struct.pack("<IIIBQ", core.vm.slot if core.vm != NULL else 0, core.vcpu, core.mmu.root, core.timed,
                                 core.left))
        parts.append(struct.pack(f"<{REGISTERS}Q", *[core.registers[k] for k in range(REGISTERS)]))
    return b"".join(parts)


cdef bytes level_bytes(Host *h, uint32_t which):
    """One TLB level of one core: the turns (under LRU every way's age), then the entries."""
    cdef Level *level = &h.tlb.level[which]
    cdef uint64_t place, entries = 0, total = <uint64_t>level.sets * level.ways, tag
    cdef uint32_t space
    cdef Entry *entry
    cdef bytes turns
    if h.tlb.lru:
        turns = bytes([tlb_age(level, place // level.ways, place % level.ways) for place in range(total)])
    else:
        turns = (<char *>level.turn)[:level.sets]
    for place in range(total):
        entries += level.tag[place] != 0
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>entries * sizeof(Entry))
    entry = <Entry *>PyBytes_AsString(out)
    for place in range(total):
        tag = level.tag[place]
        if tag:
            space = tag_space(tag)
            entry.place = <uint32_t>place
            entry.handle = h.tlb.space[space].handle
            entry.cr3 = h.tlb.space[space].cr3
            entry.vpn = tag >> 28
            entry.gpn = level.gpn[place]
            entry.data = level.data[place]
            entry += 1
    return turns + struct.pack("<Q", entries) + out


cdef bytes cache_bytes(Host *h, uint32_t core):
    """One core's page-walk caches: of each the turn and its entries; nothing where it has no room."""
    cdef uint32_t which, place
    cdef Cache *cache
    cdef Space *space
    cdef list parts = [], entries
    for which in range(2):
        if h.tlb.cache_size[which] == 0:
            continue
        cache = &h.tlb.cache[core]
        entries = []
        for place in range(h.tlb.cache_size[which]):
            if cache.tag[which][place]:
                space = &h.tlb.space[tag_space(cache.tag[which][place])]
                entries.append(struct.pack("<IQQQQ", place, space.handle, space.cr3, cache.tag[which][place] >> 28,
                                           cache.target[which][place]))
        parts += [struct.pack("<II", cache.turn[which], len(entries)), *entries]
    return b"".join(parts)


cdef bytes bus_section(Host *h):
    """Translations of hypervisor and devices: side, set, frame, device, permission."""
    cdef uint32_t side, i
    cdef list parts = []
    for side in range(2):
        for i in range(BUS_SETS):
            if h.bus.passage[side][i].mfn:
                parts.append(struct.pack("<BBIHB", side, i, h.bus.passage[side][i].mfn - 1,
                                         h.bus.passage[side][i].device, h.bus.passage[side][i].perm))
    return b"".join(parts)


cdef bytes mark_section(Host *h):
    cdef uint32_t i
    return b"".join([struct.pack("<IQQ", h.mark[i].slot, h.mark[i].gpn, h.mark[i].partner) for i in range(h.marks)])


cdef bytes host_section(Host *h):
    """The release that was stopped, images made, ids of images taken."""
    return (struct.pack("<IIQIQ", h.pending.slot, h.pending.mfn, h.pending.gpn, h.pending.step, h.exports)
            + (<char *>h.imported)[:16 * h.imports])


cdef bytes stored_section(Host *h):
    """Tables that were stored into past the handler, as it had left them."""
    cdef uint32_t i
    cdef list parts = []
    if h.stored_tables:
        for i in range(h.frames.pool_end - h.frames.pool_first):
            if h.stored[i]:
                parts.append(struct.pack("<I", i) + (<char *>h.table_copy[i])[:PAGE])
    return b"".join(parts)


cdef bytes shadow_section(Host *h):
    """Roots of shadow tables, then their frames, then the frames that they were built from."""
    cdef uint32_t i
    cdef ShadowRoot *r
    cdef list roots = [], tables = []
    if not h.shadow.on:
        return b""
    for i in range(SHADOWS):
        r = &h.shadow.root[i]
        if r.handle:
            roots.append(struct.pack("<IQQII", i, r.handle, r.cr3, r.nested, r.root))
    tables = [i for i in range(h.frames.pool_first, h.frames.pool_end) if use_of(&h.frames, i).note == POOL_SHADOW]
    sources = [at for at, flag in enumerate((<char *>h.shadow.source)[:h.frames.count]) if flag] if roots else []
    return (struct.pack("<III", len(roots), len(tables), len(sources)) + b"".join(roots)
            + struct.pack(f"<{len(tables)}I", *tables) + struct.pack(f"<{len(sources)}I", *sources))


cdef list state_sections(Host *h):
    """(name, bytes) of everything that decides the host's future: owners, contents, VMs, cores, TLBs."""
    return [
        (b"OWNR", owner_section(&h.frames)),
        (b"CONT", content_section(&h.frames)),
        (b"VMS ", vm_section(h)),
        (b"CORE", core_section(h)),
        (b"TLBS", b"".join([*[level_bytes(h, i) for i in range(2 * h.cores)],
                            *[cache_bytes(h, i) for i in range(h.cores)]])),
        (b"BUS ", bus_section(h)),
        (b"MARK", mark_section(h)),
        (b"HOST", host_section(h)),
        (b"STOR", stored_section(h)),
        (b"SHDW", shadow_section(h)),
    ]


cdef bytes tally_bytes(Tally *t):
    return struct.pack("<5Q", t.l1, t.l2, t.miss, t.faults, t.references)


cdef bytes counter_section(Host *h):
    """The operation number and the counters: part of a snapshot, not of the digest."""
    cdef uint32_t slot
    return b"".join([
        struct.pack("<Q", h.journal.op), tally_bytes(&h.tally),
        struct.pack("<9Q", h.counts.maps, h.counts.unmaps, h.counts.zeroed, h.counts.switches, h.counts.shootdowns,
                    h.counts.shot, h.counts.seals, h.counts.smis, h.counts.releases),
        *[tally_bytes(&h.vm[slot].tally) + struct.pack("<Q", h.vm[slot].interrupts)
          for slot in range(FIRST_VM, h.vm_end) if h.vm[slot] != NULL],
    ])


cdef bytes to_bytes(Host *h, dict settings):
    """The whole snapshot; `settings` are the machine's arguments."""
    cdef bytes config = json.dumps(settings, sort_keys=True).encode()
    cdef list sections = [*state_sections(h), (b"CNTR", counter_section(h))]
    cdef bytes body = b"".join([name + struct.pack("<Q", len(data)) + data for name, data in sections])
    cdef bytes head = b"HSVM" + struct.pack("<HI", FORMAT, len(config)) + config + zlib.compress(body, 1)
    return head + hashlib.sha256(head).digest()
