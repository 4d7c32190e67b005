/* The batch loop of run_trace, compiled once per instruction set, and the choice of one by what the processor has. */
#ifndef HSVM_DISPATCH_H
#define HSVM_DISPATCH_H

#include "memo.h"
#include "tlb.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    WINDOW = 128, /* accesses after which the miss rate decides again whether the next ones look ahead; below 256 */
    FAR = 16,     /* accesses ahead */
    NEAR = 8
};

#define NO_PAGE UINT64_MAX

typedef struct Batch Batch;
struct Batch { /* one trace on one core */
    Tlb *tlb;
    Level *level; /* of the core: two */
    uint32_t core;
    uint32_t space;
    uint64_t cr3;      /* 0: addresses are guest-physical */
    uint64_t frames;   /* of the host */
    uint32_t remember; /* walks may use memos: there are no page-walk caches to keep account of */
    const uint64_t *addresses;
    const uint8_t *kinds; /* 0 read, 1 write, 2 fetch */
    uint64_t count;
    uint64_t by_kind[6]; /* second-level hits and misses of each kind */
    uint64_t done[3];    /* accesses of each kind */
    uint64_t references;
    uint64_t into_empty; /* fills of empty ways */
    uint64_t slow_fills; /* fills by `slow`, which counts them itself */
    int status, bad_input;
    uint32_t (*slow)(Batch *b, uint64_t i); /* one access by the general way: what its entry allows; 0 stops */
    void *context;                          /* for `slow` */
};

/* Accesses [i, end), at most WINDOW: sums of bytes, which compilers make vectors of. */
static inline void count_kinds(Batch *b, uint64_t i, uint64_t end)
{
    uint8_t writes = 0, fetches = 0;
    for (uint64_t k = i; k < end; k++) {
        writes = (uint8_t)(writes + (b->kinds[k] == 1));
        fetches = (uint8_t)(fetches + (b->kinds[k] == 2));
    }
    b->done[0] += end - i - writes - fetches;
    b->done[1] += writes;
    b->done[2] += fetches;
}

/* Where the first access of [i, end) lies whose kind or address is out of range; `end` if none is. */
static inline uint64_t good_input(const Batch *b, uint64_t i, uint64_t end)
{
    uint64_t bits = 0;
    uint8_t wrong = 0;
    for (uint64_t k = i; k < end; k++)
        bits |= b->addresses[k];
    for (uint64_t k = i; k < end; k++)
        wrong |= b->kinds[k] > 2;
    if (bits >> 48 || wrong)
        while (i < end && b->addresses[i] >> 48 == 0 && b->kinds[i] <= 2)
            i++;
    else
        i = end;
    return i;
}

static inline int four_portable(const uint64_t *way, uint64_t tag)
{
    return (way[0] == tag) | (way[1] == tag) << 1 | (way[2] == tag) << 2 | (way[3] == tag) << 3;
}

#define NAME(x) x##_portable
#define TARGET
#define FOUR four_portable
#include "batch.h"

#if defined(__x86_64__)

static inline int two_sse2(const uint64_t *way, __m128i tag)
{
    __m128i same = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)way), tag);
    return _mm_movemask_pd(_mm_castsi128_pd(_mm_and_si128(same, _mm_shuffle_epi32(same, 0xB1))));
}

static inline int four_sse2(const uint64_t *way, uint64_t tag)
{
    __m128i wanted = _mm_set1_epi64x((long long)tag);
    return two_sse2(way, wanted) | two_sse2(way + 2, wanted) << 2;
}

#define NAME(x) x##_sse2
#define TARGET
#define FOUR four_sse2
#include "batch.h"

__attribute__((target("avx2"))) static inline int four_avx2(const uint64_t *way, uint64_t tag)
{
    __m256i same = _mm256_cmpeq_epi64(_mm256_loadu_si256((const __m256i *)way), _mm256_set1_epi64x((long long)tag));
    return _mm256_movemask_pd(_mm256_castsi256_pd(same));
}

#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,bmi,bmi2")))
#define FOUR four_avx2
#include "batch.h"

static int has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

#endif

static int always(void) { return 1; }

static const struct {
    const char *name;
    int (*usable)(void);
    uint64_t (*run)(Batch *);
} batch_loops[] = { /* best first */
#if defined(__x86_64__)
    {"avx2", has_avx2, run_avx2},
    {"sse2", always, run_sse2},
#endif
    {"portable", always, run_portable},
};

enum { BATCH_LOOPS = sizeof batch_loops / sizeof batch_loops[0] };

static int batch_chosen = -1;

static const char *batch_name(int i) { return batch_loops[i].name; }

static int batch_usable(int i) { return batch_loops[i].usable(); }

static uint64_t batch_run(Batch *b) { return batch_loops[batch_chosen].run(b); }

#endif
