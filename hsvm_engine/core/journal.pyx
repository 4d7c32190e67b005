"""The journal: what `events()`, `dirty()`, `diff()` and `step_back()` read. It costs what changed, not the host's size.

Old values are a ring of records, each Old and its bytes. A record that reaches the end of the ring may run on into the
slack behind it; the next one then begins at the ring's beginning. OLD_OP stands before the old values of an operation.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


cdef bint journal_open(Journal *j, Forget forget, void *host, void *counts, uint32_t counts_size) noexcept:
    """Give the journal its rings; False if the computer has no memory for them.

    The `counts_size` bytes at `counts` are an old value of every operation.
    """
    j.change = <Change *>calloc(CHANGES, sizeof(Change))
    j.event = <Event *>calloc(EVENTS, sizeof(Event))
    j.old = <uint8_t *>calloc(OLD_BYTES + OLD_PIECE + sizeof(Old), 1)
    j.forget = forget
    j.host, j.counts, j.counts_size = host, counts, counts_size
    return j.change != NULL and j.event != NULL and j.old != NULL


cdef void journal_close(Journal *j) noexcept:
    free(j.change)
    free(j.event)
    free(j.old)
    j.change = NULL
    j.event = NULL
    j.old = NULL


# Old values

cdef inline Old *old_at(Journal *j, uint64_t place) noexcept nogil:
    return <Old *>(j.old + (place & (OLD_BYTES - 1)))


cdef inline uint64_t end_of(uint64_t place, uint32_t size) noexcept nogil:
    """Where the record after one of `size` bytes at `place` begins."""
    cdef uint64_t end = place + sizeof(Old) + (<uint64_t>size + 7) / 8 * 8
    cdef uint64_t lap = (place / OLD_BYTES + 1) * OLD_BYTES
    return lap if end + sizeof(Old) >= lap else end


cdef void forget_first(Journal *j) noexcept nogil:
    """Drop the oldest record."""
    cdef Old *old = old_at(j, j.old_first)
    if old.kind == OLD_PAGE:
        j.pages -= 1
        j.forget(j.host, old, <uint8_t *>(old + 1))
    j.old_first = end_of(j.old_first, old.size)


cdef void forget_rest(Journal *j) noexcept nogil:
    """An operation that has lost one old value cannot be taken back: drop what is left of it."""
    while j.old_first != j.old_end and old_at(j, j.old_first).kind != OLD_OP:
        forget_first(j)


cdef void forget_all(Journal *j) noexcept nogil:
    """Drop every record: what the running operation changes is too much to be kept."""
    while j.old_first != j.old_end:
        forget_first(j)


cdef uint64_t journal_reach(Journal *j) noexcept nogil:
    """The lowest operation number that the host can go back to."""
    forget_rest(j)
    return j.op if j.old_first == j.old_end else old_at(j, j.old_first).where


cdef uint8_t *keep_room(Journal *j, Old_t kind, uint64_t where, uint32_t size) noexcept nogil:
    """Room for an old value of the running operation, at most OLD_PIECE bytes; NULL if nothing is kept."""
    cdef uint64_t end = end_of(j.old_end, size)
    cdef Old *old
    if j.quiet:
        return NULL
    while j.old_first != j.old_end and end - j.old_first > OLD_BYTES:
        forget_first(j)
    old = old_at(j, j.old_end)
    old.before = j.old_last
    old.where = where
    old.size = size
    old.kind = kind
    j.old_last = j.old_end
    j.old_end = end
    return <uint8_t *>(old + 1)


cdef void keep(Journal *j, Old_t kind, uint64_t where, const void *bytes, uint32_t size) noexcept nogil:
    """Write down an old value of the running operation, at most OLD_PIECE bytes."""
    cdef uint8_t *room = keep_room(j, kind, where, size)
    if room != NULL and size:
        memcpy(room, bytes, size)


cdef void keep_page(Journal *j, uint32_t mfn, void *page) noexcept nogil:
    """Keep a whole page, which a frame gives up, by taking it over; the journal must not be quiet."""
    keep(j, OLD_PAGE, mfn, &page, sizeof(page))
    j.pages += 1
    while j.pages > OLD_PAGES:
        forget_first(j)


cdef bint kept_last(Journal *j, Old_t kind, uint64_t where) noexcept nogil:
    """Whether the newest record is of this: what changes again at once need not be kept again."""
    cdef Old *old = old_at(j, j.old_last)
    return j.old_first != j.old_end and old.kind == kind and old.where == where


cdef void keep_at(Journal *j, void *address, uint64_t size) noexcept nogil:
    """Keep bytes of the simulator's own memory that are about to change."""
    cdef uint64_t done = 0, part
    cdef uint8_t *at = <uint8_t *>address
    while not j.quiet and done < size:
        part = min(size - done, <uint64_t>OLD_PIECE)
        keep(j, OLD_BYTES_AT, <uint64_t><size_t>(at + done), at + done, <uint32_t>part)
        done += part


