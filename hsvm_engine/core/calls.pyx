"""The operation table's machine side.

Names, fields and results stand once, in hsvm_engine/operations.py; here each name meets its function, and each field
and result its C value.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF
from libc.string cimport memcmp, memset

from hsvm_engine.core.context cimport ANY_PARTNER, MOST_PARTNERS, NO_PAGE, Vm
from hsvm_engine.core.guest cimport (
    cold_boot_read, dma_read, dma_write, guest_access, guest_fetch, guest_flush, guest_map, guest_read, guest_registers,
    guest_set_registers, guest_unmap, guest_write,
)
from hsvm_engine.core.hypervisor cimport (
    balloon, claim, context_restore, context_save, create_vm, delete_vm, hv_flush, hv_read, hv_read_context,
    hv_write, hv_write_context, inject, npt_locate, page_map, page_unmap, preempt, release, set_npt_root,
)
from hsvm_engine.core.journal cimport Event, journal_event
from hsvm_engine.core.sealing cimport PAGE_IMAGE, export_vm, import_vm, swap_in, swap_out
from hsvm_engine.core.sharing cimport guest_mergeable, guest_share, guest_unshare, merge, unmerge
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
    W_OTHER_VM
    W_OTHER_GPN
    W_IMAGE
    W_TARGET
    W_WITH
    W_VECTOR
    W_AFTER
    W_FREED

cdef list word_names = [
    "", "vm", "gpn", "mfn", "perm", "size", "vcpus", "vcpu", "core", "pages", "offset", "length", "data", "gpa", "gva",
    "kind", "registers", "device", "released", "done", "hit", "references", "other_vm", "other_gpn", "image", "target",
    "with", "vector", "after", "freed",
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
    "set_npt_root": "a root that h-svm made", "swap_in": "free", "unmerge": "free",
    "merge": "equal to the other, both guests willing",
}
# Operations that change tables or owners: where a handler validates them, each is an SMI.
cdef set validated = {
    "create_vm", "delete_vm", "page_map", "page_unmap", "balloon", "swap_out", "swap_in", "claim", "release",
    "export_vm", "import_vm", "merge", "unmerge",
}
cdef set of_tables = validated | {"set_npt_root", "guest_share", "guest_unshare"}


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
    row.validated = name in validated
    row.of_tables = name in of_tables
    numbers[name] = len(names)
    names.append(name)


add("create_vm", create_vm)
add("delete_vm", delete_vm)
add("page_map", page_map)
add("page_unmap", page_unmap)
add("balloon", balloon)
add("swap_out", swap_out)
add("swap_in", swap_in)
add("claim", claim)
add("release", release)
add("context_save", context_save)
add("context_restore", context_restore)
add("hv_read", hv_read)
add("hv_write", hv_write)
add("hv_read_context", hv_read_context)
add("hv_write_context", hv_write_context)
add("set_npt_root", set_npt_root)
add("export_vm", export_vm)
add("import_vm", import_vm)
add("merge", merge)
add("unmerge", unmerge)
add("hv_flush", hv_flush)
add("npt_locate", npt_locate)
add("inject", inject)
add("preempt", preempt)
add("guest_read", guest_read)
add("guest_write", guest_write)
add("guest_fetch", guest_fetch)
add("guest_map", guest_map)
add("guest_unmap", guest_unmap)
add("guest_access", guest_access)
add("guest_flush", guest_flush)
add("guest_registers", guest_registers)
add("guest_set_registers", guest_set_registers)
add("guest_share", guest_share)
add("guest_unshare", guest_unshare)
add("guest_mergeable", guest_mergeable)
add("dma_read", dma_read)
add("dma_write", dma_write)
add("cold_boot_read", cold_boot_read)
if set(names) != set(OPERATIONS):
    raise ImportError(f"operations without a function: {set(OPERATIONS) - set(names)}")


cdef int call_number(object op) except -1:
    """Row of the operation that a value asks for; UNKNOWN if it asks for none. Only plain dicts with words for keys."""
    if type(op) is not dict or len(<dict>op) > 8:
        return UNKNOWN
    for key in <dict>op:
        if type(key) is not str:
            return UNKNOWN
    name = (<dict>op).get("op")
    return numbers.get(name, UNKNOWN) if type(name) is str else UNKNOWN


cdef str call_name(int number):
    if number == TRACE:
        return "run_trace"
    return "unknown" if number == UNKNOWN else names[number]


# Reading fields: False is E_INPUT

cdef bint whole(object value, uint64_t low, uint64_t high, uint64_t *out) except -1:
    """An integer, no boolean and of no other subclass, in [low, high]."""
    if type(value) is not int or value < low or value > high:
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


cdef bint from_hex(str text, Py_ssize_t count, uint8_t *out) noexcept:
    """The bytes of lower-case hex."""
    cdef Py_ssize_t i
    cdef int high, low
    for i in range(count):
        high, low = nibble(text[2 * i]), nibble(text[2 * i + 1])
        if high < 0 or low < 0:
            return False
        out[i] = <uint8_t>(high << 4 | low)
    return True


cdef bint hex_bytes(object value, Args *a) except -1:
    """1 to 4096 bytes in lower-case hex."""
    if type(value) is not str or not 2 <= len(value) <= 2 * PAGE or len(value) % 2:
        return False
    a.length = <uint32_t>(len(value) // 2)
    return from_hex(value, a.length, a.data)


cdef bint image_bytes(object value, Host *h, Args *a) except -1:
    """An image in lower-case hex; what no image of this host can be is refused before it takes memory."""
    cdef uint8_t[16] head
    cdef uint64_t length
    cdef bytes room
    if type(value) is not str or len(value) < 32 or len(value) % 2 or not from_hex(value, 16, head):
        return False
    length = <uint64_t>len(value) // 2
    if memcmp(head, b"HSVMSWAP", 8) == 0:
        if length != PAGE_IMAGE:
            return False
    elif memcmp(head, b"HSVMVMIM", 8) or (<uint64_t *>(head + 8))[0] != length:
        return False
    elif length > <uint64_t>h.frames.count * (PAGE + 16) + 65536:
        return False
    room = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length)
    if not from_hex(value, <Py_ssize_t>length, <uint8_t *>PyBytes_AS_STRING(room)):
        return False
    Py_INCREF(room)
    a.image_object = <void *>room
    a.image = <const uint8_t *>PyBytes_AS_STRING(room)
    a.image_length = length
    return True


cdef bint partner_handles(object value, Args *a) except -1:
    """`none`, `any`, or a list of handles."""
    cdef uint32_t i = 0
    a.partners = 0
    if type(value) is str:
        if value == "any":
            a.partners = 1
            a.partner[0] = ANY_PARTNER
        return value in ("any", "none")
    if type(value) is not list or len(value) > MOST_PARTNERS:
        return False
    for handle in value:
        if not whole(handle, 0, 0xFFFFFFFFFFFFFFFFULL, &a.partner[i]):
            return False
        i += a.partner[i] != ANY_PARTNER         # nobody has the handle 0
    a.partners = i
    return True


cdef bint register_values(object value, Args *a) except -1:
    cdef int place
    if type(value) is not dict:
        return False
    a.named = 0
    for name, number in (<dict>value).items():
        place = register_places.get(name, -1) if type(name) is str else -1
        if place < 0 or not whole(number, 0, 0xFFFFFFFFFFFFFFFFULL, &a.registers[place]):
            return False
        a.named |= 1 << place
    return True


cdef bint bits_of(object value, dict table, uint32_t *out) except -1:
    out[0] = table.get(value, 0) if type(value) is str else 0
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
    if word == W_OTHER_VM:
        return whole(value, 0, 0xFFFFFFFFFFFFFFFFULL, &a.other_vm)
    if word == W_OTHER_GPN:
        return whole(value, 0, 0xFFFFFFFFFULL, &a.other_gpn)
    if word == W_IMAGE:
        return image_bytes(value, h, a)
    if word == W_TARGET:
        return type(value) is str and len(value) == 32 and from_hex(value, 16, a.target)
    if word == W_WITH:
        return partner_handles(value, a)
    if word == W_VECTOR:
        return small(value, 0, 255, &a.vector)
    if word == W_AFTER:
        return whole(value, 1, <uint64_t>1 << 32, &a.after)
    # W_PAGES; no upper limit is stated: more than a VM can have is all that it has
    if type(value) is not int or value < 1:
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


# Many operations at once

BATCHES = ("page_map", "page_unmap", "swap_out", "swap_in", "claim", "release")
cdef int number_of_swap_out = numbers["swap_out"]


cdef int swap_out_number() noexcept nogil:
    return number_of_swap_out


cdef Columns columns_of(int number, object columns, Host *h, Args *a) except *:
    """Scalars into Args, arrays of uint64 (`gpn`, `mfn`, `vm`) as columns of one length. ValueError names the field."""
    cdef Columns c
    cdef const uint64_t[::1] view
    memset(&c, 0, sizeof(Columns))
    if number == UNKNOWN or names[number] not in BATCHES:
        raise ValueError(f"op: must be one of {', '.join(BATCHES)}")
    wanted = [name for name in OPERATIONS[names[number]].fields if name != "image"]
    if type(columns) is not dict or len(columns) != len(wanted) or not all(name in columns for name in wanted):
        raise ValueError(f"columns: must be a dict with {', '.join(wanted)}")
    length = None
    for name in wanted:
        value = columns[name]
        if type(value) is int or type(value) is str:
            if not read_field(word_names.index(name), value, h, a):
                raise ValueError(f"columns.{name}: out of range")
            continue
        if name not in ("gpn", "mfn", "vm"):
            raise ValueError(f"columns.{name}: must be one value")
        try:
            view = value
        except (TypeError, ValueError, BufferError) as error:
            raise ValueError(f"columns.{name}: must be a contiguous buffer of uint64: {error}") from None
        if length is not None and view.shape[0] != length:
            raise ValueError(f"columns.{name}: as long as the other columns")
        length = view.shape[0]
        if name == "gpn":
            c.gpn = &view[0] if length else NULL
        elif name == "mfn":
            c.mfn = &view[0] if length else NULL
        else:
            c.vm = &view[0] if length else NULL
    if length is None:
        raise ValueError("columns: one field at least must be an array")
    c.count = length
    return c


cdef bint element_of(Columns *c, uint64_t i, Host *h, Args *a, Out *o) noexcept nogil:
    """Put element `i` into Args; False is E_INPUT."""
    if c.vm != NULL:
        a.vm = c.vm[i]
    if c.gpn != NULL:
        a.gpn = c.gpn[i]
    if c.mfn != NULL:
        if c.mfn[i] >= h.frames.count:
            return False
        a.mfn = <uint32_t>c.mfn[i]
    if c.image != NULL:
        o.image = c.image + i * PAGE_IMAGE
        a.image = o.image
        a.image_length = PAGE_IMAGE
    return a.gpn >> 36 == 0 or c.gpn == NULL


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
    if word == W_MFN or word == W_FREED:
        return o.mfn
    if word == W_IMAGE:
        return (<bytes>o.image_object).hex()
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
    cdef dict inputs = {"requester": "hypervisor"}
    cdef int i
    if row.field[0] == W_DEVICE:
        inputs["requester"] = f"device:{a.device}"
    elif row.field[0] == W_CORE:
        inputs["requester"] = f"core:{a.core}"
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


cdef void note_call(int number, Status_t status, bint read, Host *h, Args *a, Out *o) noexcept nogil:
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
    e.filled = o.filled
    e.evicted = o.evicted
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
    if o.fault_gpa != NO_PAGE:
        e.gpn = o.fault_gpa >> 12


cdef void note_trace(Host *h, uint32_t core, Status_t status, uint64_t done, uint64_t fills,
                     uint64_t evictions) noexcept:
    """Write one event for all accesses of a trace."""
    cdef Event *e = journal_event(&h.journal)
    e.kind = TRACE
    e.status = <uint8_t>status
    e.amount = done
    e.filled, e.evicted = <uint32_t>fills, <uint32_t>evictions
    e.gpn = ~<uint64_t>0
    e.mfn = NO_FRAME
    e.core = core
    if h.core[core].vm != NULL:
        e.vm = h.core[core].vm.handle
