"""The problem as plain arrays, its domains, and the sums over issues that bound every completion from above."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef int64_t LARGE

cdef enum Stage:
    IDEAL = 0
    WORST_OFF = 1
    PRODUCT = 2
    FIRST = 3

ctypedef struct Problem:
    # the instance
    int issues, parties, scarce, values, links, facts
    int *offset            # first value of each issue, and one past the last
    int *issue_of          # issue of each value
    int *link_start        # links of an issue: parties for whom its values differ
    int *link_party
    int64_t *link_weight   # issue, local value, link: what it gives above the least that the issue gives
    int64_t *link_base     # of an issue: where its weights begin
    int64_t *base          # utility that a party gets whatever is chosen
    int64_t *reserve       # d_i
    int64_t *range         # ideal - d_i; 0: left out of both objectives
    int64_t *capacity
    int64_t *use           # by resource, then value
    int *fact_source       # value
    int *fact_target       # issue
    uint8_t **fact_allows  # by local value of the target
    uint8_t *fact_store
    int *by_source_start
    int *by_source
    int *by_target_start
    int *by_target
    # the node: domains and the sums over issues that follow from them
    uint8_t *alive
    int *count
    uint8_t *flat          # all values left give everyone the same
    int64_t *best          # of a link: most that the issue can still give the party
    int64_t *upper         # of a party: base + sum of best
    double *slope          # tangent of the logarithms, by value (stage 2)
    double *slope_best
    double slope_upper
    int64_t *least_use     # by resource, then issue
    int64_t *used          # by resource: sum of least uses
    # undoing
    int *removed
    int removed_count
    int64_t *saved
    int64_t saved_count
    int *queue
    uint8_t *pending
    int queue_head, queue_count
    int64_t *level_sums    # by level: upper, used
    double *level_slope
    int *level_removed
    int64_t *level_saved
    int level
    # the search
    int *order
    int *ranked            # values of each issue in the order in which they are tried
    int target             # stage 0: whose ideal
    int64_t target_need
    int64_t *need          # least u_i - d_i that still counts
    double slope_constant
    double *multiplier     # lambda of the certificate
    int ties               # outcomes seen that are as good as the one found for the worst-off party
    # multipliers of a node, and what they say (multipliers.pyx); floats in lanes, rows padded
    int lanes, most        # issues and parties of a row; values of the largest issue
    int wide, cells        # parties padded; lanes * most: the cell of value v of issue q is v * lanes + q
    int *cell              # of each value
    double *per_span       # of a party: 1 / (best - base); 0 if nothing can give it anything
    float *share           # party, cell: what the value gives, in spans
    float *column          # value, party: the same
    float *dark            # cell: 0, or NOTHING if the value is out
    float *factor          # level, party: the multipliers
    float *head            # party: what it lacks before any issue gives it something
    float *room            # party: what it has over its need when each issue takes its pick
    float *weight          # cell: sum over parties of multiplier * share
    float *greatest        # issue
    int *pick              # issue
    int *last_pick
    int *turn              # level, value: in which order they are tried
    # the tail: issues whose combinations are looked up, not searched (tail.pyx)
    int tails, combos, words
    int *tail
    uint8_t *in_tail
    int *stride            # of a tail issue in the number of a combination
    uint64_t *reach        # row, level: combinations that reach this level
    int *reach_count       # row, level
    int64_t *row_low
    double *row_scale      # levels per unit; 0: the row never decides
    uint64_t **having      # combinations with this value
    uint64_t *sound        # combinations that keep the facts among themselves
    uint64_t **fitting     # of a value of another issue: combinations that keep the facts with it; NULL: all
    uint64_t *open         # combinations that the node's domains and facts leave
    uint64_t *left         # of these, what satisfies every row
    int64_t *lack          # row: what the tail must still give
    int64_t *settled       # row: sum of what is settled at the node
    int64_t *before        # row: the same with the last issue
    int searched_open      # issues beside the tail that are open
    bint only_feasible, found, finished, stopped
    int64_t *mine          # the complete outcome in hand
    int *mine_value
    int64_t *found_utility
    int *found_value
    double found_log
    int64_t worst_over, worst_under   # the least gain of the outcome found, as a fraction
    int64_t nodes, node_limit
    double deadline, open_bound
    double *spread
    double *scratch
    int64_t *sorted_a
    int64_t *sorted_b
    void *blocks                # all memory of the problem, each block pointing to the next

cdef inline int64_t gives(Problem *s, int q, int r, int v) noexcept nogil:
    """What the v-th value of issue q gives the party of link r."""
    return s.link_weight[s.link_base[q] + v * (s.link_start[q + 1] - s.link_start[q]) + r - s.link_start[q]]


cdef void *room(Problem *s, size_t count, size_t size) except NULL
cdef load(Problem *s, bytes sizes, bytes weights, bytes reserve, bytes forbidden, bytes facts, bytes scarce, bytes use)
cdef void release(Problem *s) noexcept
cdef bint propagate(Problem *s) noexcept nogil
cdef void touch(Problem *s, int q) noexcept nogil
cdef void remove(Problem *s, int value) noexcept nogil
cdef bint enter(Problem *s, int value) noexcept nogil
cdef void leave(Problem *s) noexcept nogil
cdef int only(Problem *s, int q) noexcept nogil