cdef Old *last_old(Journal *j, uint8_t **bytes) noexcept nogil:
    """The newest record and its bytes, NULL if there is none."""
    cdef Old *old = old_at(j, j.old_last)
    if j.old_end == j.old_first:
        return NULL
    bytes[0] = <uint8_t *>(old + 1)
    return old


cdef void drop_last_old(Journal *j) noexcept nogil:
    """Take the newest record off; the caller has put its value back."""
    cdef Old *old = old_at(j, j.old_last)
    if old.kind == OLD_PAGE:
        j.pages -= 1
    j.old_end = j.old_last
    j.old_last = old.before


cdef void journal_begin(Journal *j) noexcept nogil:
    """A new operation begins; its number is one more."""
    cdef uint8_t *room
    forget_rest(j)
    room = keep_room(j, OLD_OP, j.op, 16 + j.counts_size)
    if room != NULL:
        (<uint64_t *>room)[0], (<uint64_t *>room)[1] = j.changes, j.events
        memcpy(room + 16, j.counts, j.counts_size)
    j.op += 1


cdef void journal_back(Journal *j, Old *old, const uint8_t *bytes) noexcept nogil:
    """What an operation began with is so again."""
    j.op, j.changes, j.events = old.where, (<uint64_t *>bytes)[0], (<uint64_t *>bytes)[1]
    memcpy(j.counts, bytes + 16, j.counts_size)


cdef void journal_withdraw(Journal *j) noexcept nogil:
    """The operation that began was none: its record is the newest and goes; the caller has set the number back."""
    if not j.quiet:
        drop_last_old(j)


cdef void journal_shorten(Journal *j) noexcept nogil:
    """The host went back: what lay beyond the oldest change or event that was still there is no more lost than gone."""
    j.change_first = min(j.change_first, j.changes)
    j.changes_lost = min(j.changes_lost, j.op)
    j.event_first = min(j.event_first, j.events)
    j.events_lost = min(j.events_lost, j.op)


# Changes and events

cdef inline Change *change_at(Journal *j, uint64_t place) noexcept nogil:
    return &j.change[place & (CHANGES - 1)]


cdef inline uint64_t width_of(const Change *change) noexcept nogil:
    """Places that a change takes: one, or its list and one at either end."""
    return change.places + 2 if change.places else 1


cdef void make_room(Journal *j, uint64_t places) noexcept nogil:
    """Drop the oldest changes until so many places are free."""
    cdef Change *oldest
    while j.changes + places - j.change_first > CHANGES:
        oldest = change_at(j, j.change_first)
        j.changes_lost = oldest.op
        j.change_first += width_of(oldest)


cdef void journal_change(Journal *j, uint32_t mfn, uint16_t old, uint16_t new) noexcept nogil:
    """Note that the running operation changed one frame's owner; neighbours join into one run, upwards or downwards."""
    cdef Change *last
    if j.changes > j.change_first:
        last = change_at(j, j.changes - 1)
        if last.op == j.op and last.old == old and last.new == new and last.places == 0:
            if last.first + last.count == mfn:
                last.count += 1
                return
            if mfn + 1 == last.first:
                last.first = mfn
                last.count += 1
                return
    make_room(j, 1)
    last = change_at(j, j.changes)
    last.op, last.first, last.count, last.places, last.old, last.new = j.op, mfn, 1, 0, old, new
    j.changes += 1


