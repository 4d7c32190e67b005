"""The tail: a few issues whose combinations, some thousands, are not searched but looked up at once.

For each party the combinations are sorted into levels by what they give it, and a row of bits says for each level
which combinations reach it. When all other issues are settled, each party lacks something that the tail must give:
the rows of those levels, cut with each other, leave every combination that satisfies all (levels round down, so a few
too many). Capacities are rows like parties, with what is not used as the gain. Two or three rows mostly leave nothing.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from webapp.solver.domains cimport Problem, gives, room

cdef extern from "lanes.h":
    bint bits_keep(uint64_t *left, const uint64_t *row, int words) noexcept nogil
    void bits_drop(uint64_t *left, const uint64_t *row, int words) noexcept nogil
    int bits_first(uint64_t word) noexcept nogil

cdef int MOST = 6561           # combinations: 3 to the 8th
cdef int LEVELS = 32


cdef make_tail(Problem *s):
    """Choose the issues on which least depends, and fill the tables."""
    cdef int q, r, v, n
    cdef list rows = []
    cdef double spread
    s.in_tail = <unsigned char *> room(s, s.issues, 1)
    for q in range(s.issues):
        if s.count[q] > 1:
            spread = 0
            for r in range(s.link_start[q], s.link_start[q + 1]):
                if s.range[s.link_party[r]]:
                    spread += <double> s.best[r] / <double> s.range[s.link_party[r]]
            rows.append((spread, q))
    rows.sort()
    s.tail = <int *> room(s, s.issues, sizeof(int))
    s.stride = <int *> room(s, s.issues, sizeof(int))
    s.combos = 1
    for _, q in rows:
        n = s.offset[q + 1] - s.offset[q]
        if s.combos * n <= MOST:
            s.tail[s.tails] = q
            s.stride[s.tails] = s.combos
            s.in_tail[q] = 1
            s.tails += 1
            s.combos *= n
    s.words = (s.combos + 63) // 64
    n = s.parties + s.scarce
    s.reach = <uint64_t *> room(s, <size_t> n * LEVELS * s.words, 8)
    s.reach_count = <int *> room(s, n * LEVELS, sizeof(int))
    s.row_low = <int64_t *> room(s, n, 8)
    s.row_scale = <double *> room(s, n, 8)
    s.having = <uint64_t **> room(s, s.values, sizeof(uint64_t *))
    s.sound = <uint64_t *> room(s, s.words, 8)
    s.fitting = <uint64_t **> room(s, s.values, sizeof(uint64_t *))
    s.open = <uint64_t *> room(s, s.words, 8)
    s.left = <uint64_t *> room(s, s.words, 8)
    s.lack = <int64_t *> room(s, n, 8)
    s.settled = <int64_t *> room(s, n, 8)
    s.before = <int64_t *> room(s, n, 8)
    for n in range(s.tails):
        q = s.tail[n]
        for v in range(s.offset[q], s.offset[q + 1]):
            s.having[v] = <uint64_t *> room(s, s.words, 8)
        mark_having(s, n)
    mark_sound(s)
    fill_rows(s)


cdef void mark_having(Problem *s, int n) noexcept nogil:
    """Which combinations have each value of the n-th issue: the values come in runs of a stride."""
    cdef int first = s.offset[s.tail[n]], k = s.offset[s.tail[n] + 1] - first, at = 0, v, c
    while at < s.combos:
        for v in range(first, first + k):
            for c in range(at, at + s.stride[n]):
                s.having[v][c >> 6] |= <uint64_t> 1 << (c & 63)
            at += s.stride[n]


cdef inline int digit(Problem *s, int n, int c) noexcept nogil:
    """Which value combination c gives the n-th issue of the tail."""
    return c // s.stride[n] % (s.offset[s.tail[n] + 1] - s.offset[s.tail[n]])


cdef mark_sound(Problem *s):
    """Facts among issues of the tail, and those between the tail and a value of another issue."""
    cdef int c, f, source, t, v
    for c in range(s.combos):
        s.sound[c >> 6] |= <uint64_t> 1 << (c & 63)
    for f in range(s.facts):
        source, t = s.fact_source[f], s.fact_target[f]
        for v in range(s.offset[t], s.offset[t + 1]):
            if s.fact_allows[f][v - s.offset[t]]:
                continue
            if s.in_tail[t] and s.in_tail[s.issue_of[source]]:
                for c in range(s.words):
                    s.sound[c] &= ~(s.having[source][c] & s.having[v][c])
            elif s.in_tail[t]:
                exclude(s, source, v)
            elif s.in_tail[s.issue_of[source]]:
                exclude(s, v, source)


cdef exclude(Problem *s, int value, int in_tail):
    """No combination with `in_tail` goes with `value`."""
    if s.fitting[value] == NULL:
        s.fitting[value] = <uint64_t *> room(s, s.words, 8)
        memcpy(s.fitting[value], s.sound, 8 * s.words)
    bits_drop(s.fitting[value], s.having[in_tail], s.words)


cdef fill_rows(Problem *s):
    cdef int64_t *sums = <int64_t *> room(s, s.combos, 8)
    cdef int i, n, q, r, c
    for i in range(s.parties):
        for c in range(s.combos):
            sums[c] = 0
        for n in range(s.tails):
            q = s.tail[n]
            for r in range(s.link_start[q], s.link_start[q + 1]):
                if s.link_party[r] == i:
                    add_issue(s, n, &s.link_weight[s.link_base[q] + r - s.link_start[q]],
                              s.link_start[q + 1] - s.link_start[q], 1, sums)
        fill_row(s, i, sums)
    for i in range(s.scarce):
        for c in range(s.combos):
            sums[c] = 0
        for n in range(s.tails):
            add_issue(s, n, s.use + i * s.values + s.offset[s.tail[n]], 1, -1, sums)
        fill_row(s, s.parties + i, sums)


cdef void add_issue(Problem *s, int n, const int64_t *weight, int apart, int sign, int64_t *sums) noexcept nogil:
    """Add to every combination what its value of the n-th issue weighs."""
    cdef int k = s.offset[s.tail[n] + 1] - s.offset[s.tail[n]], step = s.stride[n], at = 0, v, c
    while at < s.combos:
        for v in range(k):
            for c in range(at, at + step):
                sums[c] += sign * weight[v * apart]
            at += step


cdef void fill_row(Problem *s, int row, const int64_t *sums) noexcept nogil:
    cdef int64_t low = sums[0], high = sums[0]
    cdef int c, w, level
    cdef uint64_t *bits = s.reach + <size_t> row * LEVELS * s.words
    cdef int *count = s.reach_count + row * LEVELS
    for c in range(s.combos):
        low = min(low, sums[c])
        high = max(high, sums[c])
    s.row_low[row] = low
    s.row_scale[row] = 0
    if low == high:
        return
    s.row_scale[row] = (LEVELS - 1) / <double> (high - low)
    for c in range(s.combos):
        level = level_of(s, row, sums[c])
        bits[<size_t> level * s.words + (c >> 6)] |= <uint64_t> 1 << (c & 63)
        count[level] += 1
    for level in range(LEVELS - 2, -1, -1):
        count[level] += count[level + 1]
        for w in range(s.words):
            bits[<size_t> level * s.words + w] |= bits[<size_t> (level + 1) * s.words + w]


cdef inline int level_of(Problem *s, int row, int64_t amount) noexcept nogil:
    """Rising with the amount, and the same formula for what a combination gives and for what is lacking."""
    return <int> min(<double> (amount - s.row_low[row]) * s.row_scale[row], <double> LEVELS)


cdef void tail_begin(Problem *s, int last) noexcept nogil:
    """Before lookups: all issues are settled but the tail and perhaps one, `last` (-1: none)."""
    cdef int n, q, v, r, c, rows = s.parties + s.scarce
    memcpy(s.settled, s.upper, 8 * s.parties)
    for c in range(s.scarce):
        s.settled[s.parties + c] = -s.used[c]
    memcpy(s.open, s.sound, 8 * s.words)
    for n in range(s.tails + (last >= 0)):
        q = s.tail[n] if n < s.tails else last
        for r in range(s.link_start[q], s.link_start[q + 1]):
            s.settled[s.link_party[r]] -= s.best[r]
        for c in range(s.scarce):
            s.settled[s.parties + c] += s.least_use[c * s.issues + q]
        for v in range(s.offset[q], s.offset[q + 1] if n < s.tails else 0):
            if not s.alive[v]:
                bits_drop(s.open, s.having[v], s.words)
    memcpy(s.before, s.settled, 8 * rows)


cdef bint tail_left(Problem *s, int last, int value) noexcept nogil:
    """If `last` has this value: does any combination of the tail satisfy every row? `left` says which."""
    cdef int r, i, c, row, chosen, level, fewest, rows = s.parties + s.scarce
    cdef uint64_t *bits
    memcpy(s.left, s.open, 8 * s.words)
    if last >= 0:
        memcpy(s.before, s.settled, 8 * rows)
        for r in range(s.link_start[last], s.link_start[last + 1]):
            s.before[s.link_party[r]] += gives(s, last, r, value - s.offset[last])
        for c in range(s.scarce):
            s.before[s.parties + c] -= s.use[c * s.values + value]
        if s.fitting[value] != NULL and not bits_keep(s.left, s.fitting[value], s.words):
            return False
    for i in range(s.parties):
        s.lack[i] = s.reserve[i] + s.need[i] - s.before[i]
    for c in range(s.scarce):
        s.lack[s.parties + c] = -s.capacity[c] - s.before[s.parties + c]
    while True:                # the row that fewest reach comes first
        chosen, fewest = -1, s.combos
        for row in range(rows):
            if s.lack[row] > s.row_low[row] and s.row_scale[row] > 0:
                level = level_of(s, row, s.lack[row])
                if level >= LEVELS:
                    return False
                i = s.reach_count[row * LEVELS + level]
                if i < fewest:
                    chosen, fewest = row, i
        if chosen < 0:
            return True
        level = level_of(s, chosen, s.lack[chosen])
        bits = s.reach + (<size_t> chosen * LEVELS + level) * s.words
        s.lack[chosen] = s.row_low[chosen]         # done
        if not bits_keep(s.left, bits, s.words):
            return False


cdef bint next_combination(Problem *s, int *word) noexcept nogil:
    """Take the next combination out of `left` into `mine`; false if none is left or none keeps to the last unit."""
    cdef int c, n, v, q, r, i, k
    cdef int64_t used
    cdef bint fits
    while word[0] < s.words:
        if s.left[word[0]] == 0:
            word[0] += 1
            continue
        c = 64 * word[0] + bits_first(s.left[word[0]])
        s.left[word[0]] &= s.left[word[0]] - 1
        memcpy(s.mine, s.before, 8 * s.parties)
        for n in range(s.tails):
            q, v = s.tail[n], digit(s, n, c)
            s.mine_value[q] = v
            for r in range(s.link_start[q], s.link_start[q + 1]):
                s.mine[s.link_party[r]] += gives(s, q, r, v)
        fits = True
        for i in range(s.parties):
            fits = fits and s.mine[i] - s.reserve[i] >= s.need[i]
        for k in range(s.scarce):
            used = -s.before[s.parties + k]
            for n in range(s.tails):
                used += s.use[k * s.values + s.offset[s.tail[n]] + s.mine_value[s.tail[n]]]
            fits = fits and used <= s.capacity[k]
        if fits:
            return True
    return False
