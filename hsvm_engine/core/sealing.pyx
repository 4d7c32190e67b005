"""Sealed swap and sealed migration, with AES-256-GCM of the `cryptography` package.

A page image, little-endian: "HSVMSWAP", version u64, permission bits u8, nonce, the encrypted page, tag. What the page
is bound to (its VM by the key; version, permission and guest page by the nonce) and whether the version is the newest
decide whether it is taken. A nonce that says so saves the tag from covering it beside the page: a twelfth of the time.

A VM image: "HSVMVMIM", length of all u64, target of 16 bytes, id of 16 bytes, the encrypted VM, tag. The id is a MAC
over all that is in the image, so no two images share a key: their keys are made from it.

Rows that seal nothing write the same forms in the clear, with zeros for nonce, id and tag.
"""

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from hsvm_engine.core.context cimport (
    MOST_IMPORTS, Vm, context_fetch, context_store, refuse, vm_find, vm_make, vm_of_tables,
)
from hsvm_engine.core.frames cimport (
    Frames, entry_write, frame_is_zero, frame_page, frame_write, frame_zero, frames_reserve, peek,
)
from hsvm_engine.core.hypervisor cimport delete_commit, page_map
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.pages cimport is_merged, is_pending, leaf_in, must_own, release_page, split_page, visited
from hsvm_engine.core.paging cimport (
    BIT_SHARED, BIT_TABLE, Leaf, Path, bit_of, each_leaf, each_record, has_bit, index_of, is_swap_record, leaf_entry,
    number_in, path_find, path_maps, perm_in, perm_of_record, swap_record,
)
from hsvm_engine.core.shadow cimport pool_find_all
from hsvm_engine.core.types cimport (
    BUSY_CHECK, E_BUSY, E_EXIST, E_INPUT, E_INTEGRITY, E_NOENT, E_NOMEM, E_NOVM, E_REPLAY, E_STATE, FREE,
    HANDLE_CHECK, MAX_VCPUS, OK, PAGE, REGISTERS, SWAP_BINDING, SWAP_VERSION, is_on, uint8_t, uint32_t, uint64_t,
)

cdef const char *PAGE_MAGIC = b"HSVMSWAP"
cdef const char *VM_MAGIC = b"HSVMVMIM"
cdef uint8_t[4096] ZEROS
memset(ZEROS, 0, PAGE)

cdef enum:
    BODY_AT = HEAD + 1 + NONCE
    HAS_CONTENT = 1
    IS_TABLE = 2


cdef enum:
    CIPHERS = 256             # that are kept; others are made again
    VERSION_BITS = 57         # of a nonce: more swaps than a VM can live to see


cdef class Window:
    """Bytes somewhere in memory as an object, made once and moved: an object for each page would cost time."""
    cdef uint8_t *bytes
    cdef Py_ssize_t[1] length
    cdef bint readonly

    cdef Window at(self, uint8_t *bytes, Py_ssize_t length, bint readonly):
        self.bytes, self.length[0], self.readonly = bytes, length, readonly
        return self

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.bytes, self.length[0], self.readonly, flags)


cdef class Keys:
    """The secrets of one host. What is made from a VM's handle is good for that VM alone: handles never come back."""
    cdef bytes machine_id
    cdef bytes platform_key
    cdef bytes host
    cdef dict ciphers
    cdef uint64_t handle          # whose these are; the next page is mostly of the same VM
    cdef object encrypt
    cdef object decrypt
    cdef Window source
    cdef Window target

    def __init__(self, seed, machine_id, platform_key):
        self.machine_id, self.platform_key = machine_id, platform_key
        self.host = hashlib.sha256(b"hsvm host secret" + struct.pack("<Q", seed) + machine_id).digest()
        self.ciphers = {}
        self.source, self.target = Window(), Window()

    cdef void choose(self, uint64_t handle) except *:
        """Take the cipher of a VM's pages; handle 0 stands for the whole host."""
        if handle == self.handle and self.encrypt is not None:
            return
        cipher = self.ciphers.get(handle)
        if cipher is None:
            if len(self.ciphers) >= CIPHERS:
                self.ciphers.clear()
            key = hashlib.sha256(b"hsvm page key" + self.host + struct.pack("<Q", handle)).digest()
            cipher = self.ciphers[handle] = AESGCM(key)
        self.handle = handle
        self.encrypt, self.decrypt = cipher.encrypt_into, cipher.decrypt_into

    cdef bytes mac(self, list parts):
        return hmac.digest(self.platform_key, b"".join(parts), "sha256")


# Swap

