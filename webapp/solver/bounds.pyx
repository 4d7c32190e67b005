"""Upper bounds: a weighted sum of gains for the worst-off party, tangents of the logarithms for the product.

Stages IDEAL and WORST_OFF decide in integers. PRODUCT and FIRST prune on logarithms, never within MARGIN.
"""

from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from webapp.solver.domains cimport IDEAL, PRODUCT, WORST_OFF, Problem, Stage, gives

cdef double EPSILON = 1e-3     # a gain of zero counts as one thousandth
cdef double MARGIN = 1e-9      # rounding never loses an outcome
cdef int STEPS = 100           # steps of the two small optimisations that choose multipliers


cdef bint promising(Problem *s, Stage stage) noexcept nogil:
    """May some completion of this node still be the answer? False only if certainly not."""
    cdef int i
    if stage == IDEAL:
        return s.upper[s.target] >= s.target_need
    for i in range(s.parties):
        if s.upper[i] - s.reserve[i] < s.need[i]:
            return False
    if stage == WORST_OFF:
        return True
    if s.slope_upper + s.slope_constant < s.found_log - MARGIN:
        return False
    return log_of(s, s.upper) >= s.found_log - MARGIN


cdef double log_of(Problem *s, const int64_t *utility) noexcept nogil:
    cdef int i
    cdef double total = 0
    for i in range(s.parties):
        if s.range[i]:
            total += log(<double> (utility[i] - s.reserve[i]) / <double> s.range[i] + EPSILON)
    return total


cdef double node_bound(Problem *s, Stage stage) noexcept nogil:
    """Upper bound of the stage's objective over all completions of this node."""
    cdef int i
    cdef double bound = INFINITY
    if stage == PRODUCT:
        return min(s.slope_upper + s.slope_constant, log_of(s, s.upper))
    if stage != WORST_OFF:
        return 0
    for i in range(s.parties):
        if s.range[i]:
            bound = min(bound, <double> (s.upper[i] - s.reserve[i]) / <double> s.range[i])
    return min(bound, weighted_bound(s) + MARGIN)


cdef double weighted_bound(Problem *s) noexcept nogil:
    """The least gain is at most the gains' sum weighted by multipliers that sum to 1; that sum separates by issue."""
    cdef int i, q, v, r
    cdef double bound = 0, most, value
    cdef bint any = False
    for i in range(s.parties):
        if s.range[i]:
            any = True
            bound += s.multiplier[i] * <double> (s.base[i] - s.reserve[i]) / <double> s.range[i]
    for q in range(s.issues):
        most = 0
        for v in range(s.offset[q + 1] - s.offset[q]):
            if s.alive[s.offset[q] + v]:
                value = 0
                for r in range(s.link_start[q], s.link_start[q + 1]):
                    i = s.link_party[r]
                    if s.range[i]:
                        value += s.multiplier[i] * <double> gives(s, q, r, v) / <double> s.range[i]
                most = max(most, value)
        bound += most
    return bound if any else INFINITY


cdef void choose_multipliers(Problem *s) noexcept nogil:
    """The multipliers of the certificate, by multiplicative weights on the relaxation: the least bound at the root."""
    cdef int i, r, q, v, k, step, pick
    cdef double *weight = s.scratch
    cdef double *gain = s.scratch + s.parties
    cdef double value, steep, bound, least = INFINITY, low, high, total
    total = 0
    for i in range(s.parties):
        weight[i] = 1.0 if s.range[i] else 0.0
        total += weight[i]
    if total == 0:
        return
    for i in range(s.parties):
        weight[i] /= total
    for step in range(STEPS):
        for i in range(s.parties):
            gain[i] = 0
            if s.range[i]:
                gain[i] = <double> (s.base[i] - s.reserve[i]) / <double> s.range[i]
        for q in range(s.issues):
            k = s.offset[q + 1] - s.offset[q]
            pick, steep = -1, -1
            for v in range(k):
                if s.alive[s.offset[q] + v]:
                    value = 0
                    for r in range(s.link_start[q], s.link_start[q + 1]):
                        i = s.link_party[r]
                        if s.range[i]:
                            value += weight[i] * <double> gives(s, q, r, v) / <double> s.range[i]
                    if value > steep:
                        steep, pick = value, v
            for r in range(s.link_start[q], s.link_start[q + 1]):
                i = s.link_party[r]
                if s.range[i]:
                    gain[i] += <double> gives(s, q, r, pick) / <double> s.range[i]
        bound, low, high = 0, INFINITY, -INFINITY
        for i in range(s.parties):
            if s.range[i]:
                bound += weight[i] * gain[i]
                low = min(low, gain[i])
                high = max(high, gain[i])
        if bound < least:
            least = bound
            memcpy(s.multiplier, weight, 8 * s.parties)
        if high - low < 1e-12:
            break
        total = 0
        for i in range(s.parties):
            if s.range[i]:
                weight[i] *= exp(-(gain[i] - low) / (high - low) * 3.0 / (1.0 + 0.1 * step))
                total += weight[i]
        for i in range(s.parties):
            weight[i] /= total


