"""Operations by which pages are shared and merged; each is one row of the table in calls.pyx."""

from hsvm_engine.core.context cimport Args, Host, Out, Status_t

cdef Status_t guest_share(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_unshare(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t guest_mergeable(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t merge(Host *h, Args *a, Out *o) noexcept nogil
cdef Status_t unmerge(Host *h, Args *a, Out *o) noexcept nogil
