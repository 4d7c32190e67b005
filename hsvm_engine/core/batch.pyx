"""Traces: the batch loop of batch.h, and what it leaves to the general way.

The loop is compiled for several instruction sets; dispatch.h chooses one when this module is imported. They differ in
speed only. Environment variable HSVM_BATCH_LOOP names another.
"""

import os

from libc.string cimport memset

from hsvm_engine.core.frames cimport peek
from hsvm_engine.core.tlb cimport Level, translate
from hsvm_engine.core.types cimport E_INPUT, OK, hsvm_assert

cdef extern from "dispatch.h" nogil:
    enum:
        BATCH_LOOPS
    int batch_chosen
    ctypedef struct Batch:
        Tlb *tlb
        Level *level
        uint32_t core
        uint32_t space
        uint64_t cr3
        uint64_t frames
        uint32_t remember
        const uint64_t *addresses
        const uint8_t *kinds
        uint64_t count
        uint64_t[6] by_kind
        uint64_t[3] done
        uint64_t references
        uint64_t into_empty
        uint64_t slow_fills
        int status
        int bad_input
        uint32_t (*slow)(Batch *b, uint64_t i) noexcept nogil
        void *context
    const char *batch_name(int i)
    bint batch_usable(int i)
    uint64_t batch_run(Batch *b)
    void memo_begin(Tlb *t)
    void memo_keep(Tlb *t, int nested, uint64_t page, const uint8_t *table, uint32_t perm, uint32_t references)


cdef struct Run:              # what `one_access` needs beside the batch
    Frames *frames
    Mmu *mmu
    Translation *x
    Tally *tally


cdef void remember(Tlb *t, Frames *f, uint64_t vpn, uint64_t cr3, Translation *x) noexcept nogil:
    """Keep where a walk that succeeded found its level 1 tables; see memo.h."""
    if cr3:
        memo_keep(t, 0, vpn, peek(f, x.guest_table), x.guest_above, x.guest_references)
    if not x.nested_huge:
        memo_keep(t, 1, x.gpn, peek(f, x.table), x.above, 4)


cdef uint32_t one_access(Batch *b, uint64_t i) noexcept nogil:
    """One access of a trace by the general way."""
    cdef Run *r = <Run *>b.context
    cdef Tally part
    cdef uint64_t fills = b.tlb.fills
    memset(&part, 0, sizeof(part))
    b.status = translate(r.frames, b.tlb, b.core, r.mmu, b.space, b.addresses[i], 1 << b.kinds[i], r.x, &part)
    b.references += part.references
    b.slow_fills += b.tlb.fills - fills
    r.tally.faults += part.faults
    if b.status != OK:
        return 0
    if r.x.hit != 1:
        b.by_kind[2 * b.kinds[i] + (r.x.hit == 3)] += 1
    if r.x.hit == 3 and b.remember:
        remember(b.tlb, r.frames, b.addresses[i] >> 12, b.cr3, r.x)
    return r.x.perm


cdef uint64_t trace(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, const uint64_t *addresses, const uint8_t *kinds,
                    uint64_t count, Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) noexcept nogil:
    """Translate a list of accesses and stop at the first that faults; returns how many were done.

    Counts go to `tally` and, for each kind, second-level hits and misses to `by_kind[2 * kind]` and `[2 * kind + 1]`,
    all accesses to `by_kind[6 + kind]`.
    """
    cdef Batch b
    cdef Run r
    cdef uint64_t done, l2, miss, fills
    cdef uint32_t k
    r.frames, r.mmu, r.x, r.tally = f, mmu, x, tally
    memset(&b, 0, sizeof(b))
    b.tlb, b.core, b.space, b.cr3 = t, core, mmu.paged, mmu.cr3
    b.level = &t.level[2 * core]
    b.frames = f.count
    b.remember = t.cache == NULL and t.shadow == NULL
    b.addresses, b.kinds, b.count = addresses, kinds, count
    b.status, b.bad_input = OK, E_INPUT
    b.slow, b.context = one_access, &r
    hsvm_assert(t.watch == NULL, "a trace's stores are not watched one by one")
    memo_begin(t)
    done = batch_run(&b)
    status[0] = <Status_t>b.status
    l2 = b.by_kind[0] + b.by_kind[2] + b.by_kind[4]
    miss = b.by_kind[1] + b.by_kind[3] + b.by_kind[5]
    tally.l1 += done - l2 - miss
    tally.l2 += l2
    tally.miss += miss
    tally.references += b.references
    fills = l2 + 2 * miss - b.slow_fills
    t.fills += fills
    t.evictions += fills - b.into_empty
    for k in range(6):
        by_kind[k] += b.by_kind[k]
    for k in range(3):
        by_kind[6 + k] += b.done[k]
    return done


def batch_loops():
    """Names of the batch loops that this processor can run, the best first."""
    return [batch_name(i).decode() for i in range(BATCH_LOOPS) if batch_usable(i)]


def use_batch_loop(name):
    """Run traces by this loop from now on, in the whole process; returns the name of the one before."""
    global batch_chosen
    before = batch_name(batch_chosen).decode() if batch_chosen >= 0 else None
    if name not in batch_loops():
        raise ValueError(f"batch loop: must be one of {', '.join(batch_loops())}")
    for i in range(BATCH_LOOPS):
        if batch_name(i).decode() == name:
            batch_chosen = i
    return before


use_batch_loop(os.environ.get("HSVM_BATCH_LOOP") or batch_loops()[0])
