/* The plain C loop that run_trace is measured against: the same two TLB levels (4 and 12 ways, round-robin, first empty
 * way first), the same tag word, sets searched without a branch per way, a last-page filter, and for traces that miss a
 * look-ahead that prefetches the two table entries a walk will need. Nothing is journalled, owned or checked, one VM
 * exists, an entry is 2 MiB never, and a table is found by one multiplication: this is what the structure costs by itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { L1_SETS = 16, L1_WAYS = 4, L2_SETS = 128, L2_WAYS = 12, REGIONS = 1024, FAR = 16, NEAR = 8 };

#define ABSENT UINT64_MAX

typedef struct {
    uint64_t tag[L2_SETS * L2_WAYS];
    uint32_t data[L2_SETS * L2_WAYS];
    uint8_t turn[L2_SETS];
} level_t;

typedef struct { /* the level 1 table of a 2 MiB region, as the last whole walk found it */
    uint64_t region; /* + 1; 0 = unknown */
    const uint64_t *table;
    uint32_t perm;
} known_t;

typedef struct {
    level_t level[2];
    known_t guest[REGIONS], nested[REGIONS];
    const uint64_t *memory; /* frames of 512 words, one after the other */
    uint64_t frames;
    uint64_t root, cr3;
    uint64_t l1, l2, miss, references;
} reference_t;

reference_t *reference_open(const uint64_t *memory, uint64_t frames, uint64_t root, uint64_t cr3)
{
    reference_t *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);
    memset(r, 0, sizeof *r);
    r->memory = memory;
    r->frames = frames;
    r->root = root;
    r->cr3 = cr3;
    return r;
}

void reference_close(reference_t *r) { free(r); }

/* Walks */

static inline uint64_t number_in(uint64_t entry) { return entry >> 12 & 0xFFFFFFFFFF; }

static inline uint32_t perm_in(uint64_t entry) { return 1 | (entry & 2) | (entry >> 63 ? 0 : 4); }

/* Frame of a guest page; `known` notes the level 1 table. */
static uint64_t nested(reference_t *r, uint64_t gpn, uint32_t *perm, known_t *known)
{
    uint64_t table = r->root, entry;
    for (int shift = 27; shift >= 0; shift -= 9) {
        if (shift == 0)
            *known = (known_t){(gpn >> 9) + 1, &r->memory[table * 512], *perm};
        entry = r->memory[table * 512 + (gpn >> shift & 511)];
        r->references++;
        if (!(entry & 1))
            return ABSENT;
        *perm &= perm_in(entry);
        table = number_in(entry);
        if (table >= r->frames)
            return ABSENT;
    }
    return table;
}

static uint64_t walk(reference_t *r, uint64_t page, uint32_t *perm)
{
    uint64_t table = r->cr3 >> 12, frame, entry;
    for (int shift = 27; shift >= 0; shift -= 9) {
        uint32_t unused = 7;
        frame = nested(r, table, &unused, &r->nested[table >> 9 & (REGIONS - 1)]);
        if (frame == ABSENT)
            return ABSENT;
        if (shift == 0)
            r->guest[page >> 9 & (REGIONS - 1)] = (known_t){(page >> 9) + 1, &r->memory[frame * 512], *perm};
        entry = r->memory[frame * 512 + (page >> shift & 511)];
        r->references++;
        if (!(entry & 1))
            return ABSENT;
        *perm &= perm_in(entry);
        table = number_in(entry);
    }
    uint32_t allowed = 7;
    frame = nested(r, table, &allowed, &r->nested[table >> 9 & (REGIONS - 1)]);
    *perm &= allowed;
    return frame;
}

/* The last entries of a walk whose tables are known; ABSENT asks for the whole walk. Nobody edits tables meanwhile. */
static inline uint64_t short_walk(reference_t *r, uint64_t page, uint32_t *perm)
{
    const known_t *known = &r->guest[page >> 9 & (REGIONS - 1)];
    uint64_t entry, gpn;
    if (known->region != (page >> 9) + 1)
        return ABSENT;
    entry = known->table[page & 511];
    gpn = number_in(entry);
    *perm = known->perm & perm_in(entry);
    known = &r->nested[gpn >> 9 & (REGIONS - 1)];
    if (!(entry & 1) || known->region != (gpn >> 9) + 1)
        return ABSENT;
    entry = known->table[gpn & 511];
    *perm &= known->perm & perm_in(entry);
    if (!(entry & 1) || number_in(entry) >= r->frames)
        return ABSENT;
    r->references += 24;
    return number_in(entry);
}