cdef void journal_changes(Journal *j, const uint32_t *mfns, uint32_t count, uint16_t old, uint16_t new) noexcept nogil:
    """Note one frame each of the last `count` operations, the running one included."""
    cdef uint32_t places = (count + LISTED - 1) / LISTED
    cdef uint64_t start = (j.changes + 1) & (CHANGES - 1)
    cdef uint32_t head                          # frames that fit before the ring begins again
    cdef Change *change = change_at(j, j.changes)
    make_room(j, places + 2)
    change.op, change.first, change.count, change.places = j.op, mfns[0], count, places
    change.old, change.new = old, new
    change_at(j, j.changes + places + 1)[0] = change[0]
    head = <uint32_t>min(<uint64_t>count, (CHANGES - start) * LISTED)
    memcpy(&j.change[start], mfns, head * sizeof(uint32_t))
    memcpy(j.change, mfns + head, (count - head) * sizeof(uint32_t))
    j.changes += places + 2


cdef Change *change_before(Journal *j, uint64_t *place, uint64_t since) noexcept nogil:
    """The change that ends at `place`, which moves to its beginning; NULL where operations after `since` begin."""
    cdef Change *change
    if place[0] <= j.change_first:
        return NULL
    change = change_at(j, place[0] - 1)
    if change.op <= since:
        return NULL
    place[0] -= width_of(change)
    return change


cdef Change *change_after(Journal *j, uint64_t *place, uint64_t until) noexcept nogil:
    """The change that begins at `place`, which moves to its end; NULL if it has nothing of operations up to `until`."""
    cdef Change *change
    if place[0] >= j.changes:
        return NULL
    change = change_at(j, place[0])
    if change_op(change, 0) > until:
        return NULL
    place[0] += width_of(change)
    return change


cdef uint32_t changed_frame(Journal *j, uint64_t place, Change *change, uint32_t k) noexcept nogil:
    """Frame number `k` of a change that begins at `place`."""
    if change.places == 0:
        return change.first + k
    return (<uint32_t *>change_at(j, place + 1 + k / LISTED))[k % LISTED]


cdef Event *journal_event(Journal *j) noexcept nogil:
    """The next event, empty but for its number."""
    cdef Event *event = &j.event[j.events & (EVENTS - 1)]
    if j.events - j.event_first >= EVENTS:
        j.events_lost = event.op
        j.event_first = j.events - EVENTS + 1
    memset(event, 0, sizeof(Event))
    event.op = j.op
    j.events += 1
    return event


cdef uint64_t changed_total(Journal *j, uint64_t since) noexcept nogil:
    """Frames, counted once per change, that operations after `since` changed: the room `changed_frames` needs."""
    cdef uint64_t total = 0, place = j.changes
    cdef Change *change = change_before(j, &place, since)
    while change != NULL:
        total += change.count
        change = change_before(j, &place, since)
    return total


cdef void sort_frames(uint32_t *a, uint32_t *spare, uint64_t n) noexcept nogil:
    """Ascending, by passes of 8 bits; a pass whose digit is the same everywhere is left out."""
    cdef uint32_t[4][256] place
    cdef uint32_t digit, at, seen, k
    cdef uint64_t i
    cdef uint32_t *source = a
    cdef uint32_t *target = spare
    cdef uint32_t *swap
    memset(place, 0, sizeof(place))
    for i in range(n):
        for digit in range(4):
            place[digit][a[i] >> (8 * digit) & 255] += 1
    for digit in range(4):
        if place[digit][source[0] >> (8 * digit) & 255] == n:
            continue
        at = 0
        for k in range(256):
            seen = place[digit][k]
            place[digit][k] = at
            at += seen
        for i in range(n):
            k = source[i] >> (8 * digit) & 255
            target[place[digit][k]] = source[i]
            place[digit][k] += 1
        swap = source
        source = target
        target = swap
    if source != a:
        memcpy(a, source, n * sizeof(uint32_t))


cdef uint64_t changed_frames(Journal *j, uint64_t since, uint32_t *out) noexcept nogil:
    """Write the frames changed after `since`, sorted and once each; `out` has room for twice `changed_total`."""
    cdef uint64_t n = 0, kept = 0, k, place = j.changes
    cdef Change *change = change_before(j, &place, since)
    while change != NULL:
        for k in range(change.count):
            if change_op(change, <uint32_t>k) > since:
                out[n] = changed_frame(j, place, change, <uint32_t>k)
                n += 1
        change = change_before(j, &place, since)
    if n == 0:
        return 0
    sort_frames(out, out + n, n)
    for k in range(n):
        if kept == 0 or out[kept - 1] != out[k]:
            out[kept] = out[k]
            kept += 1
    return kept
