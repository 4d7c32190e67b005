"""Operations of the hypervisor's port; each is one row of the operation table in machine.pyx."""

from hsvm_engine.core.context cimport Args, Host, Out, Status_t, Vm

cdef Status_t create_vm(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t delete_vm(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t page_map(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t page_unmap(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t balloon(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t claim(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t release(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t context_save(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t context_restore(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t hv_read(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t hv_write(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t hv_read_context(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t hv_write_context(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t set_npt_root(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t hv_flush(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t npt_locate(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t inject(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t preempt(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t delete_commit(Host *h, Vm *vm, Out *o) noexcept nogil