cdef void page_nonce(Host *h, Vm *vm, uint64_t gpn, const uint8_t *image, uint8_t *nonce) noexcept nogil:
    """The nonce that binds a page: version (57 bits), permission (3), guest page (36); the VM is bound by its key.

    Where images are bound to nothing, all VMs have one key, and the VM that sealed stands in place of the guest page.
    """
    cdef uint64_t version, low
    cdef uint64_t place = gpn if is_on(h.checks, SWAP_BINDING) else vm.handle
    cdef uint32_t high = <uint32_t>(place >> 4)
    memcpy(&version, image + 8, 8)
    low = version | <uint64_t>image[HEAD] << VERSION_BITS | place << (VERSION_BITS + 3)
    memcpy(nonce, &low, 8)
    memcpy(nonce + 8, &high, 4)


cdef bint nonce_fits(Host *h, Vm *vm, uint64_t gpn, const uint8_t *image) noexcept nogil:
    """Whether the nonce of an image says what the image says, and that it is of this guest page."""
    cdef uint8_t[NONCE] nonce
    cdef uint64_t version
    memcpy(&version, image + 8, 8)
    page_nonce(h, vm, gpn, image, nonce)
    if not is_on(h.checks, SWAP_BINDING):           # whoever sealed it
        nonce[7] = (nonce[7] & 0x0F) | (image[HEAD + 8] & 0xF0)
        memcpy(nonce + 8, image + HEAD + 9, 4)
    return image[HEAD] < 8 and version >> VERSION_BITS == 0 and memcmp(nonce, image + HEAD + 1, NONCE) == 0


cdef Keys keys_of_page(Host *h, Vm *vm):
    """The host's keys, made ready for a page of the VM."""
    cdef Keys keys = <Keys>h.seals
    keys.choose(vm.handle if is_on(h.checks, SWAP_BINDING) else 0)
    return keys


cdef Status_t seal_page(Host *h, Vm *vm, uint64_t gpn, uint32_t perm, uint32_t mfn, uint8_t *image) noexcept:
    """Write the image of a page, its version one more than the VM's last."""
    cdef uint64_t version = vm.swaps + 1
    cdef uint8_t *page = peek(&h.frames, mfn)
    cdef Keys keys
    memset(image, 0, BODY_AT)
    memcpy(image, PAGE_MAGIC, 8)
    memcpy(image + 8, &version, 8)
    image[HEAD] = <uint8_t>perm
    if page == NULL:
        page = ZEROS
    if not h.sealed:
        memcpy(image + BODY_AT, page, PAGE)
        memset(image + BODY_AT + PAGE, 0, TAG)
        return OK
    page_nonce(h, vm, gpn, image, image + HEAD + 1)     # a VM's counter only rises: no nonce comes twice
    try:
        keys = keys_of_page(h, vm)
        keys.encrypt(
            PyBytes_FromStringAndSize(<char *>image + HEAD + 1, NONCE),
            keys.source.at(page, PAGE, True),
            None,
            keys.target.at(image + BODY_AT, PAGE + TAG, False),
        )
    except MemoryError:
        return E_NOMEM
    h.counts.seals += 1
    return OK


cdef Status_t open_page(Host *h, Vm *vm, uint64_t gpn, const uint8_t *image, uint8_t *page) noexcept:
    """Write the page of an image; E_INTEGRITY unless this host sealed it for this VM and guest page."""
    cdef Keys keys
    if not h.sealed:
        memcpy(page, image + BODY_AT, PAGE)
        return OK
    if not nonce_fits(h, vm, gpn, image):
        return E_INTEGRITY
    try:
        keys = keys_of_page(h, vm)
        keys.decrypt(
            PyBytes_FromStringAndSize(<char *>image + HEAD + 1, NONCE),
            keys.source.at(<uint8_t *>image + BODY_AT, PAGE + TAG, True),
            None,
            keys.target.at(page, PAGE, False),
        )
    except InvalidTag:
        return E_INTEGRITY
    except MemoryError:
        return E_NOMEM
    h.counts.seals += 1
    return OK


cdef Status_t page_image(Out *o) noexcept:
    """Make room for the image of a page as a result."""
    cdef bytes room
    try:
        room = PyBytes_FromStringAndSize(NULL, PAGE_IMAGE)
    except MemoryError:
        return E_NOMEM
    Py_INCREF(room)
    o.image_object = <void *>room
    o.image = <uint8_t *>PyBytes_AS_STRING(room)
    return OK


