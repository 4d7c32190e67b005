/* Template of the batch loop. dispatch.h includes it once per instruction set, with
 *
 *     NAME(x)           x with the variant's name
 *     TARGET            function attribute that allows the instructions
 *     FOUR(way, tag)    a bit for each of four neighbouring ways that holds the tag
 *
 * All variants do the same, access for access; they differ in how a set is searched.
 */
#define INLINE TARGET static inline __attribute__((always_inline))

/* One bit for each way of a set that holds `tag`; a constant `ways` leaves no loop. */
INLINE uint64_t NAME(ways)(const uint64_t *way, uint32_t ways, uint64_t tag)
{
    uint64_t found = 0;
    uint32_t i = 0;
    for (; i + 4 <= ways; i += 4)
        found |= (uint64_t)FOUR(way + i, tag) << i;
    for (; i < ways; i++)
        found |= (uint64_t)(way[i] == tag) << i;
    return found;
}

INLINE void NAME(fill)(Batch *b, uint32_t which, uint32_t usual, uint64_t tag, uint32_t data, uint64_t gpn)
{
    Level *level = &b->level[which];
    uint32_t ways = level->ways, lru = usual ? 0 : b->tlb->lru;
    if (usual)
        ways = which ? 12 : 4;
    uint64_t set = tag >> 28 & (level->sets - 1), place = set * ways;
    uint64_t empty = NAME(ways)(level->tag + place, ways, 0);
    if (empty)
        b->into_empty++;
    place += tlb_victim(level, set, empty, ways, lru);
    level_store(b->tlb, level, place, tag, data, gpn);
    if (lru)
        tlb_use(b->tlb, level, place);
}

/* A hit in the second level, copied into the first: the entry's data, 0 if there is none. `weak` notes one that does
 * not allow this kind.
 */
INLINE uint32_t NAME(second)(Batch *b, uint64_t page, uint32_t kind, uint32_t usual, uint32_t *weak)
{
    Level *level = &b->level[1];
    uint64_t tag = small_tag(page, b->space), place = (page & (level->sets - 1)) * (usual ? 12 : level->ways);
    uint64_t ways = NAME(ways)(level->tag + place, usual ? 12 : level->ways, tag);
    uint32_t data;
    if (!ways)
        return 0;
    place += (uint32_t)__builtin_ctzll(ways);
    data = level->data[place];
    if (!(data >> kind & 1)) {
        *weak = 1;
        return 0;
    }
    if (!usual && b->tlb->lru)
        tlb_use(b->tlb, level, place);
    NAME(fill)(b, 0, usual, tag, data, level->gpn[place]);
    b->by_kind[2 * kind]++;
    return data;
}

/* An access that no entry answers. Apart from the loop over hits, so that this keeps its registers. */
TARGET static __attribute__((noinline)) uint32_t NAME(miss)(Batch *b, uint64_t i, uint32_t weak, uint32_t usual)
{
    uint64_t page = b->addresses[i] >> 12, tag = small_tag(page, b->space);
    uint32_t kind = b->kinds[i], data;
    Found found;
    if (weak || !b->remember || !memo_walk(b->tlb, b->frames, b->cr3, page, 1u << kind, &found))
        return b->slow(b, i);
    data = found.mfn << 4 | found.perm;
    if (usual) {
        NAME(fill)(b, 1, 1, tag, data, found.gpn);
        NAME(fill)(b, 0, 1, tag, data, found.gpn);
    } else {
        NAME(fill)(b, 1, 0, tag, data, found.gpn);
        NAME(fill)(b, 0, 0, tag, data, found.gpn);
    }
    b->references += found.references;
    b->by_kind[2 * kind + 1]++;
    return data;
}

INLINE void NAME(look_ahead)(const Batch *b, uint64_t i)
{
    uint64_t near = b->addresses[i + NEAR] >> 12;
    const Level *second = &b->level[1];
    memo_far(b->tlb, b->addresses[i + FAR] >> 12);
    memo_near(b->tlb, b->cr3, near);
    __builtin_prefetch(second->tag + (near & (second->sets - 1)) * second->ways);
}

/* Accesses [i, end), none of them bad input; returns where it stopped.
 *
 * `known` holds, for each kind, a page that the first level answers. A hit changes nothing under round-robin, so such a
 * page need not be looked up again until an entry is replaced; under LRU it is good for repeated accesses only.
 */
INLINE uint64_t NAME(span)(Batch *b, uint64_t i, uint64_t end, uint32_t ahead, uint32_t usual)
{
    const Level *first = &b->level[0];
    const uint64_t *addresses = b->addresses, *tags = first->tag;
    const uint8_t *kinds = b->kinds;
    const uint32_t *datas = first->data;
    const uint64_t mask = first->sets - 1, space = small_tag(0, b->space);
    const uint32_t first_ways = usual ? 4 : first->ways, lru = usual ? 0 : b->tlb->lru;
    uint64_t known[3] = {NO_PAGE, NO_PAGE, NO_PAGE};
    for (; i < end; i++) {
        uint64_t page = addresses[i] >> 12;
        uint32_t kind = kinds[i], data = 0;
        if (ahead)
            NAME(look_ahead)(b, i);
        if (page == known[kind])
            continue;
        uint64_t place = (page & mask) * first_ways;
        uint64_t ways = NAME(ways)(tags + place, first_ways, page << 28 | space);
        if (ways) {
            place += (uint32_t)__builtin_ctzll(ways);
            data = datas[place];
        }
        if (data >> kind & 1) {
            if (lru) {
                tlb_use(b->tlb, &b->level[0], place);
                known[0] = known[1] = known[2] = NO_PAGE;
            }
        } else {
            uint32_t weak = ways || first[0].huge || first[1].huge; /* for the general way */
            data = weak ? 0 : NAME(second)(b, page, kind, usual, &weak);
            if (!data && !NAME(miss)(b, i, weak, usual))
                break;
            known[0] = known[1] = known[2] = NO_PAGE;
        }
        known[kind] = page;
    }
    return i;
}

INLINE uint64_t NAME(loop)(Batch *b, uint32_t usual)
{
    uint64_t i = 0, end, good, stop, misses, before;
    uint32_t ahead = 0;
    while (i < b->count) {
        end = b->count - i > WINDOW ? i + WINDOW : b->count;
        good = good_input(b, i, end);
        before = b->by_kind[1] + b->by_kind[3] + b->by_kind[5];
        if (ahead && end + FAR <= b->count)
            stop = NAME(span)(b, i, good, 1, usual);
        else
            stop = NAME(span)(b, i, good, 0, usual);
        count_kinds(b, i, stop);
        if (stop < good)
            return stop;
        if (good < end) {
            b->status = b->bad_input;
            return good;
        }
        misses = b->by_kind[1] + b->by_kind[3] + b->by_kind[5] - before;
        ahead = b->remember && misses * 8 > end - i;
        i = end;
    }
    return i;
}

/* Accesses done. The usual shape gets a version with constant ways. */
TARGET static uint64_t NAME(run)(Batch *b)
{
    if (b->level[0].ways == 4 && b->level[1].ways == 12 && !b->tlb->lru)
        return NAME(loop)(b, 1);
    return NAME(loop)(b, 0);
}

#undef INLINE
#undef NAME
#undef TARGET
#undef FOUR
