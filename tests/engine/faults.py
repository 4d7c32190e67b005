"""The faults that `mutants` plants: each is one mistake that an engine like this one could be shipped with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Replace `old`, which stands once in the file of the core, by `new`."""

    name: str
    file: str
    old: str
    new: str


FAULTS = [
    # Frames and owners
    Fault(
        "drop the owner check",
        "pages.pyx",
        "if h.frames.owner[mfn] != owner and is_on(h.checks, OWNER_CHECK):",
        "if False:",
    ),
    Fault(
        "drop the check of protected frames",
        "pages.pyx",
        "if h.frames.owner[mfn] == HSVM and is_on(h.checks, PROTECTED_CHECK):",
        "if False:",
    ),
    Fault(
        "mark a frame free before it is wiped",
        "pages.pyx",
        "    wipe(h, mfn, o)\n    if stop == 3:\n        return pend(h, vm, gpn, mfn, 3)\n    own(h, mfn, FREE)\n",
        "    own(h, mfn, FREE)\n    if stop == 3:\n        return pend(h, vm, gpn, mfn, 3)\n    wipe(h, mfn, o)\n",
    ),
    Fault(
        "forget to wipe a released page",
        "pages.pyx",
        "    wipe(h, mfn, o)\n    if stop == 3:",
        "    if stop == 3:",
    ),
    Fault(
        "forget to wipe the pages of a 2 MiB leaf",
        "pages.pyx",
        "        wipe(h, mfn, o)\n        own(h, mfn, FREE)\n        h.counts.unmaps += 1\n",
        "        own(h, mfn, FREE)\n        h.counts.unmaps += 1\n",
    ),
    Fault(
        "a frame of a 2 MiB leaf too few is given",
        "hypervisor.pyx",
        "    for mfn in range(a.mfn, a.mfn + HUGE):",
        "    for mfn in range(a.mfn, a.mfn + HUGE - 1):",
    ),
    Fault(
        "finish a stopped release without its wipe",
        "pages.pyx",
        "    if step < 3:\n        wipe(h, mfn, o)\n",
        "    if step < 2:\n        wipe(h, mfn, o)\n",
    ),
    Fault(
        "the owner's count goes wrong",
        "frames.pyx",
        "    f.owned[old] -= 1\n    f.owned[owner] += 1\n    journal_change",
        "    f.owned[owner] += 1\n    journal_change",
    ),
    # Translations
    Fault(
        "skip the shootdown of a released page",
        "pages.pyx",
        "    page_shoot(h, vm, gpn, o)\n    if stop == 2:",
        "    if stop == 2:",
    ),
    Fault(
        "hypervisor and devices keep a frame that changed hands",
        "pages.pyx",
        "    set_owner(&h.frames, mfn, owner)\n    if is_on(h.checks, TLB_SHOOTDOWN):",
        "    set_owner(&h.frames, mfn, owner)\n    if False:",
    ),
    Fault(
        "hypervisor and devices keep what was shared",
        "pages.pyx",
        "    f.shared[s.mfn] = <uint8_t>s.perm\n    if is_on(h.checks, TLB_SHOOTDOWN):",
        "    f.shared[s.mfn] = <uint8_t>s.perm\n    if False:",
    ),
    # Handles
    Fault("forget the generation", "context.pyx", "        h.generation[slot] += 1\n", ""),
    Fault(
        "look at the slot of a handle only",
        "context.pyx",
        "    return vm if vm != NULL and vm.handle == handle else NULL\n",
        "    return vm\n",
    ),
    # Contexts
    Fault(
        "drop the context protection",
        "hypervisor.pyx",
        "        return refuse(o, CONTEXT_PROTECTION, F_PROTECTED)\n    context_fetch",
        "        pass\n    context_fetch",
    ),
    Fault(
        "a vcpu may be on two cores",
        "hypervisor.pyx",
        "if h.core[a.core].vm != NULL or vm.core[a.vcpu]:",
        "if h.core[a.core].vm != NULL:",
    ),
    Fault(
        "one vcpu too many",
        "hypervisor.pyx",
        "return OK if a.vcpu < vm[0].vcpus else E_INPUT",
        "return OK if a.vcpu <= vm[0].vcpus else E_INPUT",
    ),
    Fault(
        "a core keeps the registers of the guest that left",
        "context.pyx",
        "    memset(core.registers, 0, sizeof(core.registers))\n",
        "",
    ),
    Fault(
        "load the root that the hypervisor chose",
        "hypervisor.pyx",
        "    if is_on(h.checks, NPT_ROOT_PROTECTION):",
        "    if False:",
    ),
    # Order of checks and limits
    Fault(
        "the slot is looked at after the frame",
        "hypervisor.pyx",
        "    if status == OK and is_on(h.checks, SLOT_CHECK):\n        status = map_slot(h, a, o, &path)\n"
        "    if status == OK:\n        status = map_frames(h, vm, a, o)\n",
        "    if status == OK:\n        status = map_frames(h, vm, a, o)\n"
        "    if status == OK and is_on(h.checks, SLOT_CHECK):\n        status = map_slot(h, a, o, &path)\n",
    ),
    Fault(
        "one guest page too many",
        "calls.pyx",
        "        return whole(value, 0, 0xFFFFFFFFFULL, &a.gpn)",
        "        return whole(value, 0, 0x1000000000ULL, &a.gpn)",
    ),
    Fault(
        "no vcpu at all",
        "calls.pyx",
        "return small(value, 1, MAX_VCPUS, &a.vcpus)",
        "return small(value, 0, MAX_VCPUS, &a.vcpus)",
    ),
    Fault(
        "a load runs over the end of its frame",
        "hypervisor.pyx",
        "    if a.offset + a.length > PAGE:\n        return E_INPUT\n    status = hv_access(h, a.mfn, False, o)",
        "    if a.offset + a.length > PAGE + 1:\n        return E_INPUT\n    status = hv_access(h, a.mfn, False, o)",
    ),
    # Swap and migration
    Fault(
        "no guest page in the seal",
        "sealing.pyx",
        "    cdef uint64_t place = gpn if is_on(h.checks, SWAP_BINDING) else vm.handle\n",
        "    cdef uint64_t place = 0 if is_on(h.checks, SWAP_BINDING) else vm.handle\n",
    ),
    Fault(
        "no permission in the seal",
        "sealing.pyx",
        "    low = version | <uint64_t>image[HEAD] << VERSION_BITS | place",
        "    low = version | place",
    ),
    Fault("the swap counter does not rise", "sealing.pyx", "        vm.swaps += 1\n", ""),
    Fault(
        "an old image is as good as the newest",
        "sealing.pyx",
        "version != path.entry >> 4 and is_on(h.checks, SWAP_VERSION):",
        "False:",
    ),
    Fault(
        "a shared page may be swapped out",
        "sealing.pyx",
        "        if is_merged(path.entry) or has_bit(path.entry, BIT_SHARED):\n",
        "        if is_merged(path.entry):\n",
    ),
    # Shares and merges
    Fault(
        "a share outlives its page",
        "pages.pyx",
        "    if has_bit(entry, BIT_SHARED):\n        share_leaf(h, vm, table, index, 0)\n",
        "",
    ),
    Fault(
        "a mergeable mark outlives its page",
        "pages.pyx",
        "    if h.marks:\n        mark_drop(h, vm.slot, gpn)\n",
        "",
    ),
    Fault(
        "a share to read may be written",
        "hypervisor.pyx",
        "allowed = PERM_R if owner == FREE else h.frames.shared[mfn]",
        "allowed = PERM_R if owner == FREE else 3 * (h.frames.shared[mfn] != 0)",
    ),
    Fault(
        "a merge keeps w",
        "sharing.pyx",
        "    return (entry & ~<uint64_t>WRITABLE) | (bit_of(BIT_HAD_W) if entry & WRITABLE else 0)",
        "    return entry | (bit_of(BIT_HAD_W) if entry & WRITABLE else 0)",
    ),
    Fault(
        "a merge with one guest's consent",
        "sharing.pyx",
        "    if not consents(h, vm, a.gpn, other) or not consents(h, other, a.other_gpn, vm):",
        "    if not consents(h, vm, a.gpn, other):",
    ),
    Fault(
        "the lender does not get w back",
        "sharing.pyx",
        "with_w(path.entry & ~bit_of(BIT_LENDS))",
        "path.entry & ~bit_of(BIT_LENDS)",
    ),
    Fault(
        "the bytes are compared before consent",
        "sharing.pyx",
        "    if not small or vm == other or number_in(one) == number_in(two):\n        return E_STATE\n",
        "    if not small or vm == other or number_in(one) == number_in(two):\n        return E_STATE\n"
        "    if not same_bytes(f, <uint32_t>number_in(one), <uint32_t>number_in(two)):\n        return E_BUSY\n",
    ),
    # The bus
    Fault(
        "devices reach every frame",
        "guest.pyx",
        "    if owner != HYPERVISOR and is_on(h.checks, DMA_CHECK):",
        "    if False:",
    ),
    # 2 MiB leaves
    Fault(
        "a split loses pages",
        "paging.pyx",
        "    for i in range(512):\n        entry_write(f, table, i, leaf_entry(first + i, perm_in(entry)))",
        "    for i in range(511):\n        entry_write(f, table, i, leaf_entry(first + i, perm_in(entry)))",
    ),
    Fault(
        "a split makes all pages show the first frame",
        "paging.pyx",
        "leaf_entry(first + i, perm_in(entry))",
        "leaf_entry(first, perm_in(entry))",
    ),
]