cdef Status_t swap_out(Host *h, Args *a, Out *o) noexcept nogil:
    """Take a page from its VM as a sealed image; the slot keeps the record of its version."""
    cdef Vm *vm
    cdef Path path
    cdef uint64_t mfn
    cdef Status_t status = vm_of_tables(h, a.vm, o, &vm)
    if status != OK:
        return status
    path_find(&h.frames, vm.root, a.gpn, &path)
    if path.lowest == 1 and path_maps(&h.frames, &path) and is_on(h.checks, BUSY_CHECK):
        if is_merged(path.entry) or has_bit(path.entry, BIT_SHARED):
            return refuse(o, BUSY_CHECK, E_BUSY)
    if not path_maps(&h.frames, &path):
        return E_NOENT
    mfn = number_in(path.entry) + (a.gpn & 511 if path.lowest == 2 else 0)
    if mfn >= h.frames.count:                       # only where the hypervisor writes entries itself
        return E_NOENT
    with gil:
        status = page_image(o) if o.image == NULL else OK
        if status == OK:
            status = seal_page(h, vm, a.gpn, perm_in(path.entry), <uint32_t>mfn, o.image)
    if status == OK:
        status = split_page(h, vm, a.gpn, &path)
    if status == OK:
        status = release_page(h, vm, path.table[1], index_of(a.gpn, 1), a.gpn, o)
    if status == OK:
        keep_at(&h.journal, &vm.swaps, 8)
        vm.swaps += 1
        entry_write(&h.frames, path.table[1], index_of(a.gpn, 1), swap_record(vm.swaps, perm_in(path.entry)))
    return status


cdef Status_t swap_in(Host *h, Args *a, Out *o) noexcept nogil:
    """Take the newest image of a page back into a free frame, with the page's old permission."""
    cdef Vm *vm
    cdef Path path
    cdef uint64_t version
    cdef uint8_t *page
    cdef uint8_t *room
    cdef Status_t status
    if a.image_length != PAGE_IMAGE or memcmp(a.image, PAGE_MAGIC, 8):
        return E_INPUT
    memcpy(&version, a.image + 8, 8)
    status = vm_of_tables(h, a.vm, o, &vm)
    if status != OK:
        return status
    if is_pending(h, vm, a.gpn):
        return refuse(o, BUSY_CHECK, E_BUSY)
    path_find(&h.frames, vm.root, a.gpn, &path)
    if h.counted and path_maps(&h.frames, &path):
        return E_EXIST
    if path.lowest != 1 or not is_swap_record(path.entry):
        return E_NOENT
    status = must_own(h, a.mfn, FREE, o)
    if status != OK:
        return status
    page = frame_page(&h.frames, a.mfn)             # a zero frame takes the page where it will be
    room = page if page != NULL else &o.data[0]
    with gil:
        status = open_page(h, vm, a.gpn, a.image, room)
    if status == E_INTEGRITY:
        status = refuse(o, SWAP_BINDING, E_INTEGRITY)
    elif status == OK and version != path.entry >> 4 and is_on(h.checks, SWAP_VERSION):
        status = refuse(o, SWAP_VERSION, E_REPLAY)
    if page != NULL and (status != OK or frame_is_zero(&h.frames, a.mfn)):
        frame_zero(&h.frames, a.mfn)
    if status != OK:
        return status
    if page == NULL:
        frame_write(&h.frames, a.mfn, 0, PAGE, o.data)
    leaf_in(h, vm, path.table[1], index_of(a.gpn, 1), a.mfn, leaf_entry(a.mfn, perm_of_record(path.entry)))
    return OK


# Export

cdef bint is_held(void *context, Leaf *leaf) noexcept nogil:
    return leaf.size == 1 and (is_merged(leaf.entry) or has_bit(leaf.entry, BIT_SHARED))


cdef bint is_record(void *context, Leaf *leaf) noexcept nogil:
    return True


cdef bint is_busy(Host *h, Vm *vm) noexcept nogil:
    """Whether something of the VM cannot travel: a vcpu on a core, a page that is shared, merged or swapped out."""
    cdef uint32_t i
    for i in range(vm.vcpus):
        if vm.core[i]:
            return True
    if vm.stopped:
        return False
    return (each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), is_held, NULL)
            or each_record(&h.frames, vm.root, 4, 0, visited(h), is_record, NULL))


cdef struct Packing:
    Host *host
    void *pages               # list of (gpn, permission, flags)
    void *contents            # list of bytes


