"""Multipliers of a node: is there still an outcome in which all parties together have what each needs?"""

from webapp.solver.domains cimport Problem

cdef bint squeeze(Problem *s, int steps) noexcept nogil
cdef void even_out(Problem *s) noexcept nogil
cdef void set_heads(Problem *s) noexcept nogil
