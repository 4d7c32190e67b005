"""The tail: the last issues are not searched; all their combinations are looked up at once in tables of bits."""

from webapp.solver.domains cimport Problem

cdef make_tail(Problem *s)
cdef bint tail_left(Problem *s) noexcept nogil
cdef bint next_combination(Problem *s, int *word) noexcept nogil
