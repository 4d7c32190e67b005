"""Domains of the issues: every value left is supported by all facts, and undoing restores every sum exactly.

Each issue keeps the best that it can still give to each party and the least it must use of each resource; the sums of
these over the issues bound every completion, and they are renewed only for issues whose domain changed.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef int64_t LARGE = 1 << 60

cdef extern from "lanes.h":
    float NOTHING
    int LANES
    bint links_renew(
        int64_t *best, int64_t *upper, const int *party, const int64_t *weight, const uint8_t *alive, int values,
        int links) noexcept nogil


cdef void *room(Problem *s, size_t count, size_t size) except NULL:
    """Zeroed memory that lives until `release`."""
    cdef void **block = <void **> calloc((count + 1) * size + 16, 1)
    if block == NULL:
        raise MemoryError()
    block[0] = s.blocks
    s.blocks = block
    return block + 2


cdef void release(Problem *s) noexcept:
    cdef void *block = s.blocks
    while block != NULL:
        s.blocks = (<void **> block)[0]
        free(block)
        block = s.blocks


cdef load(Problem *s, bytes sizes, bytes weights, bytes reserve, bytes forbidden, bytes facts, bytes scarce, bytes use):
    """Take the instance over and compute the root sums; nothing is propagated yet."""
    cdef const int64_t *size = <const int64_t *> <const char *> sizes
    cdef const int64_t *weight = <const int64_t *> <const char *> weights
    cdef const int64_t *given = <const int64_t *> <const char *> reserve
    cdef int q, v, i
    s.issues = <int> (len(sizes) // 8)
    s.parties = <int> (len(reserve) // 8)
    s.scarce = <int> (len(scarce) // 8)
    s.offset = <int *> room(s, s.issues + 1, sizeof(int))
    for q in range(s.issues):
        s.offset[q + 1] = s.offset[q] + <int> size[q]
    s.values = s.offset[s.issues]
    if s.parties > 128:
        raise ValueError("at most 128 parties")
    if len(weights) != 8 * s.parties * s.values or len(use) != 8 * s.scarce * s.values:
        raise ValueError("buffers do not fit the instance")
    s.issue_of = <int *> room(s, s.values, sizeof(int))
    for q in range(s.issues):
        for v in range(s.offset[q], s.offset[q + 1]):
            s.issue_of[v] = q
    s.reserve = <int64_t *> room(s, s.parties, 8)
    memcpy(s.reserve, given, 8 * s.parties)
    s.capacity = <int64_t *> room(s, s.scarce, 8)
    s.use = <int64_t *> room(s, s.scarce * s.values, 8)
    if s.scarce:
        memcpy(s.capacity, <const char *> scarce, 8 * s.scarce)
        memcpy(s.use, <const char *> use, 8 * s.scarce * s.values)
    load_links(s, weight)
    load_facts(s, facts)
    make_room(s)
    make_lanes(s)
    for v in range(s.values):
        s.alive[v] = 1
    for q in range(s.issues):
        s.count[q] = s.offset[q + 1] - s.offset[q]
    for i in range(s.parties):
        s.upper[i] = s.base[i]
    for q in range(s.issues):
        touch(s, q)
    forbid(s, forbidden)


cdef load_links(Problem *s, const int64_t *weight):
    cdef int q, v, i, r, n = 0
    cdef int64_t least, most, w, at = 0
    s.base = <int64_t *> room(s, s.parties, 8)
    s.link_start = <int *> room(s, s.issues + 1, sizeof(int))
    s.link_party = <int *> room(s, s.issues * s.parties, sizeof(int))
    s.link_base = <int64_t *> room(s, s.issues, 8)
    s.link_weight = <int64_t *> room(s, s.parties * s.values, 8)
    for q in range(s.issues):
        s.link_start[q] = n
        s.link_base[q] = at
        for i in range(s.parties):
            least = most = weight[i * s.values + s.offset[q]]
            for v in range(s.offset[q], s.offset[q + 1]):
                w = weight[i * s.values + v]
                least = min(least, w)
                most = max(most, w)
            s.base[i] += least
            if least < most:
                s.link_party[n] = i
                n += 1
        for v in range(s.offset[q], s.offset[q + 1]):
            for r in range(s.link_start[q], n):
                i = s.link_party[r]
                least = weight[i * s.values + s.offset[q]]
                for w in range(s.offset[q], s.offset[q + 1]):
                    least = min(least, weight[i * s.values + w])
                s.link_weight[at] = weight[i * s.values + v] - least
                at += 1
    s.link_start[s.issues] = n
    s.links = n


cdef load_facts(Problem *s, bytes facts):
    """Facts arrive as issue, value, other issue, number of allowed values, those values."""
    cdef const int64_t *stream = <const int64_t *> <const char *> facts
    cdef Py_ssize_t length = len(facts) // 8, at = 0, cells = 0
    cdef int f, q, v, n, count = 0
    while at < length:
        cells += s.offset[stream[at + 2] + 1] - s.offset[stream[at + 2]]
        at += 4 + stream[at + 3]
        count += 1
    s.facts = count
    s.fact_source = <int *> room(s, count, sizeof(int))
    s.fact_target = <int *> room(s, count, sizeof(int))
    s.fact_allows = <uint8_t **> room(s, count, sizeof(uint8_t *))
    s.fact_store = <uint8_t *> room(s, cells, 1)
    s.by_source_start = <int *> room(s, s.values + 1, sizeof(int))
    s.by_source = <int *> room(s, count, sizeof(int))
    s.by_target_start = <int *> room(s, s.issues + 1, sizeof(int))
    s.by_target = <int *> room(s, count, sizeof(int))
    at = cells = 0
    for f in range(count):
        s.fact_source[f] = s.offset[stream[at]] + <int> stream[at + 1]
        s.fact_target[f] = <int> stream[at + 2]
        s.fact_allows[f] = s.fact_store + cells
        for n in range(<int> stream[at + 3]):
            s.fact_allows[f][stream[at + 4 + n]] = 1
        cells += s.offset[s.fact_target[f] + 1] - s.offset[s.fact_target[f]]
        at += 4 + stream[at + 3]
    n = 0
    for v in range(s.values):
        s.by_source_start[v] = n
        for f in range(count):
            if s.fact_source[f] == v:
                s.by_source[n] = f
                n += 1
    s.by_source_start[s.values] = n
    n = 0
    for q in range(s.issues):
        s.by_target_start[q] = n
        for f in range(count):
            if s.fact_target[f] == q:
                s.by_target[n] = f
                n += 1
    s.by_target_start[s.issues] = n


cdef make_room(Problem *s):
    cdef int q
    cdef size_t entries = 0
    for q in range(s.issues):
        entries += (s.offset[q + 1] - s.offset[q] + 2) * (
            s.link_start[q + 1] - s.link_start[q] + s.scarce + 4)
    s.alive = <uint8_t *> room(s, s.values, 1)
    s.count = <int *> room(s, s.issues, sizeof(int))
    s.flat = <uint8_t *> room(s, s.issues, 1)
    s.best = <int64_t *> room(s, s.links, 8)
    s.upper = <int64_t *> room(s, s.parties, 8)
    s.slope = <double *> room(s, s.values, 8)
    s.slope_best = <double *> room(s, s.issues, 8)
    s.least_use = <int64_t *> room(s, s.scarce * s.issues, 8)
    s.used = <int64_t *> room(s, s.scarce, 8)
    s.removed = <int *> room(s, s.values, sizeof(int))
    s.saved = <int64_t *> room(s, entries, 8)
    s.queue = <int *> room(s, s.issues, sizeof(int))
    s.pending = <uint8_t *> room(s, s.issues, 1)
    s.level_sums = <int64_t *> room(s, (s.issues + 2) * (s.parties + s.scarce), 8)
    s.level_slope = <double *> room(s, s.issues + 2, 8)
    s.level_removed = <int *> room(s, s.issues + 2, sizeof(int))
    s.level_saved = <int64_t *> room(s, s.issues + 2, 8)
    s.order = <int *> room(s, s.issues, sizeof(int))
    s.spread = <double *> room(s, s.issues, 8)
    s.ranked = <int *> room(s, s.values, sizeof(int))
    s.need = <int64_t *> room(s, s.parties, 8)
    s.range = <int64_t *> room(s, s.parties, 8)
    s.multiplier = <double *> room(s, s.parties, 8)
    s.mine = <int64_t *> room(s, s.parties, 8)
    s.mine_value = <int *> room(s, s.issues, sizeof(int))
    s.found_utility = <int64_t *> room(s, s.parties, 8)
    s.found_value = <int *> room(s, s.issues, sizeof(int))
    s.scratch = <double *> room(s, max(s.values, 6 * s.parties), 8)
    s.sorted_a = <int64_t *> room(s, s.parties, 8)
    s.sorted_b = <int64_t *> room(s, s.parties, 8)


cdef make_lanes(Problem *s):
    """Shares of the values by cell and by party, in spans. A party that nothing can give anything has none."""
    cdef int q, r, v, i
    cdef float part
    s.lanes = (s.issues + LANES - 1) // LANES * LANES
    s.wide = (s.parties + LANES - 1) // LANES * LANES
    for q in range(s.issues):
        s.most = max(s.most, s.offset[q + 1] - s.offset[q])
    s.cells = s.lanes * s.most
    s.cell = <int *> room(s, s.values, sizeof(int))
    s.per_span = <double *> room(s, s.parties, 8)
    s.share = <float *> room(s, s.parties * s.cells, sizeof(float))
    s.column = <float *> room(s, s.values * s.wide, sizeof(float))
    s.dark = <float *> room(s, s.cells, sizeof(float))
    s.factor = <float *> room(s, (s.issues + 2) * s.wide, sizeof(float))
    s.head = <float *> room(s, s.wide, sizeof(float))
    s.room = <float *> room(s, s.wide, sizeof(float))
    s.weight = <float *> room(s, s.cells, sizeof(float))
    s.greatest = <float *> room(s, s.lanes, sizeof(float))
    s.pick = <int *> room(s, s.lanes, sizeof(int))
    s.last_pick = <int *> room(s, s.lanes, sizeof(int))
    s.turn = <int *> room(s, (s.issues + 2) * s.most, sizeof(int))
    for v in range(s.cells):
        s.dark[v] = 0 if v < s.lanes else NOTHING
    for q in range(s.issues):
        for v in range(s.offset[q], s.offset[q + 1]):
            s.cell[v] = (v - s.offset[q]) * s.lanes + q
            s.dark[s.cell[v]] = 0
    for q in range(s.issues):
        for r in range(s.link_start[q], s.link_start[q + 1]):
            s.per_span[s.link_party[r]] += <double> greatest_of(s, q, r)
    for i in range(s.parties):
        s.per_span[i] = 1 / s.per_span[i] if s.per_span[i] else 0
    for q in range(s.issues):
        for r in range(s.link_start[q], s.link_start[q + 1]):
            i = s.link_party[r]
            for v in range(s.offset[q], s.offset[q + 1]):
                part = <float> (<double> gives(s, q, r, v - s.offset[q]) * s.per_span[i])
                s.share[i * s.cells + s.cell[v]] = part
                s.column[v * s.wide + i] = part


cdef int64_t greatest_of(Problem *s, int q, int r) noexcept:
    cdef int v
    cdef int64_t most = 0
    for v in range(s.offset[q + 1] - s.offset[q]):
        most = max(most, gives(s, q, r, v))
    return most


cdef forbid(Problem *s, bytes forbidden):
    cdef const int64_t *pairs = <const int64_t *> <const char *> forbidden
    cdef int n, g
    for n in range(<int> (len(forbidden) // 16)):
        g = s.offset[pairs[2 * n]] + <int> pairs[2 * n + 1]
        if s.alive[g]:
            touch(s, <int> pairs[2 * n])
            remove(s, g)


cdef void touch(Problem *s, int q) noexcept nogil:
    """Remember the issue's sums before its domain changes, and queue it for renewal. Once while it is queued."""
    cdef int c, links = s.link_start[q + 1] - s.link_start[q]
    cdef int64_t at = s.saved_count
    if s.pending[q]:
        return
    s.pending[q] = 1
    s.queue[(s.queue_head + s.queue_count) % s.issues] = q
    s.queue_count += 1
    memcpy(s.saved + at, s.best + s.link_start[q], 8 * links)
    at += links
    for c in range(s.scarce):
        s.saved[at] = s.least_use[c * s.issues + q]
        at += 1
    memcpy(s.saved + at, s.slope_best + q, 8)
    s.saved[at + 1] = s.flat[q]
    s.saved[at + 2] = q
    s.saved_count = at + 3