cdef void choose_slope(Problem *s, double floor) noexcept nogil:
    """Where stage 2 touches the logarithms: Frank-Wolfe steps on the relaxation; the best dual bound wins."""
    cdef int i, r, q, v, _step, pick, _half
    cdef double *gain = s.scratch
    cdef double *corner = s.scratch + s.parties
    cdef double *point = s.scratch + 2 * s.parties
    cdef double *chosen = s.scratch + 3 * s.parties
    cdef double value, steep, bound, least = INFINITY, low, high, middle, derivative
    for i in range(s.parties):
        gain[i] = 0
        if s.range[i]:
            gain[i] = <double> (s.found_utility[i] - s.reserve[i]) / <double> s.range[i]
    for _step in range(STEPS):
        bound = 0
        for i in range(s.parties):
            corner[i] = 0
            if s.range[i]:
                point[i] = max(gain[i], max(floor, EPSILON))
                corner[i] = <double> (s.base[i] - s.reserve[i]) / <double> s.range[i]
                bound += log(point[i] + EPSILON) + (corner[i] - point[i]) / (point[i] + EPSILON)
        for q in range(s.issues):
            pick, steep = -1, -1
            for v in range(s.offset[q + 1] - s.offset[q]):
                if s.alive[s.offset[q] + v]:
                    value = 0
                    for r in range(s.link_start[q], s.link_start[q + 1]):
                        i = s.link_party[r]
                        if s.range[i]:
                            value += <double> gives(s, q, r, v) / <double> s.range[i] / (point[i] + EPSILON)
                    if value > steep:
                        steep, pick = value, v
            bound += steep
            for r in range(s.link_start[q], s.link_start[q + 1]):
                i = s.link_party[r]
                if s.range[i]:
                    corner[i] += <double> gives(s, q, r, pick) / <double> s.range[i]
        if bound < least:
            least = bound
            memcpy(chosen, point, 8 * s.parties)
        low, high = 0, 1
        for _half in range(20):
            middle = (low + high) / 2
            derivative = 0
            for i in range(s.parties):
                if s.range[i]:
                    value = max(gain[i] + middle * (corner[i] - gain[i]), 0)
                    derivative += (corner[i] - gain[i]) / (value + EPSILON)
            if derivative > 0:
                low = middle
            else:
                high = middle
        if low < 1e-6:
            break
        for i in range(s.parties):
            gain[i] += low * (corner[i] - gain[i])
    s.slope_constant = 0
    for v in range(s.values):
        s.slope[v] = 0
    for i in range(s.parties):
        if s.range[i]:
            s.slope_constant += log(chosen[i] + EPSILON) - chosen[i] / (chosen[i] + EPSILON)
            s.slope_constant += (
                <double> (s.base[i] - s.reserve[i]) / <double> s.range[i] / (chosen[i] + EPSILON))
    for q in range(s.issues):
        for r in range(s.link_start[q], s.link_start[q + 1]):
            i = s.link_party[r]
            if s.range[i]:
                for v in range(s.offset[q + 1] - s.offset[q]):
                    s.slope[s.offset[q] + v] += (
                        <double> gives(s, q, r, v) / <double> s.range[i] / (chosen[i] + EPSILON))


cdef void prepare(Problem *s, Stage stage) noexcept nogil:
    """Root sums of the bounds just chosen; issues by falling spread, values of an issue by falling weight."""
    cdef int q, v, n, r, start, stop
    cdef double *key = s.scratch
    cdef double low, high
    s.slope_upper = 0
    for q in range(s.issues):
        s.slope_best[q] = -INFINITY
        for v in range(s.offset[q], s.offset[q + 1]):
            if s.alive[v]:
                s.slope_best[q] = max(s.slope_best[q], s.slope[v])
        s.slope_upper += s.slope_best[q]
    for v in range(s.values):
        key[v] = s.slope[v] if stage == PRODUCT else 0
    if stage == IDEAL:
        for q in range(s.issues):
            for r in range(s.link_start[q], s.link_start[q + 1]):
                if s.link_party[r] == s.target:
                    for v in range(s.offset[q], s.offset[q + 1]):
                        key[v] = <double> gives(s, q, r, v - s.offset[q])
    for q in range(s.issues):
        start, stop = s.offset[q], s.offset[q + 1]
        for v in range(start, stop):
            n = v
            while n > start and key[s.ranked[n - 1]] < key[v]:
                s.ranked[n] = s.ranked[n - 1]
                n -= 1
            s.ranked[n] = v
    for q in range(s.issues):
        low, high = INFINITY, -INFINITY
        for v in range(s.offset[q], s.offset[q + 1]):
            if s.alive[v]:
                low = min(low, key[v])
                high = max(high, key[v])
        s.spread[q] = high - low
        n = q
        while n > 0 and s.spread[s.order[n - 1]] < s.spread[q]:
            s.order[n] = s.order[n - 1]
            n -= 1
        s.order[n] = q
