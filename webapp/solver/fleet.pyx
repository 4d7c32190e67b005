"""Many hosts at once: which values, labels and classes cannot stand together, by words of bits. Knows no policies.

A template is what one policy compiles to: 128 bits of values it can live with (value v of switch k is bit 4k + v), bits
of the labels it shows and refuses, bits of the classes it holds, and a tenant. A host keeps the AND of the first, the
ORs of the labels and the first tenant of each class. Values of a switch cannot stand together exactly if its group of
four bits in the AND is empty; a label if somebody shows and somebody refuses it (nobody does both); a class if two
tenants hold it. The VMs of a host lie together, so a change looks at these alone.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

cdef uint64_t LOWEST = 0x1111111111111111


cdef extern from *:
    """
    static inline int fleet_first(unsigned long long word) { return __builtin_ctzll(word); }
    """
    int fleet_first(uint64_t word) noexcept nogil


cdef inline uint64_t empty_groups(uint64_t mask) noexcept nogil:
    """The lowest bit of each group of four that has no bit at all."""
    mask |= mask >> 1
    mask |= mask >> 2
    return ~mask & LOWEST


cdef class Fleet:
    """Hosts with templates on them. Flags of a host: 2 words of empty groups, then label words, then class words."""

    cdef int templates, hosts, label_words, class_words, width, flag_width
    cdef uint64_t *template    # each: 2 words of values, labels shown, labels refused, classes
    cdef int32_t *tenant       # of each template
    cdef int64_t *start        # of each host's VMs
    cdef int32_t *count
    cdef int32_t *space
    cdef int32_t *vm           # templates
    cdef int64_t vms_used, vms_space
    cdef uint64_t *sum         # of each host: as a template, classes by anyone
    cdef int32_t *holder       # of each host and class bit: the first tenant
    cdef uint64_t *flag

    def __cinit__(self, int label_words, int class_words, bytes templates, bytes tenants, bytes counts, bytes vms):
        """All native: 64-bit words; tenants, numbers of VMs by host and templates by VM as 32-bit integers."""
        cdef int64_t at = 0
        cdef int host
        self.label_words, self.class_words = label_words, class_words
        self.width = 2 + 2 * label_words + class_words
        self.flag_width = 2 + label_words + class_words
        self.templates = <int> (len(tenants) // 4)
        self.hosts = <int> (len(counts) // 4)
        self.vms_used = self.vms_space = len(vms) // 4
        if len(templates) != 8 * self.width * self.templates:
            raise ValueError("buffers do not fit each other")
        self.template = <uint64_t *> copied(templates)
        self.tenant = <int32_t *> copied(tenants)
        self.count = <int32_t *> copied(counts)
        self.space = <int32_t *> copied(counts)
        self.vm = <int32_t *> copied(vms)
        self.start = <int64_t *> zeroed(self.hosts, 8)
        self.sum = <uint64_t *> zeroed(self.hosts * self.width, 8)
        self.holder = <int32_t *> zeroed(self.hosts * class_words, 64 * 4)
        self.flag = <uint64_t *> zeroed(self.hosts * self.flag_width, 8)
        for host in range(self.hosts):
            self.start[host] = at
            at += self.count[host]
        if at != self.vms_used:
            raise ValueError("buffers do not fit each other")
        for at in range(self.vms_used):
            self._known(self.vm[at])
        self.recompute()

    def __dealloc__(self):
        free(self.template)
        free(self.tenant)
        free(self.count)
        free(self.space)
        free(self.vm)
        free(self.start)
        free(self.sum)
        free(self.holder)
        free(self.flag)

    cdef int _known(self, int template) except -1:
        if not 0 <= template < self.templates:
            raise IndexError("no such template")
        return 0

    cdef int _host(self, int host) except -1:
        if not 0 <= host < self.hosts:
            raise IndexError("no such host")
        return 0

    def recompute(self):
        """All aggregates and flags of all hosts, from their VMs."""
        cdef int host
        with nogil:
            for host in range(self.hosts):
                settle(self, host)

    def flagged(self):
        """Indices of the hosts on which something cannot stand together."""
        cdef int host, w
        cdef list found = []
        for host in range(self.hosts):
            for w in range(self.flag_width):
                if self.flag[<int64_t> host * self.flag_width + w]:
                    found.append(host)
                    break
        return found

    def flags(self, int host):
        """(empty groups, labels, classes) of a host, as lists of bit numbers; a group is the number of its switch."""
        self._host(host)
        cdef const uint64_t *row = self.flag + <int64_t> host * self.flag_width
        return (
            [bit >> 2 for bit in bits(row, 2)],
            bits(row + 2, self.label_words),
            bits(row + 2 + self.label_words, self.class_words),
        )

    def admit(self, int template):
        """One byte for each host: 1 if its flags stay the same when a VM of this template is added."""
        self._known(template)
        cdef bytearray answer = bytearray(self.hosts)
        cdef unsigned char *same = answer
        cdef int host
        with nogil:
            for host in range(self.hosts):
                same[host] = stays(self, host, template)
        return answer

    def add(self, int host, int template):
        """A VM of this template starts on a host: its aggregates and flags are renewed."""
        cdef int64_t end
        self._host(host)
        self._known(template)
        if self.count[host] == self.space[host]:
            self._more_space(host)
        end = self.start[host] + self.count[host]
        self.vm[end] = template
        self.count[host] += 1
        settle(self, host)

    def remove(self, int host, int template):
        """One VM of this template leaves the host. An AND cannot be undone, so it is made anew from those who stay."""
        cdef int64_t at, end
        self._host(host)
        end = self.start[host] + self.count[host]
        for at in range(self.start[host], end):
            if self.vm[at] == template:
                self.vm[at] = self.vm[end - 1]
                self.count[host] -= 1
                settle(self, host)
                return
        raise ValueError("no VM of this template runs on the host")

    def watching(self, int host, int bit):
        """Templates of the host's VMs that cannot live with this value: the only ones that an event with it touches."""
        cdef int64_t at
        self._host(host)
        if not 0 <= bit < 128:
            raise IndexError("no such value")
        return [
            self.vm[at]
            for at in range(self.start[host], self.start[host] + self.count[host])
            if not self.template[<int64_t> self.vm[at] * self.width + (bit >> 6)] >> (bit & 63) & 1
        ]

    cdef int _more_space(self, int host) except -1:
        """Move the host's VMs to the end of the row, with room for as many again."""
        cdef int32_t space = 2 * self.space[host] + 4
        cdef int32_t *grown
        if self.vms_used + space > self.vms_space:
            self.vms_space = 2 * self.vms_space + space
            grown = <int32_t *> realloc(self.vm, 4 * self.vms_space)
            if grown == NULL:
                raise MemoryError()
            self.vm = grown
        memcpy(self.vm + self.vms_used, self.vm + self.start[host], 4 * self.count[host])
        self.start[host] = self.vms_used
        self.space[host] = space
        self.vms_used += space
        return 0


