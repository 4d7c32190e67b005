"""The bound that prunes most: a weighted sum of what the parties need, with weights chosen anew at every node.

Why it is valid. Every outcome that still counts gives each party i its need: room_i >= 0. Then for any multipliers
f_i >= 0 also sum f_i room_i >= 0. The sum separates by issue, so its greatest value over all completions is head plus
the greatest weight of each issue, whatever the facts say. Is that below zero, the node is done; would it be below zero
with one value of an issue, that value is. A few steps move the multipliers toward the parties that fall short.

Rows are scaled to spans, so heads lie in [-1, 0], shares in [0, 1], and the shares of a party sum to 1 at most. With
128 parties and 64 issues single floats then err by less than 2e-5; SLACK keeps every node that is so close.
"""

from libc.string cimport memcpy

from webapp.solver.bounds cimport promising
from webapp.solver.domains cimport WORST_OFF, Problem, propagate, remove, touch

cdef extern from "lanes.h":
    float NOTHING
    void lanes_weigh(float *, const float *, const float *, const float *, int, int) noexcept nogil
    float lanes_greatest(const float *, int, int, float *, int *) noexcept nogil
    int lanes_below(const float *, const float *, int, int, float) noexcept nogil
    void lanes_replace(float *, const float *, const float *, int) noexcept nogil
    void lanes_add(float *, const float *, int) noexcept nogil
    float lanes_dot(const float *, const float *, int) noexcept nogil
    bint lanes_step(float *, const float *, int, float, float) noexcept nogil

cdef float SLACK = 3e-5
cdef float GOAL = -0.0023      # for each party: a step aims below zero, where the node would be done (measured)


cdef void even_out(Problem *s) noexcept nogil:
    """At the root every party has the same multiplier."""
    cdef int i
    for i in range(s.parties):
        s.factor[i] = <float> (1.0 / s.parties)


cdef void set_heads(Problem *s) noexcept nogil:
    """To be called when needs have changed."""
    cdef int i
    for i in range(s.parties):
        # What is always satisfied needs nothing: "at least 0" is a valid demand on shares that are never negative.
        s.head[i] = <float> min(0, <double> (s.base[i] - s.reserve[i] - s.need[i]) * s.per_span[i])


cdef bint squeeze(Problem *s, int steps) noexcept nogil:
    """False if no completion gives all parties their needs. Removes values that no such completion has."""
    cdef int step
    cdef float bound
    cdef float *factor = s.factor + s.level * s.wide
    for step in range(steps):
        lanes_weigh(s.weight, s.dark, s.share, factor, s.parties, s.cells)
        bound = lanes_greatest(s.weight, s.lanes, s.most, s.greatest, s.pick)
        bound += lanes_dot(factor, s.head, s.wide)
        if bound < -SLACK:
            return False
        if step & 3 == 3 or step + 1 == steps:     # not at each step: the sums of changed issues cost more
            if lanes_below(s.weight, s.greatest, s.lanes, s.most, bound + SLACK) and not drop(s, bound + SLACK):
                return False
        if step + 1 == steps:
            return True
        measure(s, step == 0)
        if not lanes_step(factor, s.room, s.wide, bound, GOAL * s.parties):
            return True        # the picks satisfy everyone: no multipliers can end this node
    return True


cdef bint drop(Problem *s, float above) noexcept nogil:
    """Remove each value that would bring the bound below zero, and what then lacks support."""
    cdef int q, v
    cdef float limit
    for q in range(s.issues):
        if s.count[q] > 1:
            limit = s.greatest[q] - above
            for v in range(s.offset[q], s.offset[q + 1]):
                if s.alive[v] and s.weight[s.cell[v]] < limit:
                    touch(s, q)
                    remove(s, v)
    return propagate(s) and promising(s, WORST_OFF)


cdef void measure(Problem *s, bint afresh) noexcept nogil:
    """What each party has over its need if every issue takes its pick; only changed picks are added anew."""
    cdef int q, now, old
    if afresh:
        memcpy(s.room, s.head, sizeof(float) * s.wide)
    for q in range(s.issues):
        now = s.offset[q] + s.pick[q]
        if afresh:
            lanes_add(s.room, s.column + now * s.wide, s.wide)
        elif s.pick[q] != s.last_pick[q]:
            old = s.offset[q] + s.last_pick[q]
            lanes_replace(s.room, s.column + now * s.wide, s.column + old * s.wide, s.wide)
    memcpy(s.last_pick, s.pick, sizeof(int) * s.lanes)
