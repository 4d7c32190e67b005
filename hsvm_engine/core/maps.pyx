"""The owner that has most frames of each cell of a map; the loop is plain C in maps.h."""

import numpy

from hsvm_engine.core.types cimport uint64_t

cdef extern from "maps.h" nogil:
    int map_dominant(const uint16_t *frame, uint64_t frames, uint64_t cells, uint16_t *out)


cdef uint64_t side(str name, object value) except 0:
    if type(value) is not int or not 1 <= value <= 1 << 28:
        raise ValueError(f"{name}: must be an integer from 1 to {1 << 28}")
    return value


cpdef object dominant(const uint16_t[::1] owners, object width, object height):
    """See maps.pyi."""
    cdef uint64_t across = side("width", width), down = side("height", height)
    cdef uint64_t frames = <uint64_t>owners.shape[0], cells = across * down
    cdef uint16_t[:, ::1] out
    cdef int done
    if cells > frames:
        raise ValueError(f"width, height: {cells} cells, but there are {frames} frames")
    slots = numpy.empty((down, across), dtype=numpy.uint16)
    out = slots
    with nogil:
        done = map_dominant(&owners[0], frames, cells, &out[0, 0])
    if not done:
        raise MemoryError
    return slots
