"""The board: configuration, and everything that a user of the engine calls. Contract: machine.pyi."""

import hashlib
import json
import struct

import numpy

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hsvm_engine import arguments
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.arguments import integer
from hsvm_engine.core.batch cimport trace
from hsvm_engine.core.burst cimport burst
from hsvm_engine.core.calls cimport (
    UNKNOWN, Columns, Row, call_number, columns_of, element_of, note_call, note_trace, read_fields, result_of, rows,
    swap_out_number, whole,
)
from hsvm_engine.core.context cimport (
    MOST_IMPORTS, MOST_MARKS, NO_PAGE, Args, Core, Counts, Host, Mark, Out, Tally, Vm, vm_by_slot, vm_find,
)
from hsvm_engine.core.frames cimport forget_page, frames_close, frames_open, frames_reserve
from hsvm_engine.core.invariants cimport check_host
from hsvm_engine.core.journal cimport Old, journal_begin, journal_close, journal_open, journal_reach, keep_at
from hsvm_engine.core.maps cimport dominant
from hsvm_engine.core.paging cimport MAX_REFERENCES, Reference, Translation, guest_walk
from hsvm_engine.core.restore cimport load_sections, unpack
from hsvm_engine.core.sealing cimport PAGE_IMAGE
from hsvm_engine.core.sealing import Keys
from hsvm_engine.core.shadow cimport shadow_drop_all
from hsvm_engine.core.smm cimport compare_tables, smi
from hsvm_engine.core.snapshot cimport state_sections, to_bytes
from hsvm_engine.core.tlb cimport Shape, tlb_close, tlb_keep, tlb_open, tlb_watch
from hsvm_engine.core.types cimport (
    DMA_CHECK, E_INPUT, E_STATE, F_NOT_PRESENT, F_TAMPERED, FIRST_VM, HV_ACCESS_CHECK, MAX_SLOT, NO_FRAME,
    NPT_PROTECTION, OK, OWNER_CHECK, Status_t, is_on, uint8_t, uint32_t, uint64_t,
)
from hsvm_engine.core.types import CHECK_NUMBERS, PERM_NAMES, STATUS_NAMES
from hsvm_engine.core.undo cimport go_back
from hsvm_engine.core.views cimport (
    bus_table, changes_between, counters_of, dump_host, events_after, frames_after, tally_add, tlb_table,
)
from hsvm_engine.core.walkcache cimport Shortcut, cache_saves, shortcut_read
from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort, PhysicalPort

cdef enum:
    WITH_GIL = 32             # pages of a batch that are sealed or opened in one go
    MOST_PAGES = 128          # frames that one operation may make non-zero: 64 contexts, a root, tables, data


cdef void give_up(void *host, Old *old, uint8_t *bytes) noexcept nogil:
    """The journal drops an old page."""
    forget_page(&(<Host *>host).frames, old, bytes)


cdef Status_t call(Host *h, Row *row, Args *a, Out *o) noexcept nogil:
    """One operation with what stands around it: the SMI before a validated call, and tables made of other tables."""
    cdef Status_t status
    if h.smi and row.validated:
        smi(h)
    status = row.call(h, a, o)
    if h.shadow.on and row.of_tables and status == OK:
        shadow_drop_all(&h.frames, &h.shadow)
    return status


cdef Status_t do(Host *h, int number, bint read, Args *a, Out *o) noexcept nogil:
    """One operation with its number, old values, event and, where it is due, the periodic SMI."""
    cdef Status_t status = E_INPUT
    cdef uint64_t fills = h.tlb.fills, evictions = h.tlb.evictions
    memset(o, 0, <size_t>(<char *>&o.image - <char *>o))
    o.bad_mfn = NO_FRAME
    o.fault_gpa = NO_PAGE
    journal_begin(&h.journal)
    if read:
        status = call(h, &rows[number], a, o)
    if h.smi and h.journal.op % h.smi_period == 0:
        smi(h)
    o.filled, o.evicted = <uint32_t>(h.tlb.fills - fills), <uint32_t>(h.tlb.evictions - evictions)
    note_call(number, status, read, h, a, o)
    return status