cdef void *copied(bytes data) except NULL:
    cdef void *room = zeroed(len(data) + 8, 1)
    memcpy(room, <const char *> data, len(data))
    return room


cdef void *zeroed(size_t count, size_t size) except NULL:
    cdef void *room = calloc(count + 1, size)
    if room == NULL:
        raise MemoryError()
    return room


cdef list bits(const uint64_t *row, int words):
    cdef int w
    cdef uint64_t word
    cdef list found = []
    for w in range(words):
        word = row[w]
        while word:
            found.append(64 * w + fleet_first(word))
            word &= word - 1
    return found


cdef void settle(Fleet self, int host) noexcept nogil:
    """Aggregates and flags of one host from its VMs."""
    cdef int labels = self.label_words, classes = self.class_words, w, bit
    cdef uint64_t *sums = self.sum + <int64_t> host * self.width
    cdef uint64_t *flag = self.flag + <int64_t> host * self.flag_width
    cdef int32_t *holder = self.holder + <int64_t> host * classes * 64
    cdef const uint64_t *one
    cdef uint64_t left, both
    cdef int64_t at
    cdef int32_t tenant
    memset(flag, 0, 8 * self.flag_width)
    memset(sums, 0, 8 * self.width)
    sums[0] = sums[1] = ~<uint64_t> 0
    for at in range(self.start[host], self.start[host] + self.count[host]):
        one = self.template + <int64_t> self.vm[at] * self.width
        tenant = self.tenant[self.vm[at]]
        sums[0] &= one[0]
        sums[1] &= one[1]
        for w in range(2, 2 + 2 * labels):
            sums[w] |= one[w]
        for w in range(classes):
            left = one[2 + 2 * labels + w]
            both = left & sums[2 + 2 * labels + w]
            sums[2 + 2 * labels + w] |= left
            while left:
                bit = fleet_first(left)
                if not both >> bit & 1:
                    holder[64 * w + bit] = tenant
                elif holder[64 * w + bit] != tenant:
                    flag[2 + labels + w] |= <uint64_t> 1 << bit
                left &= left - 1
    flag[0] = empty_groups(sums[0])
    flag[1] = empty_groups(sums[1])
    for w in range(labels):
        flag[2 + w] = sums[2 + w] & sums[2 + labels + w]


cdef bint stays(Fleet self, int host, int template) noexcept nogil:
    """Would the flags of this host be the same with one more VM?"""
    cdef int labels = self.label_words, classes = self.class_words, w, bit
    cdef const uint64_t *sums = self.sum + <int64_t> host * self.width
    cdef const uint64_t *flag = self.flag + <int64_t> host * self.flag_width
    cdef const int32_t *holder = self.holder + <int64_t> host * classes * 64
    cdef const uint64_t *one = self.template + <int64_t> template * self.width
    cdef uint64_t left
    if empty_groups(sums[0] & one[0]) != flag[0] or empty_groups(sums[1] & one[1]) != flag[1]:
        return False
    for w in range(labels):
        if (sums[2 + w] | one[2 + w]) & (sums[2 + labels + w] | one[2 + labels + w]) != flag[2 + w]:
            return False
    for w in range(classes):
        left = one[2 + 2 * labels + w] & sums[2 + 2 * labels + w] & ~flag[2 + labels + w]
        while left:
            bit = fleet_first(left)
            if holder[64 * w + bit] != self.tenant[template]:
                return False
            left &= left - 1
    return True
