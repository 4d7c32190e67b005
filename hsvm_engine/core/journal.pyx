"""The journal: what `events()` and `dirty()` read. It costs what changed, never the size of the host."""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


cdef bint journal_open(Journal *j) noexcept:
    """Give the journal its two rings; False if the computer has no memory for them."""
    j.change = <Change *>calloc(CHANGES, sizeof(Change))
    j.event = <Event *>calloc(EVENTS, sizeof(Event))
    return j.change != NULL and j.event != NULL


cdef void journal_close(Journal *j) noexcept:
    free(j.change)
    free(j.event)
    j.change = NULL
    j.event = NULL


cdef void journal_change(Journal *j, uint32_t mfn, uint16_t old, uint16_t new) noexcept nogil:
    """Note that the running operation changed one frame's owner; neighbours join into one run, upwards or downwards."""
    cdef Change *last
    if j.changes:
        last = &j.change[(j.changes - 1) & (CHANGES - 1)]
        if last.op == j.op and last.old == old and last.new == new:
            if last.first + last.count == mfn:
                last.count += 1
                return
            if mfn + 1 == last.first:
                last.first = mfn
                last.count += 1
                return
    last = &j.change[j.changes & (CHANGES - 1)]
    if j.changes >= CHANGES:
        j.changes_lost = last.op
    last.op = j.op
    last.first = mfn
    last.count = 1
    last.old = old
    last.new = new
    j.changes += 1


cdef Event *journal_event(Journal *j) noexcept nogil:
    """The next event, empty but for its number."""
    cdef Event *event = &j.event[j.events & (EVENTS - 1)]
    if j.events >= EVENTS:
        j.events_lost = event.op
    memset(event, 0, sizeof(Event))
    event.op = j.op
    j.events += 1
    return event


cdef uint64_t changed_total(Journal *j, uint64_t since) noexcept nogil:
    """Frames, counted once per change, that operations after `since` changed: the room `changed_frames` needs."""
    cdef uint64_t total = 0
    cdef uint64_t i = j.changes
    cdef uint64_t stop = j.changes - CHANGES if j.changes > CHANGES else 0
    while i > stop and j.change[(i - 1) & (CHANGES - 1)].op > since:
        i -= 1
        total += j.change[i & (CHANGES - 1)].count
    return total


cdef void sort_frames(uint32_t *a, uint32_t *spare, uint64_t n) noexcept nogil:
    """Ascending, by three passes of 11 bits; a pass whose digit is the same everywhere is left out."""
    cdef uint32_t place[2048]
    cdef uint32_t at, shift, digit, k, seen
    cdef uint64_t i
    cdef uint32_t *source = a
    cdef uint32_t *target = spare
    cdef uint32_t *swap
    for shift in range(0, 33, 11):
        memset(place, 0, sizeof(place))
        for i in range(n):
            place[(source[i] >> shift) & 2047] += 1
        if place[(source[0] >> shift) & 2047] == n:
            continue
        at = 0
        for k in range(2048):
            seen = place[k]
            place[k] = at
            at += seen
        for i in range(n):
            digit = (source[i] >> shift) & 2047
            target[place[digit]] = source[i]
            place[digit] += 1
        swap = source
        source = target
        target = swap
    if source != a:
        memcpy(a, source, n * sizeof(uint32_t))


cdef uint64_t changed_frames(Journal *j, uint64_t since, uint32_t *out) noexcept nogil:
    """Write the frames changed after `since`, sorted and once each; `out` has room for twice `changed_total`."""
    cdef uint64_t n = 0, kept = 0, k
    cdef uint64_t i = j.changes
    cdef uint64_t stop = j.changes - CHANGES if j.changes > CHANGES else 0
    cdef Change *change
    while i > stop:
        i -= 1
        change = &j.change[i & (CHANGES - 1)]
        if change.op <= since:
            break
        for k in range(change.count):
            out[n] = change.first + <uint32_t>k
            n += 1
    if n == 0:
        return 0
    sort_frames(out, out + n, n)
    for k in range(n):
        if kept == 0 or out[kept - 1] != out[k]:
            out[kept] = out[k]
            kept += 1
    return kept