cdef uint64_t run_some(Host *h, int number, Columns *c, uint64_t i, uint64_t end, Args *a, Out *o,
                       uint8_t *statuses) noexcept nogil:
    """The elements from `i` to `end`; returns the first that was not done: `end`, but for want of memory."""
    cdef Status_t status
    while i < end:
        if h.frames.free_pages < MOST_PAGES and not frames_reserve(&h.frames, MOST_PAGES):
            return i
        o.image = NULL
        status = do(h, number, element_of(c, i, h, a, o), a, o)
        if c.image != NULL and number == swap_out_number() and status != OK:
            memset(c.image + i * PAGE_IMAGE, 0, PAGE_IMAGE)
        statuses[i] = <uint8_t>status
        i += 1
    return i


cdef uint64_t run_columns(Host *h, int number, Columns *c, Args *a, Out *o, uint8_t *statuses) noexcept nogil:
    """One operation for each element; returns how many were done, fewer only without memory."""
    cdef uint64_t i = 0, end
    while True:
        i += burst(h, number, c, i, a, statuses)
        if i == c.count:
            return i
        if c.image == NULL:
            end = i + 1
            i = run_some(h, number, c, i, end, a, o, statuses)
        else:                           # the cipher wants the GIL: it is taken for some pages, and given up between
            end = min(i + WITH_GIL, c.count)
            with gil:
                i = run_some(h, number, c, i, end, a, o, statuses)
        if i < end:
            return i


cdef uint64_t trace_in_parts(Host *h, uint32_t core, const uint64_t *where, const uint8_t *what, uint64_t count,
                             Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) noexcept nogil:
    """A trace until its first fault, the timer, or the periodic SMI that finds the VM's tables changed."""
    cdef Core *c = &h.core[core]
    cdef uint64_t done = 0, part, first = h.journal.op
    while done < count and status[0] == OK:
        if c.vm.stopped:
            status[0] = F_TAMPERED
            break
        part = count - done
        if c.timed:
            part = min(part, c.left)
        if h.stored_tables:
            part = min(part, h.smi_period - (first + done - 1) % h.smi_period)
        if part == 0:
            status[0] = E_STATE
            break
        part = trace(&h.frames, &h.tlb, core, &c.mmu, where + done, what + done, part, status, x, tally, by_kind)
        done += part
        if c.timed:
            c.left -= min(part + (status[0] >= F_NOT_PRESENT), c.left)
        if h.stored_tables and (first + done + (status[0] >= F_NOT_PRESENT) - 1) % h.smi_period == 0:
            compare_tables(h)
    if h.smi:
        h.counts.smis += (first + done - 1) / h.smi_period - (first - 1) / h.smi_period
    return done
cdef Shape _shape(geometry) except *:
    """The same for the core."""
    cdef Shape shape
    for i, level in enumerate((geometry["l1"], geometry["l2"])):
        shape.geometry[2 * i], shape.geometry[2 * i + 1] = level["sets"], level["ways"]
    shape.cache_size[0], shape.cache_size[1] = geometry["walk_cache"]["guest"], geometry["walk_cache"]["nested"]
    shape.lru = geometry["policy"] == "lru"
    return shape


cdef class OwnerView:
    """The ownership table's bytes, read-only, as long as somebody looks at them."""
    cdef Machine machine

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Host *h = &self.machine.host
        PyBuffer_FillInfo(buffer, self, h.frames.owner, <Py_ssize_t>h.frames.count * 2, 1, flags)


