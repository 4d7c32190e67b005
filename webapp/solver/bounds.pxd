"""Upper bounds of a node's objective; they prune only what certainly cannot be the answer."""

from libc.stdint cimport int64_t

from webapp.solver.domains cimport Problem, Stage

cdef double MARGIN

cdef bint promising(Problem *s, Stage stage) noexcept nogil
cdef double log_of(Problem *s, const int64_t *utility) noexcept nogil
cdef double node_bound(Problem *s, Stage stage) noexcept nogil
cdef void choose_multipliers(Problem *s) noexcept nogil
cdef void choose_slope(Problem *s, double floor) noexcept nogil
cdef void prepare(Problem *s, Stage stage) noexcept nogil
