"""Pages and VMs that leave the host sealed; each operation is one row of the table in calls.pyx."""

from hsvm_engine.core.context cimport Args, Host, Out, Status_t

cdef enum:
    HEAD = 16                 # bytes: magic of 8; then the version of a page, or the length of a VM
    NONCE = 12
    TAG = 16
    PAGE_IMAGE = 4141         # head, permission bits, nonce, page, tag

cdef Status_t swap_out(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t swap_in(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t export_vm(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t import_vm(Host *h, Args *a, Out *o) noexcept nogil