/* In line always: GCC takes a function that only prefetches for one without effect, and drops its calls. */
static inline __attribute__((always_inline)) void look_ahead(reference_t *r, uint64_t far, uint64_t near)
{
    const known_t *known = &r->guest[far >> 9 & (REGIONS - 1)];
    uint64_t gpn;
    if (known->region == (far >> 9) + 1)
        __builtin_prefetch(&known->table[far & 511]);
    known = &r->guest[near >> 9 & (REGIONS - 1)];
    if (known->region != (near >> 9) + 1)
        return;
    gpn = number_in(known->table[near & 511]);
    known = &r->nested[gpn >> 9 & (REGIONS - 1)];
    if (known->region == (gpn >> 9) + 1)
        __builtin_prefetch(&known->table[gpn & 511]);
    __builtin_prefetch(&r->level[1].tag[(near & (L2_SETS - 1)) * L2_WAYS]);
}

/* TLB */

/* One bit for each way that holds the tag. */
static inline uint32_t ways_with(const uint64_t *way, uint32_t ways, uint64_t tag)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < ways; i++)
        found |= (uint32_t)(way[i] == tag) << i;
    return found;
}

static inline void fill(level_t *level, uint32_t sets, uint32_t ways, uint64_t tag, uint32_t data)
{
    uint64_t set = tag >> 28 & (sets - 1), place = set * ways;
    uint32_t empty = ways_with(level->tag + place, ways, 0), way = level->turn[set];
    if (empty)
        way = (uint32_t)__builtin_ctz(empty);
    else
        level->turn[set] = way + 1 == ways ? 0 : (uint8_t)(way + 1);
    level->tag[place + way] = tag;
    level->data[place + way] = data;
}

static inline __attribute__((always_inline)) uint64_t run(reference_t *r, const uint64_t *addresses, const uint8_t *kinds,
                                                          uint64_t count, int ahead)
{
    level_t *first = &r->level[0], *second = &r->level[1];
    uint64_t last = ABSENT, l2 = 0, miss = 0, i;
    uint32_t data = 0;
    for (i = 0; i < count; i++) {
        uint64_t page = addresses[i] >> 12, tag = page << 28 | 2, place;
        uint32_t need = 1u << kinds[i], found;
        if (ahead && i + FAR < count)
            look_ahead(r, addresses[i + FAR] >> 12, addresses[i + NEAR] >> 12);
        if (page == last && data & need)
            continue;
        place = (page & (L1_SETS - 1)) * L1_WAYS;
        found = ways_with(first->tag + place, L1_WAYS, tag);
        if (found) {
            data = first->data[place + (uint32_t)__builtin_ctz(found)];
        } else {
            place = (page & (L2_SETS - 1)) * L2_WAYS;
            found = ways_with(second->tag + place, L2_WAYS, tag);
            if (found) {
                data = second->data[place + (uint32_t)__builtin_ctz(found)];
                l2++;
            } else {
                uint32_t perm = 7;
                uint64_t frame = short_walk(r, page, &perm);
                if (frame == ABSENT) {
                    perm = 7;
                    frame = walk(r, page, &perm);
                }
                if (frame == ABSENT)
                    break;
                data = (uint32_t)frame << 4 | perm;
                fill(second, L2_SETS, L2_WAYS, tag, data);
                miss++;
            }
            fill(first, L1_SETS, L1_WAYS, tag, data);
        }
        if (!(data & need))
            break;
        last = page;
    }
    r->l1 += i - l2 - miss;
    r->l2 += l2;
    r->miss += miss;
    return i;
}

/* Accesses done; less than `count` if one faults. */
uint64_t reference_run(reference_t *r, const uint64_t *addresses, const uint8_t *kinds, uint64_t count, int ahead)
{
    return ahead ? run(r, addresses, kinds, count, 1) : run(r, addresses, kinds, count, 0);
}

void reference_counts(const reference_t *r, uint64_t *out)
{
    out[0] = r->l1;
    out[1] = r->l2;
    out[2] = r->miss;
    out[3] = r->references;
}
