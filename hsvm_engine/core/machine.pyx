"""The board: configuration, the operation table, and everything a user of the engine sees. Contract: machine.pyi."""

import hashlib
import json
import struct
import zlib

import numpy

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from hsvm_engine.architectures import ARCHITECTURES, SKIPPABLE
from hsvm_engine.core.context cimport (
    Args, Core, Host, Operation, Out, Tally, Vm, vm_by_slot, vm_find,
)
from hsvm_engine.core.frames cimport frames_close, frames_open, frames_reserve, frame_is_zero
from hsvm_engine.core.guest cimport (
    cold_boot_read, dma_read, dma_write, guest_access, guest_fetch, guest_flush, guest_map, guest_read, guest_registers,
    guest_set_registers, guest_unmap, guest_write,
)
from hsvm_engine.core.hypervisor cimport (
    balloon, claim, context_restore, context_save, create_vm, delete_vm, hv_flush, hv_read, hv_read_context, hv_write,
    hv_write_context, npt_locate, page_map, page_unmap, release, set_npt_root,
)
from hsvm_engine.core.invariants cimport check_host, entry_agrees
from hsvm_engine.core.journal cimport (
    EVENTS, Event, changed_frames, changed_total, journal_close, journal_event, journal_open,
)
from hsvm_engine.core.paging cimport MAX_REFERENCES, Leaf, Reference, Translation, each_leaf, guest_walk
from hsvm_engine.core.snapshot cimport counter_section, load_counters, load_sections, nonzero_frames, state_sections
from hsvm_engine.core.tlb cimport Level, tlb_close, tlb_open, tlb_reserve, trace
from hsvm_engine.core.types cimport (
    DMA_CHECK, E_INPUT, E_STATE, F_NOT_PRESENT, FIRST_VM, FREE, HSVM, HUGE, HV_ACCESS_CHECK, HYPERVISOR, MAX_SLOT, NO_CHECK,
    NO_FRAME, NPT_PROTECTION, OK, OWNER_CHECK, PAGE, REGISTERS, Check_t, Status_t, is_on, uint8_t, uint16_t, uint32_t,
    uint64_t,
)
from hsvm_engine.core.types import (
    CHECK_NAMES, CHECK_NUMBERS, KIND_BITS, PERM_BITS, PERM_NAMES, REGISTER_NAMES, STATUS_NAMES,
)
from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort, PhysicalPort

FORMAT = 1                # version of snapshots


# The operation table: name -> its function, fields and results. (engine.md section 5)

cdef enum Field:
    VM = 1
    GPN
    MFN
    PERM
    SIZE
    VCPUS
    VCPU
    CORE
    PAGES
    OFFSET
    LENGTH
    DATA
    GPA
    GVA
    KIND
    REGS
    DEVICE
    # results
    VM_OUT
    RELEASED
    DATA_OUT
    LOCATED
    DONE
    REACHED
    REGS_OUT

FIELD_NAMES = {
    VM: "vm", GPN: "gpn", MFN: "mfn", PERM: "perm", SIZE: "size", VCPUS: "vcpus", VCPU: "vcpu", CORE: "core",
    PAGES: "pages", OFFSET: "offset", LENGTH: "length", DATA: "data", GPA: "gpa", GVA: "gva", KIND: "kind",
    REGS: "registers", DEVICE: "device",
}

cdef struct Row:
    Operation call
    int[6] fields             # 0 ends
    int count
    int[3] results            # 0 ends

cdef Row[32] rows
cdef dict row_of = {}         # name -> number of its row
cdef list row_names = []
cdef dict field_name = FIELD_NAMES


cdef void add(str name, Operation call, tuple wanted, tuple results) except *:
    cdef Row *row = &rows[len(row_names)]
    cdef int i
    memset(row, 0, sizeof(Row))
    row.call = call
    row.count = len(wanted)
    for i in range(row.count):
        row.fields[i] = wanted[i]
    for i in range(len(results)):
        row.results[i] = results[i]
    row_of[name] = len(row_names)
    row_names.append(name)


