"""The tail: the last issues are not searched; all their combinations are looked up at once in tables of bits."""

from webapp.solver.domains cimport Problem

cdef make_tail(Problem *s)
cdef void tail_begin(Problem *s, int last) noexcept nogil
cdef bint tail_left(Problem *s, int last, int value) noexcept nogil
cdef bint next_combination(Problem *s, int *word) noexcept nogil
