"""The operation table's machine side.

Names, fields and results stand once, in hsvm_engine/operations.py; here each name meets its function, and each field
and result its C value.
"""

from libc.string cimport memset

from hsvm_engine.core.context cimport Vm
from hsvm_engine.core.guest cimport (
    dma_read, dma_write, guest_access, guest_fetch, guest_flush, guest_map, guest_read, guest_registers,
    guest_set_registers, guest_unmap, guest_write,
)
from hsvm_engine.core.hypervisor cimport (
    balloon, claim, context_restore, context_save, create_vm, delete_vm, hv_flush, hv_read, hv_read_context,
    hv_write, hv_write_context, npt_locate, page_map, page_unmap, release, set_npt_root,
)
from hsvm_engine.core.journal cimport Event, journal_event
from hsvm_engine.core.types cimport (
    FIRST_VM, FREE, HSVM, HUGE, HYPERVISOR, MAX_VCPUS, NO_CHECK, NO_FRAME, OK, PAGE, REGISTERS,
)
from hsvm_engine.core.types import CHECK_NAMES, KIND_BITS, PERM_BITS, STATUS_NAMES
from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES

cdef enum Word:               # code of a field or result
    W_VM = 1
    W_GPN
    W_MFN
    W_PERM
    W_SIZE
    W_VCPUS
    W_VCPU
    W_CORE
    W_PAGES
    W_OFFSET
    W_LENGTH
    W_DATA
    W_GPA
    W_GVA
    W_KIND
    W_REGISTERS
    W_DEVICE
    W_RELEASED
    W_DONE
    W_HIT
    W_REFERENCES

cdef list word_names = [
    "", "vm", "gpn", "mfn", "perm", "size", "vcpus", "vcpu", "core", "pages", "offset", "length", "data", "gpa", "gva",
    "kind", "registers", "device", "released", "done", "hit", "references",
]
cdef dict numbers = {}
cdef list names = []
cdef dict register_places = {name: place for place, name in enumerate(REGISTER_NAMES)}
cdef tuple register_names = REGISTER_NAMES
cdef tuple status_names = STATUS_NAMES
cdef dict check_names = CHECK_NAMES
cdef dict perm_bits = PERM_BITS
cdef dict kind_bits = KIND_BITS
cdef tuple hit_names = ("", "l1", "l2", "miss")
cdef dict needs = {           # what a frame check wanted to find
    "page_map": "free", "claim": "free", "release": "hypervisor", "hv_read": "hypervisor, free or shared",
    "hv_write": "hypervisor or shared", "dma_read": "hypervisor or shared", "dma_write": "hypervisor or shared",
    "set_npt_root": "a root that h-svm made",
}


cdef void add(str name, Operation call) except *:
    """Give the operation of the public table its function."""
    cdef Row *row = &rows[len(names)]
    cdef int i
    memset(row, 0, sizeof(Row))
    row.call = call
    for i, word in enumerate(OPERATIONS[name].fields):
        row.field[i] = word_names.index(word)
    for i, word in enumerate(OPERATIONS[name].results):
        row.result[i] = word_names.index(word)
    row.fields = len(OPERATIONS[name].fields)
    row.results = len(OPERATIONS[name].results)
    numbers[name] = len(names)
    names.append(name)


add("create_vm", create_vm)
add("delete_vm", delete_vm)
add("page_map", page_map)
add("page_unmap", page_unmap)
add("balloon", balloon)
add("claim", claim)
add("release", release)
add("context_save", context_save)
add("context_restore", context_restore)
add("hv_read", hv_read)
add("hv_write", hv_write)
add("hv_read_context", hv_read_context)
add("hv_write_context", hv_write_context)
add("set_npt_root", set_npt_root)
add("hv_flush", hv_flush)
add("npt_locate", npt_locate)
add("guest_read", guest_read)
add("guest_write", guest_write)
add("guest_fetch", guest_fetch)
add("guest_map", guest_map)
add("guest_unmap", guest_unmap)
add("guest_access", guest_access)
add("guest_flush", guest_flush)
add("guest_registers", guest_registers)
add("guest_set_registers", guest_set_registers)
add("dma_read", dma_read)
add("dma_write", dma_write)
if set(names) != set(OPERATIONS):
    raise ImportError(f"operations without a function: {set(OPERATIONS) - set(names)}")


