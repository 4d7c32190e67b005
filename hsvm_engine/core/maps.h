/* The owner that has most frames of each cell of a map. Most cells have one owner: 16 frames are compared at once, and
 * only cells of several owners are counted. SSE2 belongs to every x86-64 processor, so nothing is dispatched. */
#ifndef HSVM_MAPS_H
#define HSVM_MAPS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
/* One bit for each of 16 frames that `owner` has. */
static inline uint64_t map_mask(const uint16_t *frame, uint16_t owner)
{
    __m128i wanted = _mm_set1_epi16((short)owner);
    __m128i low = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)frame), wanted);
    __m128i high = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)(frame + 8)), wanted);
    return (uint64_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}

/* How many of 16 frames `owner` has. */
static inline uint32_t map_count(const uint16_t *frame, uint16_t owner)
{
    __m128i wanted = _mm_set1_epi16((short)owner);
    __m128i low = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)frame), wanted);
    __m128i high = _mm_cmpeq_epi16(_mm_loadu_si128((const __m128i *)(frame + 8)), wanted);
    __m128i ones = _mm_sub_epi16(_mm_setzero_si128(), _mm_add_epi16(low, high)); /* 0 to 2 in each of 8 */
    __m128i sums = _mm_sad_epu8(ones, _mm_setzero_si128());
    return (uint32_t)(_mm_cvtsi128_si32(sums) + _mm_extract_epi16(sums, 4));
}
#else
static inline uint64_t map_mask(const uint16_t *frame, uint16_t owner)
{
    uint64_t mask = 0;
    for (int i = 0; i < 16; i++)
        mask |= (uint64_t)(frame[i] == owner) << i;
    return mask;
}

static inline uint32_t map_count(const uint16_t *frame, uint16_t owner)
{
    uint32_t count = 0;
    for (int i = 0; i < 16; i++)
        count += frame[i] == owner;
    return count;
}
#endif

enum {
    MAP_BLOCK = 16,  /* frames that one mask tells of */
    MAP_SMALL = 64,  /* frames of a cell that is decided by masks alone */
    MAP_AHEAD = 1024 /* frames fetched ahead: the processor itself does not look beyond the page that it reads */
};

typedef struct {
    uint32_t count[65536]; /* frames by owner: all zero between two cells */
    uint16_t seen[65536];  /* owners whose count is not zero */
    uint32_t owners;       /* entries of `seen` */
} map_tally_t;

/* Bits set, without the popcnt instruction, which is not in every x86-64 processor. */
static inline uint32_t map_bits(uint64_t mask)
{
    mask -= mask >> 1 & 0x5555555555555555;
    mask = (mask & 0x3333333333333333) + (mask >> 2 & 0x3333333333333333);
    mask = (mask + (mask >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (uint32_t)(mask * 0x0101010101010101 >> 56);
}

/* A cell of 1 to MAP_SMALL frames. The owner in the middle mostly has more than half; else owner after owner is counted
 * and struck off. MAP_SMALL frames from `frame` on can be read. */
static inline uint16_t map_small(const uint16_t *frame, uint64_t size)
{
    uint64_t left = ~(uint64_t)0 >> (MAP_SMALL - size);
    uint16_t owner = frame[size / 2], best = 0;
    uint32_t most = 0;
    if (2 * map_bits(map_mask(frame, owner) & left) > size)
        return owner;
    while (map_bits(left) >= most && left) {
        uint64_t mask = 0;
        for (uint64_t i = 0; i < size; i += MAP_BLOCK)
            mask |= map_mask(frame + i, owner) << i;
        mask &= left;
        left ^= mask;
        uint32_t count = map_bits(mask);
        if (count > most || (count == most && owner < best)) {
            most = count;
            best = owner;
        }
        owner = frame[left ? __builtin_ctzll(left) : 0];
    }
    return best;
}

static inline void map_add(map_tally_t *tally, uint16_t owner, uint32_t frames)
{
    if (tally->count[owner] == 0)
        tally->seen[tally->owners++] = owner;
    tally->count[owner] += frames;
}

/* A cell of any size, counted block after block; in most blocks all frames have the owner of the frame before. */
static uint16_t map_large(const uint16_t *frame, uint64_t size, map_tally_t *tally)
{
    uint32_t most = 0;
    uint16_t best = 0, owner = frame[0];
    uint64_t i = 0;
    for (; i + MAP_BLOCK <= size; i += MAP_BLOCK) {
        uint64_t mask = map_mask(frame + i, owner);
        if (mask)
            map_add(tally, owner, mask == 0xffff ? MAP_BLOCK : map_bits(mask));
        for (uint64_t left = mask ^ 0xffff; left; left &= left - 1)
            map_add(tally, frame[i + __builtin_ctzll(left)], 1);
        owner = frame[i + MAP_BLOCK - 1];
    }
    for (; i < size; i++)
        map_add(tally, frame[i], 1);
    while (tally->owners) {
        owner = tally->seen[--tally->owners];
        uint32_t count = tally->count[owner];
        if (count > most || (count == most && owner < best)) {
            most = count;
            best = owner;
        }
        tally->count[owner] = 0;
    }
    return best;
}

/* Write the owner of each of `cells` cells: cell i covers frames [i * frames / cells, (i + 1) * frames / cells), ties go
 * to the lowest owner. 1 <= cells <= frames. Returns 0 without memory. */
static int map_dominant(const uint16_t *frame, uint64_t frames, uint64_t cells, uint16_t *out)
{
    map_tally_t *tally = calloc(1, sizeof *tally);
    uint16_t tail[MAP_SMALL];
    uint64_t at = 0, rest = 0;
    if (!tally)
        return 0;
    for (uint64_t i = 0; i < cells; i++) {
        uint64_t size = frames / cells;
        rest += frames % cells; /* so that the sizes add up to (i + 1) * frames / cells */
        if (rest >= cells) {
            rest -= cells;
            size++;
        }
        const uint16_t *cell = frame + at;
        __builtin_prefetch(cell + MAP_AHEAD);
        if (size == MAP_BLOCK && map_count(cell, cell[MAP_BLOCK / 2]) > MAP_BLOCK / 2) {
            out[i] = cell[MAP_BLOCK / 2];
        } else if (size > MAP_SMALL) {
            out[i] = map_large(cell, size, tally);
        } else {
            if (frames - at < MAP_SMALL) {
                memset(tail, 0, sizeof tail);
                memcpy(tail, cell, size * sizeof *cell);
                cell = tail;
            }
            out[i] = map_small(cell, size);
        }
        at += size;
    }
    free(tally);
    return 1;
}

#endif