cdef void remove(Problem *s, int value) noexcept nogil:
    s.alive[value] = 0
    s.dark[s.cell[value]] = NOTHING
    s.count[s.issue_of[value]] -= 1
    s.removed[s.removed_count] = value
    s.removed_count += 1


cdef bint renew(Problem *s, int q) noexcept nogil:
    """Compute the issue's sums from its domain; false if a capacity can no longer be kept."""
    cdef int start = s.offset[q], k = s.offset[q + 1] - s.offset[q], v, c, first = s.link_start[q]
    cdef int64_t least
    cdef double steepest = -INFINITY
    s.flat[q] = links_renew(
        s.best + first, s.upper, s.link_party + first, s.link_weight + s.link_base[q], s.alive + start, k,
        s.link_start[q + 1] - first)
    for v in range(k):
        if s.alive[start + v]:
            steepest = max(steepest, s.slope[start + v])
    s.slope_upper += steepest - s.slope_best[q]
    s.slope_best[q] = steepest
    for c in range(s.scarce):
        least = LARGE
        for v in range(k):
            if s.alive[start + v]:
                least = min(least, s.use[c * s.values + start + v])
        s.used[c] += least - s.least_use[c * s.issues + q]
        s.least_use[c * s.issues + q] = least
        if s.used[c] > s.capacity[c]:
            return False
    return True


