"""The board: configuration, and everything that a user of the engine calls. Contract: machine.pyi."""

import hashlib
import json
import struct

import numpy

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hsvm_engine.architectures import ARCHITECTURES, SKIPPABLE
from hsvm_engine.core.calls cimport UNKNOWN, call_number, note_call, note_trace, read_fields, result_of, rows, whole
from hsvm_engine.core.context cimport Args, Core, Host, Out, Tally, Vm, vm_by_slot, vm_find
from hsvm_engine.core.frames cimport frames_close, frames_open, frames_reserve
from hsvm_engine.core.invariants cimport check_host
from hsvm_engine.core.journal cimport journal_close, journal_open
from hsvm_engine.core.paging cimport MAX_REFERENCES, Reference, Translation, guest_walk
from hsvm_engine.core.restore cimport load_sections, unpack
from hsvm_engine.core.snapshot cimport state_sections, to_bytes
from hsvm_engine.core.tlb cimport tlb_close, tlb_open, tlb_reserve, trace
from hsvm_engine.core.types cimport (
    DMA_CHECK, E_INPUT, E_STATE, F_NOT_PRESENT, FIRST_VM, HV_ACCESS_CHECK, MAX_SLOT, NO_FRAME, NPT_PROTECTION, OK,
    OWNER_CHECK, PAGE, Status_t, is_on, uint8_t, uint32_t, uint64_t,
)
from hsvm_engine.core.types import CHECK_NUMBERS, PERM_NAMES, STATUS_NAMES
from hsvm_engine.core.views cimport counters_of, dump_host, events_after, frames_after, tally_add, tlb_table
from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort

cdef enum:
    MOST_PAGES = 128          # frames that one operation may make non-zero: 64 contexts, a root, tables, data


