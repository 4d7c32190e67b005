/* The plain C loop that run_trace is measured against: the same two TLB levels (4 and 12 ways, round-robin, first empty way
 * first), the same tag word, the same two-dimensional walk over tables in memory. Nothing is journalled, owned or checked,
 * and a table's page is found by one multiplication: this is what the structure costs by itself.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { L1_SETS = 16, L1_WAYS = 4, L2_SETS = 128, L2_WAYS = 12 };

typedef struct {
    uint64_t tag[L2_SETS * L2_WAYS];
    uint32_t data[L2_SETS * L2_WAYS];
    uint8_t turn[L2_SETS];
    uint32_t sets, ways;
} level_t;

typedef struct {
    level_t level[2];
    const uint64_t *memory; /* frames of 512 words, one after the other */
    uint64_t frames;
    uint64_t root, cr3;
    uint64_t l1, l2, miss, references;
} reference_t;

reference_t *reference_open(const uint64_t *memory, uint64_t frames, uint64_t root, uint64_t cr3)
{
    reference_t *r = calloc(1, sizeof *r);
    r->memory = memory;
    r->frames = frames;
    r->root = root;
    r->cr3 = cr3;
    r->level[0].sets = L1_SETS;
    r->level[0].ways = L1_WAYS;
    r->level[1].sets = L2_SETS;
    r->level[1].ways = L2_WAYS;
    return r;
}

void reference_close(reference_t *r) { free(r); }

static inline int64_t find(const level_t *level, uint64_t tag)
{
    uint64_t place = ((tag >> 28) & (level->sets - 1)) * level->ways;
    for (uint32_t way = 0; way < level->ways; way++)
        if (level->tag[place + way] == tag)
            return (int64_t)(place + way);
    return -1;
}

static void fill(level_t *level, uint64_t tag, uint32_t data)
{
    uint64_t set = (tag >> 28) & (level->sets - 1), place = set * level->ways;
    uint32_t way = 0;
    while (way < level->ways && level->tag[place + way])
        way++;
    if (way == level->ways) {
        way = level->turn[set];
        level->turn[set] = way + 1 == level->ways ? 0 : (uint8_t)(way + 1);
    }
    level->tag[place + way] = tag;
    level->data[place + way] = data;
}

static uint64_t nested(reference_t *r, uint64_t gpn, uint32_t *perm)
{
    uint64_t table = r->root;
    for (int shift = 27; shift >= 0; shift -= 9) {
        uint64_t entry = r->memory[table * 512 + ((gpn >> shift) & 511)];
        r->references++;
        if (!(entry & 1))
            return UINT64_MAX;
        *perm &= 1 | (entry & 2) | (entry >> 63 ? 0 : 4);
        table = (entry >> 12) & 0xFFFFFFFFFF;
        if (table >= r->frames)
            return UINT64_MAX;
    }
    return table;
}

static uint64_t walk(reference_t *r, uint64_t page, uint32_t *perm)
{
    uint64_t table = r->cr3 >> 12;
    uint32_t unused = 7;
    if (r->cr3 == 0)
        return nested(r, page, perm);
    for (int shift = 27; shift >= 0; shift -= 9) {
        uint64_t frame = nested(r, table, &unused), entry;
        if (frame == UINT64_MAX)
            return UINT64_MAX;
        entry = r->memory[frame * 512 + ((page >> shift) & 511)];
        r->references++;
        if (!(entry & 1))
            return UINT64_MAX;
        *perm &= 1 | (entry & 2) | (entry >> 63 ? 0 : 4);
        table = (entry >> 12) & 0xFFFFFFFFFF;
    }
    return nested(r, table, perm);
}

/* Accesses done; less than `count` if one faults. */
uint64_t reference_run(reference_t *r, const uint64_t *addresses, const uint8_t *kinds, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t page = addresses[i] >> 12, tag = page << 28 | 2;
        uint32_t need = 1u << kinds[i], data;
        int64_t place = find(&r->level[0], tag);
        if (place >= 0) {
            data = r->level[0].data[place];
            r->l1++;
        } else if ((place = find(&r->level[1], tag)) >= 0) {
            data = r->level[1].data[place];
            fill(&r->level[0], tag, data);
            r->l2++;
        } else {
            uint32_t perm = 7;
            uint64_t frame = walk(r, page, &perm);
            if (frame == UINT64_MAX)
                return i;
            data = (uint32_t)frame << 4 | perm;
            fill(&r->level[1], tag, data);
            fill(&r->level[0], tag, data);
            r->miss++;
        }
        if (!(data & need))
            return i;
    }
    return count;
}

void reference_counts(const reference_t *r, uint64_t *out)
{
    out[0] = r->l1;
    out[1] = r->l2;
    out[2] = r->miss;
    out[3] = r->references;
}