add("create_vm", create_vm, (VCPUS,), (VM_OUT,))
add("delete_vm", delete_vm, (VM,), ())
add("page_map", page_map, (VM, GPN, MFN, PERM, SIZE), ())
add("page_unmap", page_unmap, (VM, GPN), ())
add("balloon", balloon, (VM, PAGES), (RELEASED,))
add("claim", claim, (MFN,), ())
add("release", release, (MFN,), ())
add("context_save", context_save, (CORE,), ())
add("context_restore", context_restore, (VM, VCPU, CORE), ())
add("hv_read", hv_read, (MFN, OFFSET, LENGTH), (DATA_OUT,))
add("hv_write", hv_write, (MFN, OFFSET, DATA), ())
add("hv_read_context", hv_read_context, (VM, VCPU), (REGS_OUT,))
add("hv_write_context", hv_write_context, (VM, VCPU, REGS), ())
add("set_npt_root", set_npt_root, (VM, MFN), ())
add("hv_flush", hv_flush, (CORE, VM), ())
add("npt_locate", npt_locate, (VM, GPN), (LOCATED,))
add("guest_read", guest_read, (CORE, GPA, LENGTH), (DATA_OUT,))
add("guest_write", guest_write, (CORE, GPA, DATA), ())
add("guest_fetch", guest_fetch, (CORE, GPA), ())
add("guest_map", guest_map, (CORE, GVA, GPN, PERM), ())
add("guest_unmap", guest_unmap, (CORE, GVA), ())
add("guest_access", guest_access, (CORE, GVA, KIND), (REACHED,))
add("guest_flush", guest_flush, (CORE, GVA), ())
add("guest_registers", guest_registers, (CORE,), (REGS_OUT,))
add("guest_set_registers", guest_set_registers, (CORE, REGS), ())
add("dma_read", dma_read, (DEVICE, MFN, OFFSET, LENGTH), (DONE, DATA_OUT))
add("dma_write", dma_write, (DEVICE, MFN, OFFSET, DATA), (DONE,))
add("cold_boot_read", cold_boot_read, (MFN,), (DATA_OUT,))
row_names.append("run_trace")          # not an operation of `apply`; here for its events
cdef int TRACE_ROW = len(row_names) - 1
cdef int UNKNOWN_ROW = 255

OPERATIONS = {name: tuple(FIELD_NAMES[rows[number].fields[i]] for i in range(rows[number].count))
              for name, number in row_of.items()}
cdef tuple hits = ("", "l1", "l2", "miss")
cdef dict register_place = {name: place for place, name in enumerate(REGISTER_NAMES)}
cdef tuple register_names = REGISTER_NAMES
cdef tuple status_names = STATUS_NAMES
cdef dict check_names = CHECK_NAMES
cdef dict perm_bits = PERM_BITS
cdef dict perm_names = PERM_NAMES
cdef dict kind_bits = KIND_BITS

cdef dict NEEDS = {           # what a frame check wanted of the frame's owner
    "page_map": "free", "claim": "free", "release": "hypervisor", "hv_read": "hypervisor, free or shared",
    "hv_write": "hypervisor or shared", "dma_read": "hypervisor or shared", "dma_write": "hypervisor or shared",
    "set_npt_root": "h-svm alone chooses a root",
}


# Reading fields: True if the value has the field's type and range