def _integer(str name, object value, low, high):
    """The constructor's integer check: ValueError names the argument."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name}: must be an integer from {low} to {high}")
    return value


def _keys(str name, object value, allowed):
    if not isinstance(value, dict):
        raise ValueError(f"{name}: must be a dict")
    for key in value:
        if key not in allowed:
            raise ValueError(f"{name}: unknown key {key!r}; known: {', '.join(sorted(allowed))}")
    return value


def _geometry(tlb):
    """(sets, ways) of both levels; what is not given is as in engine.md section 6."""
    shape = []
    _keys("tlb", tlb, ("l1", "l2"))
    for level, sets, ways in (("l1", 16, 4), ("l2", 128, 12)):
        given = _keys(f"tlb.{level}", tlb.get(level, {}), ("sets", "ways"))
        sets = _integer(f"tlb.{level}.sets", given.get("sets", sets), 1, 4096)
        if sets & (sets - 1):
            raise ValueError(f"tlb.{level}.sets: must be a power of two")
        shape += [sets, _integer(f"tlb.{level}.ways", given.get("ways", ways), 1, 64)]
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
    cdef readonly object hypervisor
    cdef readonly object guest
    cdef readonly object device

    def __cinit__(self, *args, **kwargs):
        memset(&self.host, 0, sizeof(Host))

    def __init__(self, frames=None, hypervisor_frames=None, protected_frames=None, cores=1, architecture="hsvm", seed=0,
                 options=None, tlb=None, costs=None):
        if self.host.core != NULL:
            raise ValueError("Machine: already open")
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            raise ValueError(f"architecture: must be one of {', '.join(ARCHITECTURES)}")
        row = ARCHITECTURES[architecture]
        _integer("frames", frames, 256, 1 << 28)
        _integer("hypervisor_frames", hypervisor_frames, 1, frames - 1)
        _integer("protected_frames", protected_frames, 0, frames)
        _integer("cores", cores, 1, 256)
        _integer("seed", seed, 0, (1 << 64) - 1)
        if not row.protected_region and protected_frames:
            raise ValueError(f"protected_frames: must be 0, architecture {architecture} has no protected region")
        if row.protected_region and protected_frames < -(-16 * frames // PAGE):
            raise ValueError(f"protected_frames: the ownership table alone needs {-(-16 * frames // PAGE)}")
        if hypervisor_frames + protected_frames >= frames:
            raise ValueError("hypervisor_frames, protected_frames: together they must leave one frame free")
        skip = self._skip({} if options is None else options)
        geometry = _geometry({} if tlb is None else tlb)
        costs = {} if costs is None else costs
        for name, cycles in _keys("costs", costs, row.costs).items():
            _integer(f"costs.{name}", cycles, 0, 1 << 40)
        self.architecture = architecture
        self.seed = seed
        self.settings = {
            "frames": frames, "hypervisor_frames": hypervisor_frames, "protected_frames": protected_frames,
            "cores": cores, "architecture": architecture, "seed": seed, "options": {"skip": skip} if skip else {},
            "tlb": {"l1": {"sets": geometry[0], "ways": geometry[1]}, "l2": {"sets": geometry[2], "ways": geometry[3]}},
            "costs": dict(costs),
        }
        self.costs = {name: cost.cycles for name, cost in row.costs.items()} | costs
        self._open(row, set(row.checks()) - set(skip), geometry)
        self.hypervisor = HypervisorPort(self)
        self.guest = GuestPort(self)
        self.device = DevicePort(self)

    @staticmethod
    def _skip(options):
        """Names of the checks that are switched off, sorted."""
        skip = _keys("options", options, ("skip",)).get("skip", [])
        if not isinstance(skip, (list, tuple)):
            raise ValueError("options.skip: must be a list of check names")
        for name in skip:
            if name not in SKIPPABLE:
                raise ValueError(f"options.skip: unknown check {name!r}; known: {', '.join(SKIPPABLE)}")
        return sorted(set(skip))

    cdef void _open(self, row, checks, geometry) except *:
        cdef Host *h = &self.host
        cdef uint32_t[4] shape = geometry
        cdef uint32_t frames = self.settings["frames"]
        cdef uint32_t hypervisor = self.settings["hypervisor_frames"], protected = self.settings["protected_frames"]
        h.cores = self.settings["cores"]
        h.reuse_handles = row.handles_reused
        h.checks = sum(1 << CHECK_NUMBERS[name] for name in checks)
        h.core = <Core *>calloc(h.cores, sizeof(Core))
        h.vm = <Vm **>calloc(MAX_SLOT + 1, sizeof(Vm *))
        h.generation = <uint64_t *>calloc(MAX_SLOT + 1, sizeof(uint64_t))
        h.vm_end = FIRST_VM
        if not (h.core and h.vm and h.generation and journal_open(&h.journal) and tlb_open(&h.tlb, h.cores, shape)
                and frames_open(&h.frames, frames, hypervisor, protected, &h.journal)):
            raise MemoryError
        bus = is_on(h.checks, HV_ACCESS_CHECK) and is_on(h.checks, DMA_CHECK)
        h.frames.strict = bus and is_on(h.checks, OWNER_CHECK)
        if not (bus and is_on(h.checks, NPT_PROTECTION)):
            h.visited = <uint8_t *>calloc(frames / 8 + 1, 1)
            if h.visited == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef uint32_t slot
        cdef Host *h = &self.host
        if h.vm != NULL:
            for slot in range(h.vm_end):
                if h.vm[slot] != NULL:
                    free(h.vm[slot].guest_tables)
                    free(h.vm[slot])
        frames_close(&h.frames)
        tlb_close(&h.tlb)
        journal_close(&h.journal)
        free(h.core)
        free(h.vm)
        free(h.generation)
        free(h.visited)

    cdef void _idle(self) except *:
        if self.running:
            raise RuntimeError("the machine runs a trace in another thread")

    # Operations

    def apply(self, op):
        cdef Host *h = &self.host
        cdef int number = call_number(op)
        cdef Status_t status = E_INPUT
        cdef bint read
        self._idle()
        if not frames_reserve(&h.frames, MOST_PAGES) or not tlb_reserve(&h.tlb):
            raise MemoryError
        memset(&self.out, 0, <char *>&self.out.registers - <char *>&self.out)
        self.out.bad_mfn = NO_FRAME
        read = number != UNKNOWN and read_fields(number, op, h, &self.args)
        h.journal.op += 1
        if read:
            with nogil:
                status = rows[number].call(h, &self.args, &self.out)
        note_call(number, status, read, h, &self.args, &self.out)
        return result_of(number, status, h, &self.args, &self.out)

    # Traces and walks

    def run_trace(self, core, addresses, kinds, limit=None):
        cdef const uint64_t[::1] where
        cdef const uint8_t[::1] what
        cdef uint64_t count, done = 0, n = 0
        cdef uint64_t[6] slow                 # by kind: second-level hits, misses
        cdef uint64_t[3] all_of
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
            count = min(count, _integer("limit", limit, 0, (1 << 63) - 1))
        if not tlb_reserve(&self.host.tlb):
            raise MemoryError
        memset(&tally, 0, sizeof(tally))
        memset(slow, 0, sizeof(slow))
        memset(all_of, 0, sizeof(all_of))
        if whole(core, 0, self.host.cores - 1, &n):
            done = self._trace(<uint32_t>n, where, what, count, &status, &x, &tally, slow, all_of)
        result = {
            "done": done, "status": STATUS_NAMES[<int>status], "gva": None, "gpa": None, "l1": tally.l1, "l2": tally.l2,
            "miss": tally.miss, "references": tally.references,
            "kinds": {
                name: {"l1": all_of[n] - slow[2 * n] - slow[2 * n + 1], "l2": slow[2 * n], "miss": slow[2 * n + 1]}
                for n, name in enumerate("rwx")
            },
        }
        if status >= F_NOT_PRESENT:
            result["gva"] = where[done]
            result["gpa"] = None if x.guest_fault else x.fault_gpa
        return result

    cdef uint64_t _trace(self, uint32_t core, const uint64_t[::1] where, const uint8_t[::1] what, uint64_t count,
                         Status_t *status, Translation *x, Tally *tally, uint64_t *slow, uint64_t *all_of) except *:
        """Run up to `count` accesses without the interpreter's lock; book them on VM and journal."""
        cdef Host *h = &self.host
        cdef Core *c = &h.core[core]
        cdef uint64_t done = 0, i
        status[0] = E_STATE if c.vm == NULL else OK
        if c.vm != NULL and count:
            self.running = True
            with nogil:
                done = trace(&h.frames, &h.tlb, core, &c.mmu, &where[0], &what[0], count, status, x, tally, slow)
                for i in range(done):
                    all_of[what[i]] += 1
            self.running = False
            tally_add(&c.vm.tally, tally)
        # each access has a number, the one that faulted too; a call that tried none has one as well
        h.journal.op += max(done + (status[0] != OK), 1)
        note_trace(h, core, status[0], done)
        return done

    def walk(self, core, gva):
        cdef Reference[MAX_REFERENCES] log
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
        references = [
            {"order": i + 1, "stage": "nested" if log[i].nested_level else "guest", "guest_level": log[i].guest_level,
             "nested_level": log[i].nested_level, "mfn": log[i].mfn, "offset": log[i].offset,
             "entry": f"0x{log[i].entry:016x}", "perm": PERM_NAMES[log[i].perm], "skipped": False}
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
            raise ValueError(f"handle: no VM has {handle!r}")
        return vm.slot

    def handle_of(self, slot):
        cdef uint64_t n = 0
        cdef Vm *vm = vm_by_slot(&self.host, <uint32_t>n) if whole(slot, FIRST_VM, MAX_SLOT, &n) else NULL
        if vm == NULL:
            raise ValueError(f"slot: no VM has {slot!r}")
        return vm.handle

    def dirty(self, since_op):
        self._idle()
        return frames_after(&self.host, self._since(since_op, self.host.journal.changes_lost))

    def events(self, since_op):
        self._idle()
        return events_after(&self.host, self._since(since_op, self.host.journal.events_lost))

    @staticmethod
    def _since(since_op, lost):
        if _integer("since_op", since_op, 0, (1 << 64) - 1) < lost:
            raise ValueError(f"since_op: the journal starts after operation {lost}")
        return since_op

    def tlb(self, core=None):
        cdef uint32_t first = 0, end = self.host.cores
        self._idle()
        if core is not None:
            first = _integer("core", core, 0, self.host.cores - 1)
            end = first + 1
        return tlb_table(&self.host, first, end)

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
