/* What one trace remembers of the tables that its walks went through.
 *
 * While a trace runs nobody stores into memory, so the upper levels of a walk give the same answer each time. A memo
 * keeps where the level 1 table of a guest-virtual or guest-physical region of 2 MiB lies; the entry in it is read each
 * time, as are all of a walk that no memo answers or that faults. The references that it spares the simulator are
 * counted as made: the modelled machine makes them. The same memos tell the look-ahead which entries to prefetch. They
 * are bound to one trace by its number: the next one believes none of them.
 */
#ifndef HSVM_MEMO_H
#define HSVM_MEMO_H

#include <string.h>

#include "tlb.h"

enum { MEMOS = 1024 };

struct Memo {
    uint64_t key;         /* trace << 35 | region << 8 | references so far << 3 | permission bits so far */
    const uint8_t *table; /* bytes of the level 1 table */
};

/* Tlb.memo has MEMOS for guest tables, then MEMOS for nested tables. */
static inline Memo *memo_at(const Tlb *t, int nested, uint64_t page)
{
    return &t->memo[(nested ? MEMOS : 0) + (page >> 9 & (MEMOS - 1))];
}

static inline int memo_holds(const Tlb *t, const Memo *memo, uint64_t page)
{
    return memo->key >> 8 == (t->epoch << 27 | page >> 9);
}

static inline void memo_keep(Tlb *t, int nested, uint64_t page, const uint8_t *table, uint32_t perm,
                             uint32_t references)
{
    Memo *memo = memo_at(t, nested, page);
    memo->key = (t->epoch << 27 | page >> 9) << 8 | references << 3 | perm;
    memo->table = table;
}

/* A new trace begins. */
static inline void memo_begin(Tlb *t)
{
    t->epoch = (t->epoch + 1) & ((1u << 29) - 1);
    if (t->epoch == 0) {
        memset(t->memo, 0, 2 * MEMOS * sizeof(Memo));
        t->epoch = 1;
    }
}

static inline const uint8_t *entry_at(const Memo *memo, uint64_t page) { return memo->table + (page & 511) * 8; }

typedef struct {
    uint64_t gpn;
    uint32_t mfn, perm, references;
} Found;

/* Apply the level 1 entry that a memo leads to; 0 if there is no memo, or the entry needs a whole walk's judgement. */
static inline int memo_step(const Tlb *t, int nested, uint64_t page, uint32_t need, uint64_t *target, Found *found)
{
    const Memo *memo = memo_at(t, nested, page);
    uint64_t entry;
    if (!memo_holds(t, memo, page))
        return 0;
    memcpy(&entry, entry_at(memo, page), 8);
    found->perm &= (uint32_t)(memo->key & 7) & (1 | (entry & 2) | (entry >> 63 ? 0 : 4));
    found->references += memo->key >> 3 & 31;
    *target = entry >> 12 & 0xFFFFFFFFFF;
    return (entry & 1) && !(need & ~found->perm);
}

static inline int memo_walk(const Tlb *t, uint64_t frames, uint64_t cr3, uint64_t page, uint32_t need, Found *found)
{
    uint64_t target = page;
    found->perm = 7;
    found->references = 0;
    if (cr3 && (!memo_step(t, 0, page, need, &target, found) || target >> 36))
        return 0;
    found->gpn = target;
    if (!memo_step(t, 1, found->gpn, need, &target, found) || target >= frames)
        return 0;
    found->mfn = (uint32_t)target;
    return 1;
}

/* Look-ahead, far: ask for the guest's entry of a page; near: read it and ask for the nested entry. In line always: GCC
 * takes a function that only prefetches for one without effect, and drops its calls. */
static inline __attribute__((always_inline)) void memo_far(const Tlb *t, uint64_t page)
{
    const Memo *memo = memo_at(t, 0, page);
    if (memo_holds(t, memo, page))
        __builtin_prefetch(entry_at(memo, page));
}

static inline __attribute__((always_inline)) void memo_near(const Tlb *t, uint64_t cr3, uint64_t page)
{
    const Memo *memo = memo_at(t, 0, page);
    uint64_t entry;
    if (cr3) {
        if (!memo_holds(t, memo, page))
            return;
        memcpy(&entry, entry_at(memo, page), 8);
        page = entry >> 12 & 0xFFFFFFFFFF;
    }
    memo = memo_at(t, 1, page);
    if (memo_holds(t, memo, page))
        __builtin_prefetch(entry_at(memo, page));
}

#endif