cdef inline bint whole(object value, uint64_t low, uint64_t high, uint64_t *out) except -1:
    """An integer (no boolean) in [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    if value < low or value > high:
        return False
    out[0] = value
    return True


cdef inline int nibble(uint32_t c) noexcept nogil:
    if 48 <= c <= 57:
        return c - 48
    return c - 87 if 97 <= c <= 102 else -1


cdef bint hex_bytes(object value, Args *a) except -1:
    """1 to 4096 bytes in lower-case hex."""
    cdef str text
    cdef Py_ssize_t i
    cdef int high, low
    if not isinstance(value, str):
        return False
    text = value
    if not 2 <= len(text) <= 2 * PAGE or len(text) % 2:
        return False
    for i in range(len(text) // 2):
        high, low = nibble(text[2 * i]), nibble(text[2 * i + 1])
        if high < 0 or low < 0:
            return False
        a.data[i] = <uint8_t>(high << 4 | low)
    a.length = <uint32_t>(len(text) // 2)
    return True


cdef bint register_values(object value, Args *a) except -1:
    cdef object place
    if not isinstance(value, dict):
        return False
    a.named = 0
    for name, number in value.items():
        place = register_place.get(name) if isinstance(name, str) else None
        if place is None or not whole(number, 0, 0xFFFFFFFFFFFFFFFF, &a.registers[<int>place]):
            return False
        a.named |= 1 << <int>place
    return True


cdef list runs_of(uint16_t *owner, uint32_t count, dict names):
    """Run-length list [first, count, owner]."""
    cdef uint32_t i, start = 0
    cdef list out = []
    for i in range(1, count + 1):
        if i == count or owner[i] != owner[start]:
            out.append([start, i - start, names.get(owner[start], "vm:0")])
            start = i
    return out


cdef bint list_leaf(void *context, Leaf *leaf) noexcept nogil:
    with gil:
        (<list>context).append([leaf.gpn, leaf.mfn, leaf.size, perm_names[leaf.perm]])
    return False


# Columns of tlb(): the order is that of TlbRow
TLB_COLUMNS = numpy.dtype([
    ("core", "<u2"), ("level", "u1"), ("valid", "u1"), ("set", "<u4"), ("way", "u1"), ("dim", "u1"), ("perm", "u1"),
    ("state", "u1"), ("slot", "<u2"), ("age", "<u2"), ("size", "<u4"), ("mfn", "<u4"), ("cr3", "<u8"), ("vpn", "<u8"),
])

cdef packed struct TlbRow:
    uint16_t core
    uint8_t level
    uint8_t valid
    uint32_t set_
    uint8_t way
    uint8_t dim
    uint8_t perm
    uint8_t state
    uint16_t slot
    uint16_t age
    uint32_t size
    uint32_t mfn
    uint64_t cr3
    uint64_t vpn


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
    """(sets, ways) of both levels, from `{"l1": {"sets", "ways"}, "l2": {...}}`; missing ones as in engine.md section 6."""
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
        PyBuffer_FillInfo(buffer, self, self.machine.host.frames.owner, <Py_ssize_t>self.machine.host.frames.count * 2, 1, flags)


cdef class Machine:
    """One simulated host. See machine.pyi for the contract of every method."""
    cdef Host host
    cdef Args args
    cdef Out out
    cdef bint running             # a trace runs without the interpreter's lock
    cdef readonly str architecture
    cdef readonly uint64_t seed
    cdef dict settings            # what the constructor was given, in canonical form
    cdef object costs
    cdef object __weakref__
    cdef readonly object hypervisor
    cdef readonly object guest
    cdef readonly object device
    cdef readonly object physical

    def __cinit__(self, *args, **kwargs):
        memset(&self.host, 0, sizeof(Host))

    def __init__(self, frames, hypervisor_frames, protected_frames, cores=1, architecture="hsvm", seed=0, options={},
                 tlb={}, costs={}):
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
        skip = self._skip(options)
        geometry = _geometry(tlb)
        for name, cycles in _keys("costs", costs, row.costs).items():
            _integer(f"costs.{name}", cycles, 0, 1 << 40)
        self.architecture = architecture
        self.seed = seed
        self.settings = {
            "frames": frames, "hypervisor_frames": hypervisor_frames, "protected_frames": protected_frames, "cores": cores,
            "architecture": architecture, "seed": seed, "options": {"skip": skip} if skip else {},
            "tlb": {"l1": {"sets": geometry[0], "ways": geometry[1]}, "l2": {"sets": geometry[2], "ways": geometry[3]}},
            "costs": dict(costs),
        }
        self.costs = {name: cost.cycles for name, cost in row.costs.items()} | costs
        self._open(row, set(row.checks()) - set(skip), geometry)
        self.hypervisor = HypervisorPort(self)
        self.guest = GuestPort(self)
        self.device = DevicePort(self)
        self.physical = PhysicalPort(self)

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
        h.cores = self.settings["cores"]
        h.reuse_handles = row.handles_reused
        h.checks = sum(1 << CHECK_NUMBERS[name] for name in checks)
        h.core = <Core *>calloc(h.cores, sizeof(Core))
        h.vm = <Vm **>calloc(MAX_SLOT + 1, sizeof(Vm *))
        h.generation = <uint64_t *>calloc(MAX_SLOT + 1, sizeof(uint64_t))
        h.vm_end = FIRST_VM
        if not (h.core and h.vm and h.generation and journal_open(&h.journal) and tlb_open(&h.tlb, h.cores, shape)
                and frames_open(&h.frames, frames, self.settings["hypervisor_frames"], self.settings["protected_frames"],
                                &h.journal)):
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
        cdef int number = UNKNOWN_ROW
        cdef Status_t status = E_INPUT
        cdef Row *row
        cdef bint read = False
        self._idle()
        if not frames_reserve(&self.host.frames, 128) or not tlb_reserve(&self.host.tlb):
            raise MemoryError
        self.host.journal.op += 1
        memset(&self.out, 0, <char *>&self.out.registers - <char *>&self.out)
        self.out.bad_mfn = NO_FRAME
        if isinstance(op, dict):
            name = (<dict>op).get("op")
            if isinstance(name, str):
                number = row_of.get(name, UNKNOWN_ROW)
        if number != UNKNOWN_ROW:
            row = &rows[number]
            read = len(<dict>op) == row.count + 1 and self._read(row, <dict>op)
            if read:
                with nogil:
                    status = row.call(&self.host, &self.args, &self.out)
        self._note(number, status, read)
        return self._result(number, status)

    cdef bint _read(self, Row *row, dict op) except -1:
        """Check every field by type and range; False is E_INPUT."""
        cdef int i
        for i in range(row.count):
            value = op.get(field_name[row.fields[i]], self)       # self: no field has it as a value
            if not self._field(row.fields[i], value):
                return False
        return True

    cdef bint _field(self, int which, object value) except -1:
        cdef Args *a = &self.args
        cdef uint64_t n = 0
        if which == VM:
            return whole(value, 0, 0xFFFFFFFFFFFFFFFF, &a.vm)
        if which == GPN:
            return whole(value, 0, 0xFFFFFFFFF, &a.gpn)
        if which == GPA:
            return whole(value, 0, 0xFFFFFFFFFFFF, &a.gpa)
        if which == GVA:
            return whole(value, 0, 0xFFFFFFFFFFFF, &a.gva)
        if which == DATA:
            return hex_bytes(value, a)
        if which == REGS:
            return register_values(value, a)
        if which == PERM or which == KIND:
            n = (perm_bits if which == PERM else kind_bits).get(value, 0) if isinstance(value, str) else 0
            if which == PERM:
                a.perm = <uint32_t>n
            else:
                a.kind = <uint32_t>n
            return n != 0
        if which == PAGES:                # no upper limit is stated: more than a VM can have is all it has
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                return False
            a.pages = min(value, 1 << 40)
            return True
        if which == MFN:
            if not whole(value, 0, self.host.frames.count - 1, &n):
                return False
            a.mfn = <uint32_t>n
        elif which == CORE:
            if not whole(value, 0, self.host.cores - 1, &n):
                return False
            a.core = <uint32_t>n
        elif which == SIZE:
            if not whole(value, 1, HUGE, &n) or 1 < n < HUGE:
                return False
            a.size = <uint32_t>n
        elif which == VCPUS:
            if not whole(value, 1, 64, &n):
                return False
            a.vcpus = <uint32_t>n
        elif which == VCPU:
            if not whole(value, 0, 63, &n):
                return False
            a.vcpu = <uint32_t>n
        elif which == OFFSET:
            if not whole(value, 0, PAGE - 1, &n):
                return False
            a.offset = <uint32_t>n
        elif which == LENGTH:
            if not whole(value, 1, PAGE, &n):
                return False
            a.length = <uint32_t>n
        elif which == DEVICE:
            if not whole(value, 0, 65535, &n):
                return False
            a.device = <uint32_t>n
        return True

    cdef void _note(self, int number, Status_t status, bint read):
        """Write the operation's event."""
        cdef Event *e = journal_event(&self.host.journal)
        cdef int i, which
        e.kind = <uint8_t>number
        e.status = <uint8_t>status
        e.check = <uint8_t>self.out.check
        e.zeroed = self.out.zeroed
        e.shot = self.out.shot
        self.host.counts.shot += self.out.shot
        e.gpn = ~<uint64_t>0
        e.mfn = NO_FRAME
        e.core = NO_FRAME
        if not read:
            return
        for i in range(rows[number].count):
            which = rows[number].fields[i]
            if which == VM:
                e.vm = self.args.vm
            elif which == GPN:
                e.gpn = self.args.gpn
            elif which == MFN:
                e.mfn = self.args.mfn
            elif which == CORE:
                e.core = self.args.core
                if e.vm == 0 and self.host.core[e.core].vm != NULL:
                    e.vm = self.host.core[e.core].vm.handle
            elif which == PAGES:
                e.amount = self.args.pages
        if rows[number].results[0] == VM_OUT:
            e.vm = self.out.vm
        elif rows[number].results[0] == RELEASED:
            e.amount = self.out.released

    cdef dict _result(self, int number, Status_t status):
        cdef dict result = {"status": status_names[<int>status]}
        cdef int i
        if status == OK:
            for i in range(3):
                if rows[number].results[i] == 0:
                    break
                self._add_result(result, rows[number].results[i])
        if self.out.check != NO_CHECK and status != OK:
            result["check"] = check_names[<int>self.out.check]
            result["inputs"] = self._inputs(number)
        return result

    cdef void _add_result(self, dict result, int which) except *:
        cdef Out *o = &self.out
        cdef int i
        if which == VM_OUT:
            result["vm"] = o.vm
        elif which == RELEASED:
            result["released"] = o.released
        elif which == DATA_OUT:
            result["data"] = (<char *>o.data)[:o.length].hex()
        elif which == LOCATED:
            result["mfn"] = o.mfn
            result["offset"] = o.offset
        elif which == DONE:
            result["done"] = o.done
        elif which == REGS_OUT:
            result["registers"] = {register_names[i]: o.registers[i] for i in range(REGISTERS)}
        elif which == REACHED:
            result["gpa"] = o.gpa
            result["mfn"] = o.mfn
            result["hit"] = hits[o.hit]
            result["references"] = o.references

    cdef dict _inputs(self, int number):
        """What the refusing check looked at."""
        cdef dict inputs = {}
        cdef int i, which
        for i in range(rows[number].count):
            which = rows[number].fields[i]
            if which == VM:
                inputs["vm"] = self.args.vm
            elif which == VCPU:
                inputs["vcpu"] = self.args.vcpu
            elif which == GPN:
                inputs["gpn"] = self.args.gpn
        inputs["requester"] = f"device:{self.args.device}" if rows[number].fields[0] == DEVICE else "hypervisor"
        if self.out.bad_mfn != NO_FRAME:
            inputs["mfn"] = self.out.bad_mfn
            inputs["owner"] = self._owner_names().get(self.out.bad_owner, "vm:0")
            inputs["need"] = NEEDS[row_names[number]]
        return inputs

    # Traces

    def run_trace(self, core, addresses, kinds, limit=None):
        cdef const uint64_t[::1] where
        cdef const uint8_t[::1] what
        cdef uint64_t count, done = 0
        cdef uint64_t[6] by_kind
        cdef uint64_t[3] of_kind
        cdef uint64_t n = 0, i
        cdef Status_t status = E_INPUT
        cdef Translation x
        cdef Tally tally
        cdef Core *c
        self._idle()
        try:
            where = addresses
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"addresses: must be a contiguous buffer of uint64: {error}") from None
        try:
            what = kinds
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"kinds: must be a contiguous buffer of uint8: {error}") from None
        if where.shape[0] != what.shape[0]:
            raise ValueError("kinds: must be as long as addresses")
        count = where.shape[0]
        if limit is not None:
            count = min(count, _integer("limit", limit, 0, (1 << 63) - 1))
        memset(&tally, 0, sizeof(tally))
        memset(&x, 0, sizeof(x))
        memset(by_kind, 0, sizeof(by_kind))
        memset(of_kind, 0, sizeof(of_kind))
        if not tlb_reserve(&self.host.tlb):
            raise MemoryError
        self.out.check = NO_CHECK
        self.out.zeroed = self.out.shot = 0
        if whole(core, 0, self.host.cores - 1, &n):
            c = &self.host.core[n]
            status = E_STATE if c.vm == NULL else OK
            if status == OK and count:
                self.running = True
                with nogil:
                    done = trace(&self.host.frames, &self.host.tlb, <uint32_t>n, &c.mmu, &where[0], &what[0], count, &status,
                                 &x, &tally, by_kind)
                    for i in range(done):
                        of_kind[what[i]] += 1
                self.running = False
                c.vm.tally.l1 += tally.l1
                c.vm.tally.l2 += tally.l2
                c.vm.tally.miss += tally.miss
                c.vm.tally.faults += tally.faults
                c.vm.tally.references += tally.references
        # each access is one operation number, the one that faulted too; a call without any still has its own
        self.host.journal.op += max(done + (status != OK), 1)
        self._note(TRACE_ROW, status, False)
        result = {
            "done": done, "status": status_names[<int>status], "gva": None, "gpa": None, "l1": tally.l1, "l2": tally.l2,
            "miss": tally.miss, "references": tally.references,
            "kinds": {name: {"l1": of_kind[i] - by_kind[2 * i] - by_kind[2 * i + 1], "l2": by_kind[2 * i],
                             "miss": by_kind[2 * i + 1]} for i, name in enumerate("rwx")},
        }
        if status >= F_NOT_PRESENT:
            result["gva"] = where[done]
            result["gpa"] = None if x.guest_fault else x.fault_gpa
        return result

    def walk(self, core, gva):
        cdef Reference[MAX_REFERENCES] log
        cdef Translation x
        cdef uint64_t n = 0, address = 0
        cdef Status_t status
        cdef Core *c
        cdef uint32_t i
        self._idle()
        if not whole(core, 0, self.host.cores - 1, &n) or not whole(gva, 0, 0xFFFFFFFFFFFF, &address):
            return {"status": "E_INPUT", "gpa": None, "mfn": None, "references": []}
        c = &self.host.core[n]
        if c.vm == NULL:
            return {"status": "E_STATE", "gpa": None, "mfn": None, "references": []}
        status = guest_walk(&self.host.frames, c.mmu.root, c.mmu.cr3, address, 0, &x, log)
        references = [
            {"order": i + 1, "stage": "nested" if log[i].nested_level else "guest", "guest_level": log[i].guest_level,
             "nested_level": log[i].nested_level, "mfn": log[i].mfn, "offset": log[i].offset,
             "entry": f"0x{log[i].entry:016x}", "perm": perm_names[log[i].perm], "skipped": False}
            for i in range(x.references)
        ]
        return {
            "status": status_names[<int>status],
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

    cdef dict _owner_names(self):
        cdef dict names = {FREE: "free", HYPERVISOR: "hypervisor", HSVM: "hsvm"}
        cdef uint32_t slot
        for slot in range(FIRST_VM, self.host.vm_end):
            if self.host.vm[slot] != NULL:
                names[slot] = f"vm:{self.host.vm[slot].handle}"
        return names

    def slot_of(self, handle):
        cdef uint64_t n = 0
        cdef Vm *vm = vm_find(&self.host, n) if whole(handle, 1, 0xFFFFFFFFFFFFFFFF, &n) else NULL
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
        cdef uint64_t since = _integer("since_op", since_op, 0, (1 << 64) - 1)
        cdef uint64_t total
        cdef uint32_t[::1] view
        self._idle()
        if since < self.host.journal.changes_lost:
            raise ValueError(f"since_op: the journal starts after operation {self.host.journal.changes_lost}")
        total = changed_total(&self.host.journal, since)
        if total == 0:
            return numpy.empty(0, dtype=numpy.uint32)
        frames = numpy.empty(2 * total, dtype=numpy.uint32)
        view = frames
        total = changed_frames(&self.host.journal, since, &view[0])
        return frames[:total]

    def tlb(self, core=None):
        cdef uint32_t first = 0, end = self.host.cores, c, which
        cdef uint64_t n = 0, rows_wanted = 0
        cdef uint8_t[::1] view
        cdef TlbRow *row
        self._idle()
        if core is not None:
            first = _integer("core", core, 0, self.host.cores - 1)
            end = first + 1
        for which in range(2 * first, 2 * end):
            rows_wanted += <uint64_t>self.host.tlb.level[which].sets * self.host.tlb.level[which].ways
        table = numpy.zeros(rows_wanted, dtype=TLB_COLUMNS)
        view = table.view(numpy.uint8)
        row = <TlbRow *>&view[0]
        for which in range(2 * first, 2 * end):
            row = self._tlb_level(which, row)
        return table

    cdef TlbRow *_tlb_level(self, uint32_t which, TlbRow *row) noexcept:
        """Fill the rows of one level and return the next row."""
        cdef Level *level = &self.host.tlb.level[which]
        cdef uint32_t s, w, space
        cdef uint64_t place, tag
        cdef Vm *vm
        for s in range(level.sets):
            for w in range(level.ways):
                place = <uint64_t>s * level.ways + w
                tag = level.tag[place]
                row.core = <uint16_t>(which / 2)
                row.level = 1 + <uint8_t>(which & 1)
                row.set_ = s
                row.way = <uint8_t>w
                if tag:
                    space = (tag >> 1) & 0x7FFFFFF
                    vm = vm_find(&self.host, self.host.tlb.space[space].handle)
                    row.valid = 1
                    row.cr3 = self.host.tlb.space[space].cr3
                    row.dim = 2 if row.cr3 else 1
                    row.slot = <uint16_t>vm.slot if vm != NULL else 0
                    row.size = HUGE if tag & 1 else 1
                    row.vpn = tag >> 28 << (9 if tag & 1 else 0)
                    row.mfn = level.data[place] >> 4
                    row.perm = <uint8_t>(level.data[place] & 7)
                    row.age = <uint16_t>((level.turn[s] + level.ways - 1 - w) % level.ways)
                    row.state = 0 if entry_agrees(&self.host, which, place, True) else 1
                row += 1
        return row

    def events(self, since_op):
        cdef uint64_t since = _integer("since_op", since_op, 0, (1 << 64) - 1)
        cdef uint64_t i = self.host.journal.events
        cdef uint64_t stop = i - EVENTS if i > EVENTS else 0
        cdef list out = []
        self._idle()
        if since < self.host.journal.events_lost:
            raise ValueError(f"since_op: the journal starts after operation {self.host.journal.events_lost}")
        while i > stop and self.host.journal.event[(i - 1) & (EVENTS - 1)].op > since:
            i -= 1
            out.append(self._event(&self.host.journal.event[i & (EVENTS - 1)]))
        out.reverse()
        return out

    cdef dict _event(self, Event *e):
        cdef dict out = {
            "op": e.op, "kind": row_names[e.kind] if e.kind != UNKNOWN_ROW else "unknown", "status": status_names[e.status],
            "check": check_names.get(e.check), "vm": e.vm if e.vm else None,
            "gpn": e.gpn if e.gpn != ~<uint64_t>0 else None, "mfn": e.mfn if e.mfn != NO_FRAME else None,
            "core": e.core if e.core != NO_FRAME else None, "amount": e.amount, "zeroed": e.zeroed, "shot": e.shot,
        }
        return out

    def counters(self):
        cdef Host *h = &self.host
        cdef uint32_t slot
        cdef Tally total = h.tally
        cdef list vms = []
        self._idle()
        for slot in range(FIRST_VM, h.vm_end):
            if h.vm[slot] == NULL:
                continue
            t = h.vm[slot].tally
            total.l1 += t.l1
            total.l2 += t.l2
            total.miss += t.miss
            total.faults += t.faults
            total.references += t.references
            vms.append({"handle": h.vm[slot].handle, "slot": slot, "frames": h.frames.owned[slot], **self._tally(t)})
        cost = self.costs
        cycles = (
            (total.l1 + total.l2 + total.miss) * cost["access"] + total.l2 * cost["l2_hit"]
            + total.references * cost["walk_reference"] + h.counts.maps * (cost["map"] + cost["owner_check"])
            + h.counts.unmaps * cost["unmap"] + h.counts.zeroed * cost["zero"] + h.counts.shootdowns * cost["shootdown"]
            + h.counts.switches * cost["world_switch"]
        )
        names = self._owner_names()
        return {
            "op": h.journal.op, **self._tally(total), "cycles": cycles, "maps": h.counts.maps, "unmaps": h.counts.unmaps,
            "zeroed": h.counts.zeroed, "world_switches": h.counts.switches, "shootdowns": h.counts.shootdowns,
            "shot": h.counts.shot, "vms": vms, "owners": {name: h.frames.owned[slot] for slot, name in names.items()},
        }

    cdef dict _tally(self, Tally t):
        return {"accesses": t.l1 + t.l2 + t.miss, "l1": t.l1, "l2": t.l2, "miss": t.miss, "faults": t.faults,
                "references": t.references}

    # State as a whole

    def dump(self):
        cdef Host *h = &self.host
        cdef uint32_t slot, i, n = 0
        cdef uint32_t *frames
        cdef dict leaves = {}
        cdef list vms = [], cores = [], nonzero = [], found
        self._idle()
        for slot in range(FIRST_VM, h.vm_end):
            if h.vm[slot] == NULL:
                continue
            found = []
            if h.visited != NULL:
                memset(h.visited, 0, h.frames.count / 8 + 1)
            each_leaf(&h.frames, h.vm[slot].root, 4, 0, False, h.visited, list_leaf, <void *>found)
            leaves[h.vm[slot].handle] = found
            vms.append([h.vm[slot].handle, h.vm[slot].vcpus])
        for i in range(h.cores):
            if h.core[i].vm != NULL:
                cores.append([i, h.core[i].vm.handle, h.core[i].vcpu])
        frames = nonzero_frames(&h.frames, &n)
        try:
            nonzero = [frames[i] for i in range(n) if h.frames.owner[frames[i]] != HSVM]
        finally:
            free(frames)
        return {
            "owners": runs_of(h.frames.owner, h.frames.count, self._owner_names()), "leaves": leaves, "shared": [],
            "merged": [], "releasing": [], "swapped": [], "cores": cores, "vms": sorted(vms), "nonzero": nonzero,
        }

    def digest(self):
        self._idle()
        h = hashlib.sha256()
        for name, data in state_sections(&self.host):
            h.update(name + struct.pack("<Q", len(data)))
            h.update(data)
        return h.hexdigest()

    def check_invariants(self):
        self._idle()
        return check_host(&self.host)

    def snapshot(self):
        self._idle()
        config = json.dumps(self.settings, sort_keys=True).encode()
        sections = [*state_sections(&self.host), (b"CNTR", counter_section(&self.host))]
        body = zlib.compress(b"".join(name + struct.pack("<Q", len(data)) + data for name, data in sections), 1)
        head = b"HSVM" + struct.pack("<HI", FORMAT, len(config)) + config + body
        return head + hashlib.sha256(head).digest()

    @staticmethod
    def restore(data):
        cdef Machine machine
        config, sections = _unpack(data)
        counters = sections.pop(b"CNTR", None)
        if counters is None:
            raise ValueError("snapshot: section CNTR is missing")
        machine = Machine(**config)
        load_sections(&machine.host, sections)
        load_counters(&machine.host, counters)
        return machine


def _unpack(data):
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
    if not isinstance(config, dict) or set(config) != CONFIG_KEYS:
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
    if set(sections) != {b"OWNR", b"CONT", b"VMS ", b"CORE", b"TLBS", b"CNTR"}:
        raise ValueError("snapshot: its sections are not those of this version")
    return config, sections


CONFIG_KEYS = {"frames", "hypervisor_frames", "protected_frames", "cores", "architecture", "seed", "options", "tlb", "costs"}