cdef bint pack_leaf(void *context, Leaf *leaf) noexcept with gil:
    """List the pages of a leaf, a 2 MiB one as 512, and the bytes of those that are not zero."""
    cdef Packing *p = <Packing *>context
    cdef Frames *f = &p.host.frames
    cdef uint32_t mfn, flags, i
    for i in range(leaf.size):
        mfn = leaf.mfn + i
        flags = IS_TABLE if leaf.size == 1 and has_bit(leaf.entry, BIT_TABLE) else 0
        if mfn < f.count and not frame_is_zero(f, mfn):
            flags |= HAS_CONTENT
            (<list>p.contents).append((<char *>peek(f, mfn))[:PAGE])
        (<list>p.pages).append((leaf.gpn + i, leaf.perm, flags))
    return False


cdef bytes packed_vm(Host *h, Vm *vm):
    """The VM in the clear: numbers of vcpus and pages, registers, (gpn, permission, flags) by gpn, then contents."""
    cdef uint64_t[REGISTERS] registers
    cdef uint32_t i, k
    cdef list pages = [], contents = [], parts = []
    cdef Packing work
    work.host, work.pages, work.contents = h, <void *>pages, <void *>contents
    each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), pack_leaf, &work)
    parts.append(struct.pack("<II", vm.vcpus, len(pages)))
    for i in range(vm.vcpus):
        context_fetch(h, vm, i, registers)
        parts.append(struct.pack(f"<{REGISTERS}Q", *[registers[k] for k in range(REGISTERS)]))
    parts.extend(struct.pack("<QBB", *page) for page in pages)
    return b"".join([*parts, *contents])


cdef bytes sealed_vm(Host *h, bytes plain, bytes target):
    cdef bytes head = VM_MAGIC[:8] + struct.pack("<Q", HEAD + 32 + len(plain) + TAG) + target
    cdef Keys keys = <Keys>h.seals
    if not h.sealed:
        return head + bytes(16) + plain + bytes(TAG)
    name = keys.mac([b"id", keys.machine_id, struct.pack("<Q", h.exports), target, plain])[:16]
    return head + name + AESGCM(keys.mac([b"key", name])).encrypt(bytes(NONCE), plain, head + name)


cdef Status_t vm_image(Host *h, Vm *vm, bytes target, Out *o) noexcept:
    try:
        image = sealed_vm(h, packed_vm(h, vm), target)
    except (MemoryError, OverflowError):
        return E_NOMEM
    Py_INCREF(image)
    o.image_object = <void *>image
    return OK