cdef int call_number(object op):
    """Row of the operation that a value asks for; UNKNOWN if it asks for none."""
    if not isinstance(op, dict):
        return UNKNOWN
    name = (<dict>op).get("op")
    return numbers.get(name, UNKNOWN) if isinstance(name, str) else UNKNOWN


cdef str call_name(int number):
    if number == TRACE:
        return "run_trace"
    return "unknown" if number == UNKNOWN else names[number]


# Reading fields: False is E_INPUT

cdef bint whole(object value, uint64_t low, uint64_t high, uint64_t *out) except -1:
    """An integer, no boolean, in [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low or value > high:
        return False
    out[0] = value
    return True


cdef inline bint small(object value, uint32_t low, uint32_t high, uint32_t *out) except -1:
    cdef uint64_t n = 0
    if not whole(value, low, high, &n):
        return False
    out[0] = <uint32_t>n
    return True


cdef inline int nibble(uint32_t c) noexcept nogil:
    if 48 <= c <= 57:
        return <int>c - 48
    return <int>c - 87 if 97 <= c <= 102 else -1


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
    cdef int place
    if not isinstance(value, dict):
        return False
    a.named = 0
    for name, number in value.items():
        place = register_places.get(name, -1) if isinstance(name, str) else -1
        if place < 0 or not whole(number, 0, 0xFFFFFFFFFFFFFFFFULL, &a.registers[place]):
            return False
        a.named |= 1 << place
    return True


cdef bint bits_of(object value, dict table, uint32_t *out) except -1:
    out[0] = table.get(value, 0) if isinstance(value, str) else 0
    return out[0] != 0


cdef bint read_field(int word, object value, Host *h, Args *a) except -1:
    """Check one field by type and range."""
    if word == W_VM:
        return whole(value, 0, 0xFFFFFFFFFFFFFFFFULL, &a.vm)
    if word == W_GPN:
        return whole(value, 0, 0xFFFFFFFFFULL, &a.gpn)
    if word == W_MFN:
        return small(value, 0, h.frames.count - 1, &a.mfn)
    if word == W_CORE:
        return small(value, 0, h.cores - 1, &a.core)
    if word == W_GPA:
        return whole(value, 0, 0xFFFFFFFFFFFFULL, &a.gpa)
    if word == W_GVA:
        return whole(value, 0, 0xFFFFFFFFFFFFULL, &a.gva)
    if word == W_LENGTH:
        return small(value, 1, PAGE, &a.length)
    if word == W_OFFSET:
        return small(value, 0, PAGE - 1, &a.offset)
    if word == W_DATA:
        return hex_bytes(value, a)
    if word == W_PERM:
        return bits_of(value, perm_bits, &a.perm)
    if word == W_KIND:
        return bits_of(value, kind_bits, &a.kind)
    if word == W_SIZE:
        return small(value, 1, HUGE, &a.size) and a.size in (1, HUGE)
    if word == W_VCPUS:
        return small(value, 1, MAX_VCPUS, &a.vcpus)
    if word == W_VCPU:
        return small(value, 0, MAX_VCPUS - 1, &a.vcpu)
    if word == W_REGISTERS:
        return register_values(value, a)
    if word == W_DEVICE:
        return small(value, 0, 65535, &a.device)
    # W_PAGES; no upper limit is stated: more than a VM can have is all that it has
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return False
    a.pages = min(value, 1 << 40)
    return True


cdef bint read_fields(int number, dict op, Host *h, Args *a) except -1:
    """Check every field, and that there is no other."""
    cdef Row *row = &rows[number]
    cdef int i
    if len(op) != row.fields + 1:
        return False
    for i in range(row.fields):
        name = word_names[row.field[i]]
        if name not in op or not read_field(row.field[i], op[name], h, a):
            return False
    return True


# Writing results

cdef dict owner_names(Host *h):
    """Owner slot -> the name that results and dumps use."""
    cdef dict found = {<int>FREE: "free", <int>HYPERVISOR: "hypervisor", <int>HSVM: "hsvm"}
    cdef uint32_t slot
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            found[slot] = f"vm:{h.vm[slot].handle}"
    return found


cdef object result_value(int word, Out *o):
    cdef int i
    if word == W_VM:
        return o.vm
    if word == W_RELEASED:
        return o.released
    if word == W_DONE:
        return o.done
    if word == W_DATA:
        return (<char *>o.data)[:o.length].hex()
    if word == W_MFN:
        return o.mfn
    if word == W_OFFSET:
        return o.offset
    if word == W_GPA:
        return o.gpa
    if word == W_HIT:
        return hit_names[o.hit]
    if word == W_REFERENCES:
        return o.references
    return {register_names[i]: o.registers[i] for i in range(REGISTERS)}        # W_REGISTERS


cdef dict refusal_inputs(int number, Host *h, Args *a, Out *o):
    """What the refusing check looked at."""
    cdef Row *row = &rows[number]
    cdef dict inputs = {"requester": f"device:{a.device}" if row.field[0] == W_DEVICE else "hypervisor"}
    cdef int i
    for i in range(row.fields):
        if row.field[i] == W_VM:
            inputs["vm"] = a.vm
        elif row.field[i] == W_VCPU:
            inputs["vcpu"] = a.vcpu
        elif row.field[i] == W_GPN:
            inputs["gpn"] = a.gpn
    if o.bad_mfn != NO_FRAME:
        inputs["mfn"] = o.bad_mfn
        inputs["owner"] = owner_names(h).get(o.bad_owner, "vm:0")
        inputs["need"] = needs[names[number]]
    return inputs


cdef dict result_of(int number, Status_t status, Host *h, Args *a, Out *o):
    """The result dict: results after OK, the check that refused otherwise."""
    cdef dict result = {"status": status_names[<int>status]}
    cdef int i
    if status == OK:
        for i in range(rows[number].results):
            result[word_names[rows[number].result[i]]] = result_value(rows[number].result[i], o)
    elif o.check != NO_CHECK:
        result["check"] = check_names[<int>o.check]
        result["inputs"] = refusal_inputs(number, h, a, o)
    return result


cdef void note_call(int number, Status_t status, bint read, Host *h, Args *a, Out *o) noexcept:
    """Write the operation's event; its fields only if they were right."""
    cdef Event *e = journal_event(&h.journal)
    cdef Row *row = &rows[number if read else 0]
    cdef Vm *vm
    cdef int i
    e.kind = <uint8_t>number
    e.status = <uint8_t>status
    e.check = <uint8_t>o.check
    e.zeroed = o.zeroed
    e.shot = o.shot
    e.vm = o.vm
    e.amount = o.released + o.done
    e.gpn = ~<uint64_t>0
    e.mfn = NO_FRAME
    e.core = NO_FRAME
    h.counts.shot += o.shot
    for i in range(row.fields if read else 0):
        if row.field[i] == W_VM:
            e.vm = a.vm
        elif row.field[i] == W_GPN:
            e.gpn = a.gpn
        elif row.field[i] == W_MFN:
            e.mfn = a.mfn
        elif row.field[i] == W_CORE:
            e.core = a.core
            vm = h.core[a.core].vm
            if e.vm == 0 and vm != NULL:
                e.vm = vm.handle


cdef void note_trace(Host *h, uint32_t core, Status_t status, uint64_t done) noexcept:
    """Write one event for all accesses of a trace."""
    cdef Event *e = journal_event(&h.journal)
    e.kind = TRACE
    e.status = <uint8_t>status
    e.amount = done
    e.gpn = ~<uint64_t>0
    e.mfn = NO_FRAME
    e.core = core
    if h.core[core].vm != NULL:
        e.vm = h.core[core].vm.handle
