"""Exact branch and bound for one negotiation: bytes in, plain values out. Imports nothing of the product.

Stage IDEAL finds the most that each party could get, WORST_OFF the greatest minimum gain, PRODUCT the greatest product
of gains among those, FIRST the first such outcome in canonical order. Near ties are decided in big integers.
"""

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from webapp.solver.bounds cimport MARGIN, choose_multipliers, choose_slope, log_of, node_bound, prepare, promising
from webapp.solver.domains cimport FIRST, IDEAL, LARGE, PRODUCT, WORST_OFF, Problem, Stage
from webapp.solver.domains cimport enter, leave, load, only, propagate, release
from webapp.solver.multipliers cimport even_out, set_heads, squeeze
from webapp.solver.tail cimport make_tail, next_combination, tail_begin, tail_left

cdef extern from "lanes.h":
    float NOTHING

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>
    static inline double hs_now(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    }
    /* a/b < c/d for positive b, d, without rounding */
    static inline int hs_less(int64_t a, int64_t b, int64_t c, int64_t d) {
        return (__int128)a * d < (__int128)c * b;
    }
    /* floor and ceiling of n*k/m for n, k >= 0, m > 0 */
    static inline int64_t hs_floor(int64_t n, int64_t k, int64_t m) { return (int64_t)((__int128)n * k / m); }
    static inline int64_t hs_ceil(int64_t n, int64_t k, int64_t m) { return (int64_t)(((__int128)n * k + m - 1) / m); }
    """
    double hs_now() noexcept nogil
    bint hs_less(int64_t a, int64_t b, int64_t c, int64_t d) noexcept nogil
    int64_t hs_floor(int64_t n, int64_t k, int64_t m) noexcept nogil
    int64_t hs_ceil(int64_t n, int64_t k, int64_t m) noexcept nogil


cdef int ROOT_STEPS = 200      # of the multipliers, by what a better bound is worth there
cdef int STEPS = 10
cdef int LAST_STEPS = 2
cdef int TIES = 1000           # outcomes equally good for the worst-off that stage 1 compares by itself


cdef int next_issue(Problem *s, Stage stage) noexcept nogil:
    """The next open issue: where the multipliers see the clearest choice, else by spread; -1: none but the tail."""
    cdef int n, q, v, idle = -1
    cdef float first, second, weight, clearest = -1
    s.searched_open = 0
    for n in range(s.issues):
        q = s.order[n]
        if s.count[q] <= 1:
            continue
        if stage == IDEAL:
            return q
        if stage >= PRODUCT:
            if not s.flat[q]:
                return q
            if idle < 0:
                idle = q
        elif not s.in_tail[q]:
            s.searched_open += 1
            first = second = NOTHING
            for v in range(s.offset[q], s.offset[q + 1]):
                weight = s.weight[s.cell[v]]
                if weight > first:
                    first, second = weight, first
                else:
                    second = max(second, weight)
            if first - second > clearest:
                clearest, idle = first - second, q
    return idle


cdef int steps_for(Problem *s) noexcept nogil:
    """How many multiplier steps this node is worth: the first levels much, one open issue beside the tail little."""
    cdef int q, still_open = 0
    if s.level == 0:
        return ROOT_STEPS
    for q in range(s.issues):
        still_open += s.count[q] > 1 and not s.in_tail[q]
    return LAST_STEPS if still_open <= 1 else STEPS + max(0, 40 - 4 * s.level)


cdef int in_turn(Problem *s, Stage stage, int q, int *turn) noexcept nogil:
    """The values of an issue in the order in which they are tried; how many."""
    cdef int n, at, value, count = 0
    for n in range(s.offset[q], s.offset[q + 1]):
        value = s.ranked[n]
        if s.alive[value]:
            at = count
            if stage == WORST_OFF:
                while at > 0 and s.weight[s.cell[turn[at - 1]]] < s.weight[s.cell[value]]:
                    turn[at] = turn[at - 1]
                    at -= 1
            turn[at] = value
            count += 1
    return count


cdef void search(Problem *s, Stage stage) noexcept nogil:
    cdef int q, n, count, better
    cdef int *turn = s.turn + s.level * s.most
    s.nodes += 1
    if s.nodes >= s.node_limit or (s.nodes & 255 == 0 and hs_now() > s.deadline):
        s.stopped = True
        s.open_bound = max(s.open_bound, node_bound(s, stage))
        return
    if stage != IDEAL and not squeeze(s, steps_for(s)):
        return
    q = next_issue(s, stage)
    if stage == WORST_OFF and s.searched_open <= 1:
        sweep(s, q)
        return
    if q < 0:
        leaf(s, stage)
        return
    if stage >= PRODUCT and s.flat[q]:  # every completion gives exactly these utilities
        better = compare(s, s.upper, s.found_utility)
        if better < 0 or (better == 0) == (stage == PRODUCT):
            return
    count = in_turn(s, stage, q, turn)
    for n in range(count):
        if enter(s, turn[n]) and promising(s, stage):
            if s.stopped:
                s.open_bound = max(s.open_bound, node_bound(s, stage))
            else:
                search(s, stage)
        leave(s)
        if s.finished:
            return


cdef void sweep(Problem *s, int last) noexcept nogil:
    """All that is open is the tail and perhaps one issue: keep the best of their combinations."""
    cdef int q, n, word, count = 1
    cdef int *turn = s.turn + s.level * s.most
    tail_begin(s, last)
    for q in range(s.issues):
        s.mine_value[q] = only(s, q) - s.offset[q]
    if last >= 0:
        count = in_turn(s, WORST_OFF, last, turn)
    for n in range(count):
        if tail_left(s, last, turn[n]):
            if last >= 0:
                s.mine_value[last] = turn[n] - s.offset[last]
            word = 0
            while next_combination(s, &word) and not s.finished:
                keep_fairest(s)
        if s.finished:
            return


cdef void leaf(Problem *s, Stage stage) noexcept nogil:
    """A complete outcome that passed `promising`: keep it if it is better (ideal, product) or exactly as good."""
    cdef int q, wanted = 1 if stage == PRODUCT else 0
    if stage == IDEAL:
        s.target_need = s.upper[s.target] + 1
        s.found = True
        return
    memcpy(s.mine, s.upper, 8 * s.parties)
    for q in range(s.issues):
        s.mine_value[q] = only(s, q) - s.offset[q]
    if compare(s, s.mine, s.found_utility) == wanted:
        keep(s)
        s.finished = stage == FIRST


cdef void keep(Problem *s) noexcept nogil:
    s.found = True
    memcpy(s.found_utility, s.mine, 8 * s.parties)
    memcpy(s.found_value, s.mine_value, sizeof(int) * s.issues)
    s.found_log = log_of(s, s.mine)


cdef void keep_fairest(Problem *s) noexcept nogil:
    """Keep an outcome that is better for the worst-off, or as good and better in product, or in both and first.

    So stages 2 and 3 are done with stage 1, unless more than TIES outcomes are equally good for the worst-off.
    """
    cdef int i, better
    cdef int64_t over = 1, under = 1
    cdef bint nobody = True
    for i in range(s.parties):
        if s.range[i] and (nobody or hs_less(s.mine[i] - s.reserve[i], s.range[i], over, under)):
            over, under, nobody = s.mine[i] - s.reserve[i], s.range[i], False
    if s.found and not hs_less(s.worst_over, s.worst_under, over, under):
        s.ties += 1
        if s.ties >= TIES:
            set_needs(s, 1)
        if hs_less(over, under, s.worst_over, s.worst_under):
            return
        better = compare(s, s.mine, s.found_utility)
        if better > 0 or (better == 0 and earlier(s)):
            keep(s)
        return
    keep(s)
    s.worst_over, s.worst_under, s.ties = over, under, 0
    set_needs(s, 0)
    if s.only_feasible or nobody:      # nobody can gain: the first outcome is as good as any
        s.finished, s.ties = True, TIES


cdef void set_needs(Problem *s, int more) noexcept nogil:
    """What each party needs for the least gain found (`more` 0), or for a greater one (1)."""
    cdef int i
    for i in range(s.parties):
        if s.range[i] and more:
            s.need[i] = hs_floor(s.worst_over, s.range[i], s.worst_under) + 1
        elif s.range[i]:
            s.need[i] = hs_ceil(s.worst_over, s.range[i], s.worst_under)
        else:
            s.need[i] = 0
    set_heads(s)


cdef bint earlier(Problem *s) noexcept nogil:
    cdef int q
    for q in range(s.issues):
        if s.mine_value[q] != s.found_value[q]:
            return s.mine_value[q] < s.found_value[q]
    return False


cdef int compare(Problem *s, const int64_t *mine, const int64_t *other) noexcept nogil:
    """-1, 0 or 1: the exact order of the products of (1000 (u - d) + range). Logarithms decide only clear cases."""
    cdef int i, n = 0
    cdef double difference = log_of(s, mine) - log_of(s, other)
    if fabs(difference) > MARGIN:
        return 1 if difference > 0 else -1
    for i in range(s.parties):
        if s.range[i]:
            insert(s, s.sorted_a, n, 1000 * (mine[i] - s.reserve[i]) + s.range[i])
            insert(s, s.sorted_b, n, 1000 * (other[i] - s.reserve[i]) + s.range[i])
            n += 1
    for i in range(n):
        if s.sorted_a[i] != s.sorted_b[i]:
            with gil:
                return compare_exactly(s, n)
    return 0


cdef inline void insert(Problem *s, int64_t *row, int n, int64_t value) noexcept nogil:
    while n > 0 and row[n - 1] > value:
        row[n] = row[n - 1]
        n -= 1
    row[n] = value


cdef int compare_exactly(Problem *s, int n) noexcept:
    cdef object a = 1, b = 1
    cdef int i
    for i in range(n):
        a *= s.sorted_a[i]
        b *= s.sorted_b[i]
    return (a > b) - (a < b)


cdef bint run_stage(Problem *s, Stage stage) noexcept nogil:
    """Search from the root; true if the stage was finished within the limits."""
    s.finished = False
    prepare(s, stage)
    if promising(s, stage):
        search(s, stage)
    return not s.stopped


cdef void first_in_order(Problem *s) noexcept nogil:
    """Fix issue after issue to the first value with which some outcome is exactly as good as the one found.

    Each probe searches in the order that is best for the bounds, not in canonical order.
    """
    cdef int q, value
    prepare(s, PRODUCT)
    for q in range(s.issues):
        for value in range(s.offset[q], s.offset[q + 1]):
            if not s.alive[value]:
                continue
            s.finished = False
            if enter(s, value) and value - s.offset[q] != s.found_value[q] and promising(s, FIRST):
                search(s, FIRST)
            if s.stopped:
                return
            if value - s.offset[q] == s.found_value[q]:
                break                  # the level stays open: from here on the issue has this value
            leave(s)


cdef list find_ideals(Problem *s):
    """The most that each party could get; None where the limit came first; [] if there is no outcome at all."""
    cdef int i
    cdef list found = []
    for i in range(s.parties):
        s.target, s.target_need, s.found = i, 0, False
        if not run_stage(s, IDEAL):
            return None
        if not s.found:
            return []
        found.append(s.target_need - 1)
    return found


cdef bint search_worst_off(Problem *s) noexcept nogil:
    cdef int i
    for i in range(s.parties):
        s.need[i] = 0
    s.found = False
    set_heads(s)
    even_out(s)
    return run_stage(s, WORST_OFF)


cdef list shares(Problem *s):
    """The multipliers as integers that sum to 1,000,000, by largest remainder; all 0 if nobody can gain."""
    cdef int i
    cdef list parts = [0] * s.parties, rest = []
    for i in range(s.parties):
        if s.range[i]:
            parts[i] = int(s.multiplier[i] * 1e6)
            rest.append((parts[i] - s.multiplier[i] * 1e6, i))
    rest.sort()
    for i in range(1000000 - sum(parts) if rest else 0):
        parts[rest[i % len(rest)][1]] += 1
    return parts


cdef dict answer(Problem *s, str status, list ideals, int stage=0, object gain_upper=None, object log_upper=None):
    """What the caller sees. `stage` 0: nothing was left open; else the stage that a limit cut off."""
    cdef int q
    cdef list chosen = []
    if status == "agreed":
        for q in range(s.issues):
            chosen.append(s.found_value[q])
    return {
        "status": status,
        "assignment": chosen if status == "agreed" else None,
        "ideals": ideals,
        "proven": stage == 0 and status != "unknown",
        "stage": stage,
        "min_gain_upper": gain_upper,
        "nash_upper": log_upper,
        "nodes": s.nodes,
        "multipliers": shares(s) if status == "agreed" and not s.only_feasible else None,
    }


cdef dict feasible(Problem *s):
    """Any outcome in which every party has its reservation."""
    cdef int i
    s.only_feasible = True
    for i in range(s.parties):
        s.range[i] = max(1, s.upper[i] - s.reserve[i])
    make_tail(s)
    with nogil:
        search_worst_off(s)
    if s.found:
        return answer(s, "agreed", None)
    return answer(s, "unknown" if s.stopped else "no_agreement", None)


cdef dict settle(Problem *s):
    cdef int i
    cdef list ideals = find_ideals(s)
    if ideals is None:
        return answer(s, "unknown", None)
    if not ideals:
        return answer(s, "no_agreement", None)
    for i in range(s.parties):
        if ideals[i] < s.reserve[i]:
            return answer(s, "no_agreement", ideals)
        s.range[i] = ideals[i] - s.reserve[i]
    s.open_bound = -INFINITY
    make_tail(s)
    with nogil:
        choose_multipliers(s)
        search_worst_off(s)
    if not s.found:
        return answer(s, "unknown" if s.stopped else "no_agreement", ideals)
    if s.stopped:
        bound = max(s.open_bound, s.worst_over / s.worst_under)
        return answer(s, "agreed", ideals, WORST_OFF, bound)
    if s.ties < TIES:
        return answer(s, "agreed", ideals)
    set_needs(s, 0)
    s.open_bound = -INFINITY
    with nogil:
        choose_slope(s, <double> s.worst_over / <double> s.worst_under)
        run_stage(s, PRODUCT)
    if s.stopped:
        return answer(s, "agreed", ideals, PRODUCT, None, max(s.open_bound, s.found_log))
    with nogil:
        first_in_order(s)
    return answer(s, "agreed", ideals, FIRST if s.stopped else 0)


def solve(
    *, bytes sizes, bytes weights, bytes reserve, bytes forbidden, bytes facts, bytes capacity, bytes use,
    bint only_feasible=False, double time_limit=10.0, int64_t node_limit=0,
):
    """The one outcome that policy.md section 8 defines, or the best found within the limits and what bounds it.

    All buffers are native 64-bit integers: values per issue; weight by party and value; reservation by party; pairs
    (issue, value); facts as (issue, value, other issue, n, n allowed values); capacities; use by resource and value.
    """
    cdef Problem problem
    memset(&problem, 0, sizeof(Problem))
    try:
        load(&problem, sizes, weights, reserve, forbidden, facts, capacity, use)
        problem.node_limit = node_limit if node_limit > 0 else LARGE
        problem.deadline = hs_now() + time_limit
        if not propagate(&problem):
            return answer(&problem, "no_agreement", None)
        return feasible(&problem) if only_feasible else settle(&problem)
    finally:
        release(&problem)