cdef Status_t export_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """Seal a whole VM for one other host, and end it here."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef Status_t status
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    if is_busy(h, vm):
        return refuse(o, BUSY_CHECK, E_BUSY)
    if vm.stopped:
        return E_STATE
    with gil:
        status = vm_image(h, vm, (<char *>a.target)[:16], o)
    if status != OK:
        return status
    keep_at(&h.journal, &h.exports, 8)
    h.exports += 1
    return delete_commit(h, vm, o)


# Import

cdef tuple unpacked_vm(bytes plain):
    """(registers by vcpu, pages, contents); ValueError for anything that `packed_vm` does not write."""
    vcpus, count = struct.unpack_from("<II", plain)
    if not 1 <= vcpus <= MAX_VCPUS or len(plain) < 8 + vcpus * REGISTERS * 8 + count * 10:
        raise ValueError
    registers = [struct.unpack_from(f"<{REGISTERS}Q", plain, 8 + i * REGISTERS * 8) for i in range(vcpus)]
    at = 8 + vcpus * REGISTERS * 8
    pages = list(struct.iter_unpack("<QBB", plain[at:at + count * 10]))
    contents = memoryview(plain)[at + count * 10:]
    before = -1
    for gpn, perm, flags in pages:
        if gpn <= before or gpn >> 36 or perm not in (1, 3, 5, 7) or flags > 3:
            raise ValueError
        before = gpn
    if len(contents) != PAGE * sum(flags & HAS_CONTENT for _, _, flags in pages):
        raise ValueError
    return registers, pages, contents


cdef Status_t opened_vm(Host *h, bytes image, list out):
    """Append the VM in the clear: E_INTEGRITY unless it was sealed for this host, E_REPLAY if it was here before."""
    cdef bytes name = image[HEAD + 16:HEAD + 32]
    cdef uint32_t i
    cdef Keys keys = <Keys>h.seals
    if not h.sealed:
        out.append(image[HEAD + 32:len(image) - TAG])
        return OK
    if image[HEAD:HEAD + 16] != keys.machine_id:
        return E_INTEGRITY
    try:
        cipher = AESGCM(keys.mac([b"key", name]))
        out.append(cipher.decrypt(bytes(NONCE), image[HEAD + 32:], image[:HEAD + 32]))
    except InvalidTag:
        return E_INTEGRITY
    for i in range(h.imports):
        if memcmp(h.imported[i], PyBytes_AS_STRING(name), 16) == 0:
            return E_REPLAY
    return OK


cdef uint32_t *free_frames(Frames *f, uint32_t wanted) noexcept nogil:
    """The lowest FREE frames, the caller frees the list; NULL if there are too few or no memory."""
    cdef uint32_t found = 0, mfn = 0
    cdef uint32_t *out
    if f.owned[<int>FREE] < wanted:
        return NULL
    out = <uint32_t *>malloc((<size_t>wanted + 1) * sizeof(uint32_t))
    while out != NULL and found < wanted:
        if f.owner[mfn] == FREE:
            out[found] = mfn
            found += 1
        mfn += 1
    return out


cdef bint pool_has(Host *h, uint32_t wanted) noexcept nogil:
    cdef uint32_t *out = <uint32_t *>malloc((<size_t>wanted + 1) * sizeof(uint32_t))
    cdef bint enough = out != NULL and pool_find_all(&h.frames, &h.shadow, wanted, out) == wanted
    free(out)
    return enough


cdef void import_pages(Host *h, Vm *vm, list pages, object contents, uint32_t *frames, Args *a, Out *o) except *:
    """Map every page. Everything that this needs is there, so no map can be refused."""
    cdef uint32_t i, flags
    cdef uint64_t at = 0
    cdef Path path
    cdef const uint8_t[::1] bytes_of = contents
    a.vm, a.size = vm.handle, 1
    for i in range(<uint32_t>len(pages)):
        a.gpn, a.perm, flags = pages[i]
        a.mfn = frames[i]
        if page_map(h, a, o) != OK:
            raise RuntimeError("import: what was reserved is not there")
        frame_zero(&h.frames, a.mfn)            # where nothing is wiped, a free frame may hold anything
        if flags & HAS_CONTENT:
            frame_write(&h.frames, a.mfn, 0, PAGE, &bytes_of[at])
            at += PAGE
        if flags & IS_TABLE:
            path_find(&h.frames, vm.root, a.gpn, &path)
            entry_write(&h.frames, path.table[1], index_of(a.gpn, 1), path.entry | bit_of(BIT_TABLE))


cdef Status_t import_commit(Host *h, bytes plain, const uint8_t *name, Args *a, Out *o):
    """Make the VM if frames, pool and slots suffice: E_NOMEM changes nothing."""
    cdef uint32_t[MAX_VCPUS + 1] pool
    cdef uint64_t[REGISTERS] saved
    cdef uint32_t *frames
    cdef uint32_t i, k
    cdef Vm *vm
    registers, pages, contents = unpacked_vm(plain)
    tables = sum(len({gpn >> shift for gpn, _, _ in pages}) for shift in (9, 18, 27))
    if h.imports == MOST_IMPORTS or not pool_has(h, tables + 1 + len(registers)):
        return E_NOMEM
    if not frames_reserve(&h.frames, len(contents) // PAGE + tables + 2 * len(registers) + 2):
        return E_NOMEM
    frames = free_frames(&h.frames, len(pages))
    if frames == NULL:
        return E_NOMEM
    try:
        pool_find_all(&h.frames, &h.shadow, 1 + len(registers), pool)
        vm = vm_make(h, len(registers), pool)
        if vm == NULL:
            return E_NOMEM
        for i in range(vm.vcpus):
            for k in range(REGISTERS):
                saved[k] = registers[i][k]
            context_store(h, vm, i, saved)
        import_pages(h, vm, pages, contents, frames, a, o)
    finally:
        free(frames)
    if h.sealed:
        keep_at(&h.journal, &h.imports, 4)
        memcpy(h.imported[h.imports], name, 16)
        h.imports += 1
    o.vm = vm.handle
    return OK


cdef Status_t import_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """Take a VM that another host sealed for this one."""
    cdef uint64_t length
    cdef Status_t status
    if a.image_length < HEAD + 32 + TAG or memcmp(a.image, VM_MAGIC, 8):
        return E_INPUT
    memcpy(&length, a.image + 8, 8)
    if length != a.image_length:
        return E_INPUT
    with gil:
        plain = []
        try:
            status = opened_vm(h, (<char *>a.image)[:a.image_length], plain)
            if status == OK:
                status = import_commit(h, plain[0], a.image + HEAD + 16, a, o)
        except (ValueError, struct.error):
            status = E_INPUT
        except MemoryError:
            status = E_NOMEM
    return status