cdef bint propagate(Problem *s) noexcept nogil:
    """Delete every value that the facts no longer support and renew all sums; false if that leaves nothing."""
    cdef int q, n, f, v, t, g
    cdef bint supported
    while s.queue_count:
        q = s.queue[s.queue_head]
        s.queue_head = (s.queue_head + 1) % s.issues
        s.queue_count -= 1
        s.pending[q] = 0
        if s.count[q] == 0 or not renew(s, q):
            while s.queue_count:
                s.pending[s.queue[s.queue_head]] = 0
                s.queue_head = (s.queue_head + 1) % s.issues
                s.queue_count -= 1
            return False
        if s.count[q] == 1:
            g = only(s, q)
            for n in range(s.by_source_start[g], s.by_source_start[g + 1]):
                f = s.by_source[n]
                t = s.fact_target[f]
                for v in range(s.offset[t], s.offset[t + 1]):
                    if s.alive[v] and not s.fact_allows[f][v - s.offset[t]]:
                        touch(s, t)
                        remove(s, v)
        for n in range(s.by_target_start[q], s.by_target_start[q + 1]):
            f = s.by_target[n]
            if s.alive[s.fact_source[f]]:
                supported = False
                for v in range(s.offset[q], s.offset[q + 1]):
                    if s.alive[v] and s.fact_allows[f][v - s.offset[q]]:
                        supported = True
                        break
                if not supported:
                    touch(s, s.issue_of[s.fact_source[f]])
                    remove(s, s.fact_source[f])
    return True


