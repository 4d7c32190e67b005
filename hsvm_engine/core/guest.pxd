"""Operations of the guest's and the devices' ports; each is one row of the table in machine.pyx."""

from hsvm_engine.core.context cimport Args, Host, Out, Status_t

cdef Status_t guest_read(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_write(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_fetch(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_map(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_unmap(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_access(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_flush(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_registers(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_set_registers(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t dma_read(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t dma_write(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t cold_boot_read(Host *h, Args *a, Out *o) noexcept nogil
