/* The state of the TLBs, and the only functions that store into it. tlb.pxd repeats the declarations for Cython.
 *
 * A tag is one word: page number << 28 | space << 1 | huge, 0 = empty way. A space is a VM and a cr3 (0: guest-physical
 * addresses); it has a number as long as an entry, a page-walk cache or a core uses it. Nothing here moves while the
 * machine lives: addresses of words may be kept.
 */
#ifndef HSVM_TLB_H
#define HSVM_TLB_H

#include <stdint.h>

enum { SPACE_LIMIT = 1 << 27, CACHE_ROOM = 64 };

typedef struct {
    uint32_t sets; /* power of two */
    uint32_t ways;
    uint64_t *tag;  /* sets * ways of them */
    uint32_t *data; /* mfn << 4 | huge << 3 | permission bits */
    uint64_t *gpn;  /* guest page of the entry */
    uint8_t *turn;  /* per set: the way that is replaced next; round-robin only */
    uint64_t *used; /* per entry: Tlb.clock of its last use; NULL under round-robin */
    void *memory;   /* all of these arrays */
    uint64_t bytes; /* of them */
    uint32_t huge;  /* live 2 MiB entries */
} Level;

typedef struct {
    uint64_t handle; /* 0 = never used */
    uint64_t cr3;
    uint32_t live;  /* entries of TLBs and page-walk caches on all cores */
    uint32_t paged; /* with cr3 0: those of the VM's guest-virtual spaces */
    uint32_t pins;  /* cores that have it loaded */
    uint32_t flat;  /* with a cr3: the number of the same VM's space without */
    uint32_t next;  /* next number in its bucket, 0 at the end */
    uint32_t again; /* may be given another meaning, once nothing uses it */
} Space;

typedef struct { /* page-walk cache of one core: [0] of guest tables, [1] of nested tables */
    uint64_t tag[2][CACHE_ROOM];    /* page number >> 9 << 28 | space << 1 | 1, 0 = empty */
    uint64_t target[2][CACHE_ROOM]; /* the level 1 table found there: a guest page or a frame */
    uint32_t turn[2];               /* the entry that is replaced next */
} Cache;

typedef struct Memo Memo;

typedef struct {
    uint32_t cores;
    uint32_t lru;           /* exact LRU instead of round-robin */
    Level *level;           /* [2 * core] and [2 * core + 1] */
    uint64_t clock;         /* uses under LRU */
    Space *space;           /* [0] is never used */
    uint32_t spaces;        /* numbers ever used, [0] included */
    uint32_t space_room;    /* more than can be in use at a time */
    uint32_t hand;          /* where the search for a spare number goes on */
    uint32_t *bucket;       /* first number of each bucket, 0 = none */
    uint32_t bucket_shift;  /* 64 - log2(buckets) */
    uint32_t cache_size[2]; /* entries of the page-walk caches, guest and nested */
    Cache *cache;           /* per core; NULL if both sizes are 0 */
    Memo *memo;             /* see memo.h; no state of the machine */
    uint64_t epoch;         /* number of the running trace */
    void *shadow;           /* the host's shadow tables, NULL where there are none */
    uint64_t fills;         /* entries written since boot */
    uint64_t evictions;     /* of them over another entry */
    void *journal;
    void (*watch)(void *journal, void *tlb, int what, uint64_t place); /* NULL while nobody keeps old values */
} Tlb;

/* What `watch` is told of before it changes. Places are level << 32 | place, level = 2 * core + which; of page-walk
 * caches too, with their turn. */
enum { WATCH_ENTRY, WATCH_TURN, WATCH_USE, WATCH_CACHE };

static inline uint32_t tag_space(uint64_t tag) { return (uint32_t)(tag >> 1) & (SPACE_LIMIT - 1); }

static inline uint64_t small_tag(uint64_t vpn, uint32_t space) { return vpn << 28 | (uint64_t)space << 1; }

static inline uint64_t huge_tag(uint64_t vpn, uint32_t space) { return vpn >> 9 << 28 | (uint64_t)space << 1 | 1; }

/* Spaces */

static inline uint32_t *space_bucket(Tlb *t, uint64_t handle, uint64_t cr3)
{
    uint64_t mixed = (handle ^ cr3 * 0x9E3779B97F4A7C15u) * 0xD6E8FEB86659FD93u;
    return &t->bucket[(mixed ^ mixed << 32) >> t->bucket_shift];
}

/* The number of this VM's addresses under `cr3`, 0 if they have none. */
static inline uint32_t space_seek(Tlb *t, uint64_t handle, uint64_t cr3)
{
    uint32_t number = *space_bucket(t, handle, cr3);
    while (number && (t->space[number].handle != handle || t->space[number].cr3 != cr3))
        number = t->space[number].next;
    return number;
}

/* Give a number that nothing uses another meaning. */
static inline void space_name(Tlb *t, uint32_t number, uint64_t handle, uint64_t cr3)
{
    Space *space = &t->space[number];
    uint32_t *link;
    if (space->handle) {
        link = space_bucket(t, space->handle, space->cr3);
        while (*link != number)
            link = &t->space[*link].next;
        *link = space->next;
    }
    link = space_bucket(t, handle, cr3);
    *space = (Space){.handle = handle, .cr3 = cr3, .next = *link};
    *link = number;
}

