"""Guest pages: how a leaf comes and goes, and the ordered release of its frame."""

from hsvm_engine.core.context cimport Host, Out, Vm
from hsvm_engine.core.paging cimport Leaf, Path
from hsvm_engine.core.types cimport Status_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef uint8_t *visited(Host *h) noexcept nogil
cdef uint8_t *visited_again(Host *h) noexcept nogil
cdef void own(Host *h, uint32_t mfn, uint16_t owner) noexcept nogil
cdef void wipe(Host *h, uint32_t mfn, Out *o) noexcept nogil
cdef void page_shoot(Host *h, Vm *vm, uint64_t gpn, Out *o) noexcept nogil
cdef Status_t must_own(Host *h, uint32_t mfn, uint16_t owner, Out *o) noexcept nogil
cdef uint32_t table_take(Host *h, Vm *vm, uint32_t mfn, uint32_t note) noexcept nogil
cdef uint32_t split(Host *h, Vm *vm, Path *path, uint64_t gpn, uint32_t *pool) noexcept nogil
cdef Status_t split_page(Host *h, Vm *vm, uint64_t gpn, Path *path) noexcept nogil
cdef bint is_merged(uint64_t entry) noexcept nogil
cdef void leaf_in(Host *h, Vm *vm, uint32_t table, uint32_t index, uint32_t mfn, uint64_t entry) noexcept nogil
cdef void leaf_out(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn) noexcept nogil
cdef void share_leaf(Host *h, Vm *vm, uint32_t table, uint32_t index, uint32_t perm) noexcept nogil
cdef Status_t release_page(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn, Out *o) noexcept nogil
cdef Status_t release_frame(Host *h, Vm *vm, uint64_t gpn, uint32_t mfn, Out *o) noexcept nogil
cdef Status_t release_huge(Host *h, Vm *vm, Leaf *leaf, Out *o) noexcept nogil
cdef uint32_t fault_stop(Host *h) noexcept nogil
cdef bint is_pending(Host *h, Vm *vm, uint64_t gpn) noexcept nogil
cdef void finish_pending(Host *h, Out *o) noexcept nogil
cdef uint32_t mark_place(Host *h, uint32_t slot, uint64_t gpn, uint64_t partner) noexcept nogil
cdef void mark_drop(Host *h, uint32_t slot, uint64_t gpn) noexcept nogil
