/* The plain C loops that batches of page_map and page_unmap, and zeroing, are measured against: a four-level table of
 * 8-byte entries in pages that are taken as needed, the slot and the frame's owner looked at first, one change noted for
 * each frame. No handle, no VM, no TLB, no event, no content: this is what the structure costs by itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHANGES = 1 << 18, PRESENT = 1, FLAGS = 7 };

typedef struct {
    uint64_t op;
    uint32_t first, count;
    uint16_t old, new;
} change_t;

typedef struct {
    uint64_t (*page)[512]; /* tables, one after the other; [0] is the root */
    uint32_t pages, taken;
    uint16_t *owner; /* by frame: 0 = FREE */
    uint32_t frames;
    change_t *change;
    uint64_t op;
} tables_t;

void tables_close(tables_t *t)
{
    free(t->page);
    free(t->owner);
    free(t->change);
    free(t);
}

/* NULL without memory. */
tables_t *tables_open(uint32_t frames, uint32_t pages)
{
    tables_t *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->frames = frames;
    t->pages = pages;
    t->taken = 1;
    t->page = calloc(pages, sizeof *t->page);
    t->owner = calloc(frames, sizeof *t->owner);
    t->change = calloc(CHANGES, sizeof *t->change);
    if (t->page && t->owner && t->change)
        return t;
    tables_close(t);
    return NULL;
}

/* Empty tables again, as a new VM has them. */
void tables_reset(tables_t *t)
{
    memset(t->page, 0, t->taken * sizeof *t->page);
    t->taken = 1;
}

const uint16_t *tables_owners(const tables_t *t) { return t->owner; }

static void give(tables_t *t, uint32_t frame, uint16_t owner)
{
    change_t *change = &t->change[++t->op & (CHANGES - 1)];
    change->op = t->op;
    change->first = frame;
    change->count = 1;
    change->old = t->owner[frame];
    change->new = owner;
    t->owner[frame] = owner;
}

/* The entry of a guest page in the lowest table; NULL if a table is missing and none may, or can, be taken. */
static uint64_t *entry_of(tables_t *t, uint64_t gpn, int take)
{
    uint64_t *table = t->page[0];
    for (int shift = 27; shift > 0; shift -= 9) {
        uint64_t *entry = &table[gpn >> shift & 511];
        if (!(*entry & PRESENT)) {
            if (!take || t->taken == t->pages)
                return NULL;
            *entry = (uint64_t)t->taken++ << 12 | FLAGS;
        }
        table = t->page[*entry >> 12];
    }
    return &table[gpn & 511];
}

/* Pages mapped; fewer than `count` if one is refused. */
uint64_t tables_map(tables_t *t, const uint64_t *gpn, const uint64_t *frame, uint64_t count, uint16_t owner)
{
    for (uint64_t i = 0; i < count; i++) {
        if (frame[i] >= t->frames || t->owner[frame[i]])
            return i;
        uint64_t *entry = entry_of(t, gpn[i], 1);
        if (!entry || *entry & PRESENT)
            return i;
        *entry = frame[i] << 12 | FLAGS;
        give(t, (uint32_t)frame[i], owner);
    }
    return count;
}

/* Pages unmapped; fewer than `count` if one is refused. */
uint64_t tables_unmap(tables_t *t, const uint64_t *gpn, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t *entry = entry_of(t, gpn[i], 0);
        if (!entry || !(*entry & PRESENT))
            return i;
        uint32_t frame = (uint32_t)(*entry >> 12);
        *entry = 0;
        give(t, frame, 0);
    }
    return count;
}

/* What zeroing so many pages costs: memset of each, and nothing else. */
void pages_clear(uint8_t *page, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        memset(page + i * 4096, 0, 4096);
}
