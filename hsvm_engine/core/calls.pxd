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

cdef Row[32] rows

cdef bint whole(object value, uint64_t low, uint64_t high, uint64_t *out) except -1
cdef int call_number(object op)
cdef bint read_fields(int number, dict op, Host *h, Args *a) except -1
cdef dict result_of(int number, Status_t status, Host *h, Args *a, Out *o)
cdef void note_call(int number, Status_t status, bint read, Host *h, Args *a, Out *o) noexcept
cdef void note_trace(Host *h, uint32_t core, Status_t status, uint64_t done) noexcept
cdef str call_name(int number)
cdef dict owner_names(Host *h)
