"""Snapshots read back."""

from hsvm_engine.core.context cimport Host

cdef tuple unpack(object data)
cdef void load_sections(Host *h, dict sections) except *