cdef int only(Problem *s, int q) noexcept nogil:
    cdef int v
    for v in range(s.offset[q], s.offset[q + 1]):
        if s.alive[v]:
            return v
    return s.offset[q]


cdef bint enter(Problem *s, int value) noexcept nogil:
    """Open a level in which the issue has this value; false if that contradicts facts or capacities."""
    cdef int q = s.issue_of[value], v, width = s.parties + s.scarce
    cdef int64_t *sums = s.level_sums + s.level * width
    memcpy(sums, s.upper, 8 * s.parties)
    memcpy(sums + s.parties, s.used, 8 * s.scarce)
    memcpy(s.factor + (s.level + 1) * s.wide, s.factor + s.level * s.wide, sizeof(float) * s.wide)
    s.level_slope[s.level] = s.slope_upper
    s.level_removed[s.level] = s.removed_count
    s.level_saved[s.level] = s.saved_count
    s.level += 1
    touch(s, q)
    for v in range(s.offset[q], s.offset[q + 1]):
        if v != value and s.alive[v]:
            remove(s, v)
    return propagate(s)


cdef void leave(Problem *s) noexcept nogil:
    """Undo the last level exactly."""
    cdef int links, c, q, value, width = s.parties + s.scarce
    cdef int64_t at
    s.level -= 1
    memcpy(s.upper, s.level_sums + s.level * width, 8 * s.parties)
    memcpy(s.used, s.level_sums + s.level * width + s.parties, 8 * s.scarce)
    s.slope_upper = s.level_slope[s.level]
    while s.removed_count > s.level_removed[s.level]:
        s.removed_count -= 1
        value = s.removed[s.removed_count]
        s.alive[value] = 1
        s.dark[s.cell[value]] = 0
        s.count[s.issue_of[value]] += 1
    while s.saved_count > s.level_saved[s.level]:
        q = <int> s.saved[s.saved_count - 1]
        at = s.saved_count - 3
        s.flat[q] = <uint8_t> s.saved[at + 1]
        memcpy(s.slope_best + q, s.saved + at, 8)
        for c in range(s.scarce - 1, -1, -1):
            at -= 1
            s.least_use[c * s.issues + q] = s.saved[at]
        links = s.link_start[q + 1] - s.link_start[q]
        at -= links
        memcpy(s.best + s.link_start[q], s.saved + at, 8 * links)
        s.saved_count = at
