/* The innermost loops of the multiplier bound, on single floats in lanes of eight.

Every result is the same on every processor: lanes are never added up in another order and nothing is contracted. */
#ifndef VPMS_LANES_H
#define VPMS_LANES_H

#include <stdint.h>

enum { LANES = 8 };
#define NOTHING (-1e30f) /* added to what a value gives: the value is out */

typedef float Lane __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int Mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define EITHER __attribute__((unused, target_clones("avx2", "default")))
#else
#define EITHER __attribute__((unused))
#endif

/* out = start + sum of factor[i] * row i over the rows with a positive factor; `width` is a multiple of LANES. */
EITHER static void lanes_weigh(float *out, const float *start, const float *rows, const float *factor, int count,
                               int width) {
    int used[128], n = 0, at = 0;
    for (int i = 0; i < count; i++) {
        used[n] = i;
        n += factor[i] > 0;
    }
    for (; at + 3 * LANES <= width; at += 3 * LANES) { /* three sums at once hide the latency of an addition */
        Lane a = *(const Lane *)(start + at), b = *(const Lane *)(start + at + LANES);
        Lane c = *(const Lane *)(start + at + 2 * LANES);
        for (int k = 0; k < n; k++) {
            const float by = factor[used[k]], *row = rows + (long)used[k] * width + at;
            a += by * *(const Lane *)row;
            b += by * *(const Lane *)(row + LANES);
            c += by * *(const Lane *)(row + 2 * LANES);
        }
        *(Lane *)(out + at) = a;
        *(Lane *)(out + at + LANES) = b;
        *(Lane *)(out + at + 2 * LANES) = c;
    }
    for (; at < width; at += LANES) {
        Lane a = *(const Lane *)(start + at);
        for (int k = 0; k < n; k++)
            a += factor[used[k]] * *(const Lane *)(rows + (long)used[k] * width + at);
        *(Lane *)(out + at) = a;
    }
}

#define lanes_choose(mask, yes, no) ((Lane)(((mask) & (Mask)(yes)) | (~(mask) & (Mask)(no))))

static inline float lanes_total(const Lane *lane) {
    float total = 0;
    for (int j = 0; j < LANES; j++)
        total += (*lane)[j];
    return total;
}

/* Of each issue the greatest weight and which value has it; weights lie value by value, `issues` lanes each.
   Returns the sum of the greatest. */
EITHER static float lanes_greatest(const float *weight, int issues, int values, float *greatest, int *pick) {
    Lane sum = {0};
    for (int at = 0; at < issues; at += LANES) {
        Lane most = *(const Lane *)(weight + at);
        Mask which = {0};
        for (int v = 1; v < values; v++) {
            const Lane row = *(const Lane *)(weight + v * issues + at);
            const Mask more = row > most;
            which = (more & v) | (~more & which);
            most = lanes_choose(more, row, most);
        }
        *(Lane *)(greatest + at) = most;
        *(Mask *)(pick + at) = which;
        sum += most;
    }
    return lanes_total(&sum);
}

/* Is any weight that is not out below its issue's greatest by more than `above`? */
EITHER static int lanes_below(const float *weight, const float *greatest, int issues, int values, float above) {
    Mask any = {0};
    for (int at = 0; at < issues; at += LANES) {
        const Lane limit = *(const Lane *)(greatest + at) - above;
        for (int v = 0; v < values; v++) {
            const Lane row = *(const Lane *)(weight + v * issues + at);
            any |= (row < limit) & (row > NOTHING / 2);
        }
    }
    for (int j = 0; j < LANES; j++)
        if (any[j])
            return 1;
    return 0;
}

/* sum += more */
EITHER static void lanes_add(float *sum, const float *more, int width) {
    for (int at = 0; at < width; at += LANES)
        *(Lane *)(sum + at) += *(const Lane *)(more + at);
}

/* sum += more - less */
EITHER static void lanes_replace(float *sum, const float *more, const float *less, int width) {
    for (int at = 0; at < width; at += LANES)
        *(Lane *)(sum + at) += *(const Lane *)(more + at) - *(const Lane *)(less + at);
}

/* sum of a[i] * b[i] */
EITHER static float lanes_dot(const float *a, const float *b, int width) {
    Lane sum = {0};
    for (int at = 0; at < width; at += LANES)
        sum += *(const Lane *)(a + at) * *(const Lane *)(b + at);
    return lanes_total(&sum);
}

/* One step of Polyak: a multiplier falls where its party has room and rises where it falls short, as far as would
   bring a linear bound to `goal`; all stay non-negative with sum 1. 0 if nobody falls short. */
EITHER static int lanes_step(float *factor, const float *room, int width, float bound, float goal) {
    Lane square = {0}, sum = {0}, none = {0}, least = {0};
    float by, total;
    int any = 0;
    for (int at = 0; at < width; at += LANES) {
        const Lane row = *(const Lane *)(room + at);
        square += row * row;
        least = lanes_choose(row < least, row, least);
    }
    for (int j = 0; j < LANES; j++)
        any |= least[j] < 0;
    if (!any)
        return 0;
    by = (bound - goal) / (lanes_total(&square) + 1e-20f);
    for (int at = 0; at < width; at += LANES) {
        Lane next = *(const Lane *)(factor + at) - by * *(const Lane *)(room + at);
        next = lanes_choose(next > none, next, none);
        *(Lane *)(factor + at) = next;
        sum += next;
    }
    total = lanes_total(&sum);
    by = 1 / (total > 0 ? total : 1);
    for (int at = 0; at < width; at += LANES)
        *(Lane *)(factor + at) *= by;
    return 1;
}

/* Renew what an issue can still give the parties of its links, and their sums; is it the same whatever it gets? */
EITHER static int links_renew(int64_t *best, int64_t *upper, const int *party, const int64_t *weight,
                              const uint8_t *alive, int values, int links) {
    int64_t differ = 0;
    for (int from = 0; from < links; from += 64) {
        const int n = links - from < 64 ? links - from : 64;
        int64_t most[64], least[64];
        int seen = 0;
        for (int v = 0; v < values; v++) {
            const int64_t *row = weight + (int64_t)v * links + from;
            if (!alive[v])
                continue;
            if (!seen++)
                for (int r = 0; r < n; r++)
                    most[r] = least[r] = row[r];
            else
                for (int r = 0; r < n; r++) {
                    most[r] = row[r] > most[r] ? row[r] : most[r];
                    least[r] = row[r] < least[r] ? row[r] : least[r];
                }
        }
        for (int r = 0; r < n; r++) {
            differ |= most[r] ^ least[r];
            upper[party[from + r]] += most[r] - best[from + r];
            best[from + r] = most[r];
        }
    }
    return differ == 0;
}

/* left &= row; is anything left? */
EITHER static int bits_keep(uint64_t *left, const uint64_t *row, int words) {
    uint64_t any = 0;
    for (int w = 0; w < words; w++) {
        left[w] &= row[w];
        any |= left[w];
    }
    return any != 0;
}

/* left &= ~row */
EITHER static void bits_drop(uint64_t *left, const uint64_t *row, int words) {
    for (int w = 0; w < words; w++)
        left[w] &= ~row[w];
}

static inline int bits_first(uint64_t word) { return __builtin_ctzll(word); }

#endif