static inline void space_flat(Tlb *t, uint32_t number, uint32_t flat) { t->space[number].flat = flat; }

static inline void space_pin(Tlb *t, uint32_t number, int change) { t->space[number].pins += (uint32_t)change; }

/* One entry more or less. */
static inline void space_count(Tlb *t, uint32_t number, int change)
{
    Space *space = &t->space[number];
    space->live += (uint32_t)change;
    if (space->cr3)
        t->space[space->flat].paged += (uint32_t)change;
}

/* Entries */

/* Replace one entry; tag 0 empties it. Neither watched nor counted as a fill: for the batch loop, which does both for
 * all at once. */
static inline void level_store(Tlb *t, Level *level, uint64_t place, uint64_t tag, uint32_t data, uint64_t gpn)
{
    uint64_t old = level->tag[place];
    if ((old ^ tag) & (2 * (uint64_t)SPACE_LIMIT - 1)) {
        if (old) {
            space_count(t, tag_space(old), -1);
            level->huge -= old & 1;
        }
        if (tag) {
            space_count(t, tag_space(tag), 1);
            level->huge += tag & 1;
        }
    }
    level->tag[place] = tag;
    level->data[place] = data;
    level->gpn[place] = gpn;
}

static inline void level_put(Tlb *t, Level *level, uint64_t place, uint64_t tag, uint32_t data, uint64_t gpn)
{
    if (t->watch)
        t->watch(t->journal, t, WATCH_ENTRY, (uint64_t)(level - t->level) << 32 | place);
    t->fills += tag != 0;
    t->evictions += tag && level->tag[place];
    level_store(t, level, place, tag, data, gpn);
}

static inline void tlb_put(Tlb *t, uint32_t core, uint32_t which, uint64_t place, uint64_t tag, uint32_t data,
                           uint64_t gpn)
{
    level_put(t, &t->level[2 * core + which], place, tag, data, gpn);
}

/* Round-robin: the way of a set that is replaced next. */
static inline void tlb_turn(Level *level, uint64_t set, uint32_t way) { level->turn[set] = (uint8_t)way; }

/* LRU: the entry at `place` is the one used last. */
static inline void tlb_use(Tlb *t, Level *level, uint64_t place)
{
    if (t->watch)
        t->watch(t->journal, t, WATCH_USE, (uint64_t)(level - t->level) << 32 | place);
    level->used[place] = ++t->clock;
}

/* Replace one entry of a page-walk cache; tag 0 empties it. */
static inline void cache_put(Tlb *t, uint32_t core, uint32_t which, uint32_t place, uint64_t tag, uint64_t target)
{
    Cache *cache = &t->cache[core];
    if (t->watch)
        t->watch(t->journal, t, WATCH_CACHE, (uint64_t)(2 * core + which) << 32 | place);
    if (cache->tag[which][place])
        space_count(t, tag_space(cache->tag[which][place]), -1);
    if (tag)
        space_count(t, tag_space(tag), 1);
    cache->tag[which][place] = tag;
    cache->target[which][place] = target;
}

static inline void cache_turn(Tlb *t, uint32_t core, uint32_t which, uint32_t place)
{
    if (t->watch)
        t->watch(t->journal, t, WATCH_CACHE, (uint64_t)(2 * core + which) << 32);
    t->cache[core].turn[which] = place;
}

/* Sets */

/* One bit for each way of a set that holds `tag`, without a branch per way. */
static inline uint64_t ways_with(const uint64_t *way, uint32_t ways, uint64_t tag)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < ways; i++)
        found |= (uint64_t)(way[i] == tag) << i;
    return found;
}

/* Place of the entry with this tag, -1 if there is none. */
static inline int64_t tlb_find(const Level *level, uint64_t tag)
{
    uint64_t first = (tag >> 28 & (level->sets - 1)) * level->ways;
    uint64_t found = ways_with(level->tag + first, level->ways, tag);
    return found ? (int64_t)(first + (uint32_t)__builtin_ctzll(found)) : -1;
}

/* The way of a set that the next fill takes: the first empty one, else by turn or the one used longest ago. */
static inline uint32_t tlb_victim(Level *level, uint64_t set, uint64_t empty, uint32_t ways, uint32_t lru)
{
    uint32_t way = 0;
    if (empty)
        return (uint32_t)__builtin_ctzll(empty);
    if (lru) {
        const uint64_t *used = level->used + set * ways;
        for (uint32_t i = 1; i < ways; i++)
            way = used[i] < used[way] ? i : way;
        return way;
    }
    way = level->turn[set];
    tlb_turn(level, set, way + 1 == ways ? 0 : way + 1);
    return way;
}

static inline void level_fill(Tlb *t, Level *level, uint64_t tag, uint32_t data, uint64_t gpn)
{
    uint64_t set = tag >> 28 & (level->sets - 1), place = set * level->ways;
    if (t->watch)
        t->watch(t->journal, t, WATCH_TURN, (uint64_t)(level - t->level) << 32 | set);
    place += tlb_victim(level, set, ways_with(level->tag + place, level->ways, 0), level->ways, t->lru);
    level_put(t, level, place, tag, data, gpn);
    if (t->lru)
        tlb_use(t, level, place);
}

#endif