cdef class Machine:
    """One simulated host. See machine.pyi for the contract of every method."""
    cdef Host host
    cdef Args args
    cdef Out out
    cdef bint running             # a trace runs without the interpreter's lock
    cdef readonly str architecture
    cdef readonly uint64_t seed
    cdef dict settings            # what the constructor was given, in canonical form
    cdef dict costs               # cycles by event
    cdef object __weakref__
    cdef object keys              # the host's secrets; Host.seals borrows it

    def __cinit__(self, *args, **kwargs):
        memset(&self.host, 0, sizeof(Host))

    def __init__(self, frames=None, hypervisor_frames=None, protected_frames=None, cores=1, architecture="hsvm", seed=0,
                 options=None, tlb=None, costs=None):
        if self.host.core != NULL:
            raise ValueError("Machine: already open")
        settings = arguments.machine(
            frames, hypervisor_frames, protected_frames, cores, architecture, seed, options, tlb, costs)
        row = ARCHITECTURES[settings["architecture"]]
        self.architecture, self.seed, self.settings = settings["architecture"], settings["seed"], settings
        self.costs = {name: cost.cycles for name, cost in row.costs.items()} | settings["costs"]
        self._open(row, settings["tlb"])

    # A port refers to its machine; made anew each time, they are no cycle that keeps a big host in memory.

    @property
    def hypervisor(self):
        return HypervisorPort(self)

    @property
    def guest(self):
        return GuestPort(self)

    @property
    def device(self):
        return DevicePort(self)

    @property
    def physical(self):
        return PhysicalPort(self)

    cdef void _open(self, row, geometry) except *:
        cdef Host *h = &self.host
        cdef Shape shape = _shape(geometry)
        cdef uint32_t frames = self.settings["frames"]
        cdef uint32_t hypervisor = self.settings["hypervisor_frames"], protected = self.settings["protected_frames"]
        self._rules(row, self.settings["options"])
        h.cores = self.settings["cores"]
        h.core = <Core *>calloc(h.cores, sizeof(Core))
        h.vm = <Vm **>calloc(MAX_SLOT + 1, sizeof(Vm *))
        h.store = <Vm **>calloc(MAX_SLOT + 1, sizeof(Vm *))
        h.generation = <uint64_t *>calloc(MAX_SLOT + 1, sizeof(uint64_t))
        h.mark = <Mark *>calloc(MOST_MARKS + 1, sizeof(Mark))
        h.imported = <uint8_t (*)[16]>calloc(MOST_IMPORTS, 16)
        h.vm_end = FIRST_VM
        if not (h.core and h.vm and h.store and h.generation and h.mark and h.imported
                and journal_open(&h.journal, give_up, h, &h.counts, sizeof(Counts))
                and tlb_open(&h.tlb, h.cores, &shape)
                and frames_open(&h.frames, frames, hypervisor, protected, row.pool_protected, &h.journal)):
            raise MemoryError
        h.bus.journal = &h.journal
        tlb_watch(&h.tlb, &h.journal)
        if row.shadow_tables:
            h.shadow.on = True
            h.tlb.shadow = &h.shadow
            h.shadow.source = <uint8_t *>calloc(frames, 1)
        if row.smi:
            h.table_copy = <uint8_t **>calloc(h.frames.pool_end - h.frames.pool_first + 1, sizeof(uint8_t *))
            h.stored = <uint8_t *>calloc(h.frames.pool_end - h.frames.pool_first + 1, 1)
        bus = is_on(h.checks, HV_ACCESS_CHECK) and is_on(h.checks, DMA_CHECK)
        h.frames.strict = bus and is_on(h.checks, OWNER_CHECK)
        if not (bus and is_on(h.checks, NPT_PROTECTION)):
            h.visited = <uint8_t *>calloc(2 * (<size_t>frames / 8 + 1), 1)
        if ((h.shadow.on and h.shadow.source == NULL) or (h.smi and not (h.table_copy and h.stored))
                or (not (bus and is_on(h.checks, NPT_PROTECTION)) and h.visited == NULL)):
            raise MemoryError

    cdef void _rules(self, row, options) except *:
        """What the row and the options decide."""
        cdef Host *h = &self.host
        checks = set(row.checks()) - set(options.get("skip", ()))
        h.literal = options.get("page_map_rule") == "literal" and "slot_check" in checks
        if h.literal:
            checks.discard("slot_check")
        h.checks = sum(1 << CHECK_NUMBERS[name] for name in checks)
        h.reuse_handles = row.handles_reused
        h.counted = row.slot_check
        h.sealed = row.swap_sealed
        h.smi = row.smi
        h.smi_period = options.get("smi_period", 64)
        if "fault" in options:
            h.fault_step, h.fault_nth = options["fault"]["step"], options["fault"]["nth"]
        name = options.get("machine_id") or hashlib.sha256(b"hsvm machine %d" % self.seed).hexdigest()[:32]
        self.keys = Keys(self.seed, bytes.fromhex(name), bytes.fromhex(options.get("platform_key", "00" * 32)))
        h.seals = <void *>self.keys

    def __dealloc__(self):
        cdef uint32_t slot
        cdef Host *h = &self.host
        if h.store != NULL:
            for slot in range(MAX_SLOT + 1):
                free(h.store[slot])
        if h.table_copy != NULL:
            for slot in range(h.frames.pool_end - h.frames.pool_first):
                free(h.table_copy[slot])
        self._let_go()
        frames_close(&h.frames)
        tlb_close(&h.tlb)
        journal_close(&h.journal)
        for block in (<size_t>h.core, <size_t>h.vm, <size_t>h.store, <size_t>h.generation, <size_t>h.mark,
                      <size_t>h.imported, <size_t>h.visited, <size_t>h.shadow.source, <size_t>h.table_copy,
                      <size_t>h.stored):
            free(<void *><size_t>block)

    cdef void _let_go(self) noexcept:
        """Give up the images that the last operation read or made."""
        if self.args.image_object != NULL:
            Py_DECREF(<object>self.args.image_object)
        if self.out.image_object != NULL:
            Py_DECREF(<object>self.out.image_object)
        self.args.image_object = NULL
        self.out.image_object = NULL

    cdef void _idle(self) except *:
        if self.running:
            raise RuntimeError("the machine runs a trace in another thread")

    # Operations

    def apply(self, op):
        cdef Host *h = &self.host
        cdef int number = call_number(op)
        cdef Status_t status
        cdef bint read
        self._idle()
        if not frames_reserve(&h.frames, MOST_PAGES):
            raise MemoryError
        try:
            read = number != UNKNOWN and read_fields(number, op, h, &self.args)
            self.out.image = NULL
            status = do(h, number, read, &self.args, &self.out)
            return result_of(number, status, h, &self.args, &self.out)
        finally:
            self._let_go()

    def run_batch(self, op, columns, images=None):
        cdef Host *h = &self.host
        cdef int number = call_number({"op": op})
        cdef Columns c
        cdef uint8_t[::1] statuses
        cdef const uint8_t[::1] read_only
        cdef uint8_t[::1] writable
        self._idle()
        c = columns_of(number, columns, h, &self.args)
        try:
            if op == "swap_out":
                writable = images
                c.image, c.room = &writable[0] if len(writable) else NULL, len(writable)
            elif op == "swap_in":
                read_only = images
                c.image, c.room = <uint8_t *>&read_only[0] if len(read_only) else NULL, len(read_only)
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"images: must be a contiguous buffer of bytes: {error}") from None
        if op in ("swap_out", "swap_in") and c.room < c.count * PAGE_IMAGE:
            raise ValueError(f"images: must have {PAGE_IMAGE} bytes for each element")
        result = numpy.empty(c.count, dtype=numpy.uint8)
        if c.count == 0:
            return result
        statuses = result
        self.running = True
        try:
            if c.image != NULL:                 # each element needs the interpreter for its cipher
                done = run_columns(h, number, &c, &self.args, &self.out, &statuses[0])
            else:
                with nogil:
                    done = run_columns(h, number, &c, &self.args, &self.out, &statuses[0])
        finally:
            self.running = False
            self._let_go()
        if done < c.count:
            raise MemoryError
        return result

    # Traces and walks

    def run_trace(self, core, addresses, kinds, limit=None):
        cdef const uint64_t[::1] where
        cdef const uint8_t[::1] what
        cdef uint64_t count, done = 0, n = 0
        cdef uint64_t[9] by_kind              # see `trace`
        cdef Status_t status = E_INPUT
        cdef Translation x
        cdef Tally tally
        self._idle()
        if addresses is None or kinds is None:
            raise ValueError("addresses, kinds: must be buffers")
        try:
            where = addresses
            what = kinds
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"addresses, kinds: must be contiguous buffers of uint64 and uint8: {error}") from None
        if where.shape[0] != what.shape[0]:
            raise ValueError("kinds: must be as long as addresses")
        count = where.shape[0]
        if limit is not None:
            count = min(count, integer("limit", limit, 0, (1 << 63) - 1))
        memset(&tally, 0, sizeof(tally))
        memset(by_kind, 0, sizeof(by_kind))
        if whole(core, 0, self.host.cores - 1, &n):
            done = self._trace(<uint32_t>n, where, what, count, &status, &x, &tally, by_kind)
        result = {
            "done": done, "status": STATUS_NAMES[<int>status], "gva": None, "gpa": None, "l1": tally.l1, "l2": tally.l2,
            "miss": tally.miss, "references": tally.references,
            "kinds": {
                name: {"l1": by_kind[6 + n] - by_kind[2 * n] - by_kind[2 * n + 1], "l2": by_kind[2 * n],
                       "miss": by_kind[2 * n + 1]}
                for n, name in enumerate("rwx")
            },
        }
        if status >= F_NOT_PRESENT:
            result["gva"] = where[done]
            result["gpa"] = None if x.guest_fault else x.fault_gpa
        return result

    cdef uint64_t _trace(self, uint32_t core, const uint64_t[::1] where, const uint8_t[::1] what, uint64_t count,
                         Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) except *:
        """Run up to `count` accesses without the interpreter's lock; book them on VM and journal."""
        cdef Host *h = &self.host
        cdef Core *c = &h.core[core]
        cdef uint64_t done = 0, fills = 0, evictions = 0
        status[0] = E_STATE if c.vm == NULL else OK
        journal_begin(&h.journal)
        if c.vm != NULL and count:
            keep_at(&h.journal, c, sizeof(Core))
            keep_at(&h.journal, &c.vm.tally, sizeof(Tally))
            tlb_keep(&h.tlb, core)
            fills, evictions = h.tlb.fills, h.tlb.evictions
            self.running = True
            with nogil:
                done = trace_in_parts(h, core, &where[0], &what[0], count, status, x, tally, by_kind)
            self.running = False
            tlb_watch(&h.tlb, &h.journal)
            fills, evictions = h.tlb.fills - fills, h.tlb.evictions - evictions
            tally_add(&c.vm.tally, tally)
        # each access has a number, the one that faulted too; a call that tried none has one as well
        h.journal.op += max(done + (status[0] != OK), 1) - 1
        note_trace(h, core, status[0], done, fills, evictions)
        return done

    def walk(self, core, gva):
        cdef Reference[MAX_REFERENCES] log
        cdef bint[MAX_REFERENCES] skipped
        cdef Shortcut cut
        cdef Translation x
        cdef uint64_t n = 0, address = 0
        cdef Status_t status
        cdef Core *c
        cdef uint32_t i
        self._idle()
        if not whole(core, 0, self.host.cores - 1, &n) or not whole(gva, 0, 0xFFFFFFFFFFFFULL, &address):
            return {"status": "E_INPUT", "gpa": None, "mfn": None, "references": []}
        c = &self.host.core[n]
        if c.vm == NULL:
            return {"status": "E_STATE", "gpa": None, "mfn": None, "references": []}
        status = guest_walk(&self.host.frames, c.mmu.root, c.mmu.cr3, address, 0, &x, log)
        memset(skipped, 0, sizeof(skipped))
        shortcut_read(&cut, &c.mmu, c.mmu.cr3, address >> 12, log, x.references)
        cache_saves(&self.host.tlb, <uint32_t>n, &cut, skipped)
        references = [
            {"order": i + 1, "stage": "nested" if log[i].nested_level else "guest", "guest_level": log[i].guest_level,
             "nested_level": log[i].nested_level, "mfn": log[i].mfn, "offset": log[i].offset,
             "entry": f"0x{log[i].entry:016x}", "perm": PERM_NAMES[log[i].perm], "skipped": bool(skipped[i])}
            for i in range(x.references)
        ]
        return {
            "status": STATUS_NAMES[<int>status],
            "gpa": None if x.guest_fault else x.fault_gpa,
            "mfn": x.mfn if status == OK else None,
            "references": references,
        }

    # Views

    @property
    def op(self):
        return self.host.journal.op

    @property
    def config(self):
        return json.loads(json.dumps(self.settings))

    @property
    def frames(self):
        return self.host.frames.count

    @property
    def cores(self):
        return self.host.cores

    def ownership(self):
        cdef OwnerView view = OwnerView.__new__(OwnerView)
        view.machine = self
        return numpy.frombuffer(view, dtype=numpy.uint16)

    def slot_of(self, handle):
        cdef uint64_t n = 0
        cdef Vm *vm = vm_find(&self.host, n) if whole(handle, 1, 0xFFFFFFFFFFFFFFFFULL, &n) else NULL
        if vm == NULL:
            raise ValueError("handle: no living VM has it")
        return vm.slot

    def handle_of(self, slot):
        cdef uint64_t n = 0
        cdef Vm *vm = vm_by_slot(&self.host, <uint32_t>n) if whole(slot, FIRST_VM, MAX_SLOT, &n) else NULL
        if vm == NULL:
            raise ValueError("slot: no living VM has it")
        return vm.handle

    def dirty(self, since_op):
        self._idle()
        return frames_after(&self.host, self._since(since_op, self.host.journal.changes_lost))

    def diff(self, since_op, until_op=None):
        self._idle()
        since_op = self._since(since_op, self.host.journal.changes_lost)
        until_op = self.host.journal.op if until_op is None else integer("until_op", until_op, since_op, (1 << 64) - 1)
        return changes_between(&self.host, since_op, until_op)

    @property
    def oldest_op(self):
        return journal_reach(&self.host.journal)

    def step_back(self, to_op):
        self._idle()
        reach = journal_reach(&self.host.journal)
        if integer("to_op", to_op, 0, (1 << 64) - 1) < reach:
            raise ValueError(f"to_op: the journal holds no old values from before operation {reach}")
        return go_back(&self.host, to_op)

    def events(self, since_op):
        self._idle()
        return events_after(&self.host, self._since(since_op, self.host.journal.events_lost))

    @staticmethod
    def _since(since_op, lost):
        if integer("since_op", since_op, 0, (1 << 64) - 1) < lost:
            raise ValueError(f"since_op: the journal starts after operation {lost}")
        return since_op

    def tlb(self, core=None):
        cdef uint32_t first = 0, end = self.host.cores
        self._idle()
        if core is not None:
            first = integer("core", core, 0, self.host.cores - 1)
            end = first + 1
        return tlb_table(&self.host, first, end)

    def translations(self):
        self._idle()
        return bus_table(&self.host)

    def dominant(self, width, height):
        self._idle()
        return dominant(self.ownership(), width, height)

    def counters(self):
        self._idle()
        return counters_of(&self.host, self.costs)

    # State as a whole

    def dump(self):
        self._idle()
        return dump_host(&self.host)

    def digest(self):
        self._idle()
        digest = hashlib.sha256()
        for name, data in state_sections(&self.host):
            digest.update(name + struct.pack("<Q", len(data)))
            digest.update(data)
        return digest.hexdigest()

    def check_invariants(self):
        self._idle()
        return check_host(&self.host)

    def snapshot(self):
        self._idle()
        return to_bytes(&self.host, self.settings)

    @staticmethod
    def restore(data):
        cdef Machine machine
        config, sections = unpack(data)
        machine = Machine(**config)
        load_sections(&machine.host, sections)
        return machine
