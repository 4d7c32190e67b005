"""The map that a screen shows of a host too big for one pixel a frame."""

from hsvm_engine.core.types cimport uint16_t

cpdef object dominant(const uint16_t[::1] owners, object width, object height)
