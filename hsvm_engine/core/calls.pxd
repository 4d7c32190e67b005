"""From a dict to an operation and back: one row per operation."""

from hsvm_engine.core.context cimport Args, Host, Operation, Out
from hsvm_engine.core.types cimport Status_t, uint8_t, uint32_t, uint64_t

cdef enum:
    UNKNOWN = 255             # number of no operation
    TRACE = 254               # number under which events book a trace

cdef struct Row:
    Operation call
    int[6] field              # the fields' codes
    int fields
    int[4] result             # the results' codes
    int results
    bint validated            # an SMI where a handler validates it
    bint of_tables            # may change nested tables or roots

cdef struct Columns:          # the fields of many operations of one name; what is no column stands in Args
    uint64_t count
    const uint64_t *gpn
    const uint64_t *mfn
    const uint64_t *vm
    uint8_t *image
    uint64_t room             # bytes

cdef Row[64] rows

cdef Columns columns_of(int number, object columns, Host *h, Args *a) except *
cdef bint element_of(Columns *c, uint64_t i, Host *h, Args *a, Out *o) noexcept nogil
cdef int swap_out_number() noexcept nogil

cdef bint whole(object value, uint64_t low, uint64_t high, uint64_t *out) except -1
cdef int call_number(object op) except -1
cdef bint read_fields(int number, dict op, Host *h, Args *a) except -1
cdef dict result_of(int number, Status_t status, Host *h, Args *a, Out *o)
cdef void note_call(int number, Status_t status, bint read, Host *h, Args *a, Out *o) noexcept nogil
cdef void note_trace(Host *h, uint32_t core, Status_t status, uint64_t done, uint64_t fills,
                     uint64_t evictions) noexcept
cdef str call_name(int number)
cdef dict owner_names(Host *h)
