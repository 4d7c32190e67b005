"""Pages by the batch: map, unmap, zeroing and swap, each beside what the same work costs without a machine."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks._figures import PAGE, U64, Figures, batch, batch_seconds, figure, library, map_columns, pointer, seconds
from hsvm_engine import Machine

IMAGE = 4141  # bytes of a sealed page
PARTS = 4  # of a round
FIRST = 1024  # frames of the hypervisor; guests' frames follow
Numbers = npt.NDArray[np.uint64]


def host(pages: int) -> Machine:
    """Room for `pages` guest frames, their tables, and the ownership table."""
    protected = pages // 128 + pages // 256 + 1024
    return Machine(FIRST + pages + protected, FIRST, protected)


def numbers(pages: int) -> tuple[Numbers, Numbers]:
    """Guest pages in order, frames in none: every owner entry is somewhere else."""
    order = np.random.default_rng(2026).permutation(pages)
    return np.arange(pages, dtype=np.uint64), (order + FIRST).astype(np.uint64)


def reference(folder: Path) -> ctypes.CDLL:
    loaded = library("reference_tables.c", folder)
    loaded.tables_open.restype = ctypes.c_void_p
    loaded.tables_open.argtypes = [ctypes.c_uint32, ctypes.c_uint32]
    loaded.tables_close.argtypes = loaded.tables_reset.argtypes = loaded.tables_owners.argtypes = [ctypes.c_void_p]
    loaded.tables_owners.restype = ctypes.POINTER(ctypes.c_uint16)
    loaded.tables_map.restype = loaded.tables_unmap.restype = ctypes.c_uint64
    loaded.tables_map.argtypes = [ctypes.c_void_p, U64, U64, ctypes.c_uint64, ctypes.c_uint16]
    loaded.tables_unmap.argtypes = [ctypes.c_void_p, U64, ctypes.c_uint64]
    loaded.pages_clear.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    return loaded


def parts(pages: int) -> list[slice]:
    """Neighbouring parts of a round. Both sides do one after the other, so that both meet the computer in one mood."""
    part = max(1, pages // PARTS)
    return [slice(first, first + part) for first in range(0, pages, part)]


def tables(c: ctypes.CDLL, pages: int, rounds: int) -> Figures:
    """page_map of an empty VM and page_unmap of pages that were never written, beside the C loops.

    The first round only warms up: its page faults belong to the computer.
    """
    machine = host(pages)
    gpns, mfns = numbers(pages)
    other = c.tables_open(machine.frames, pages // 256 + 8)
    mapped, unmapped = [], []
    for _ in range(rounds + 1):
        vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
        slot = machine.slot_of(vm)
        mine = theirs = 0.0
        for part in parts(pages):
            g, f = gpns[part], mfns[part]
            mine += batch_seconds(machine, "page_map", map_columns(vm, g, f))
            theirs += seconds(c.tables_map, other, pointer(g), pointer(f), len(g), slot)
        owners = np.ctypeslib.as_array(c.tables_owners(other), (machine.frames,))
        ours = machine.ownership()
        if not (ours[FIRST : FIRST + pages] == owners[FIRST : FIRST + pages]).all() or (owners == slot).sum() != pages:
            raise SystemExit("map: machine and reference differ")
        mapped.append(theirs / mine)
        mine = theirs = 0.0
        for part in parts(pages):
            mine += batch_seconds(machine, "page_unmap", {"vm": vm, "gpn": gpns[part]})
            theirs += seconds(c.tables_unmap, other, pointer(gpns[part]), len(gpns[part]))
        if ours[FIRST : FIRST + pages].any() or owners.any():
            raise SystemExit("unmap: machine and reference differ")
        unmapped.append(theirs / mine)
        machine.hypervisor.delete_vm(vm=vm)
        c.tables_reset(other)
    c.tables_close(other)
    return {**figure("map_ratio", mapped[1:]), **figure("unmap_ratio", unmapped[1:])}


def written(machine: Machine, vm: int, pages: int) -> None:
    """A non-zero byte in each page of the guest."""
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    for gpn in range(pages):
        if machine.apply({"op": "guest_write", "core": 0, "gpa": gpn * PAGE, "data": "a5"})["status"] != "OK":
            raise SystemExit("a page could not be written")
    machine.hypervisor.context_save(core=0)


def zeroing(c: ctypes.CDLL, pages: int, rounds: int) -> Figures:
    """page_unmap of pages with content, beside memset of as many pages that were just written too.

    The machine need not clear what nobody can read: it takes the bytes out of the frame, for they are the old value
    that the journal keeps, and clears them when another frame gets them.
    """
    machine = host(pages)
    gpns, mfns = numbers(pages)
    plain = np.zeros(pages * PAGE, dtype=np.uint8)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    ratios = []
    for _ in range(rounds + 1):
        batch(machine, "page_map", map_columns(vm, gpns, mfns))
        written(machine, vm, pages)
        plain[::PAGE] = 0xA5
        mine = theirs = 0.0
        for part in parts(pages):
            mine += batch_seconds(machine, "page_unmap", {"vm": vm, "gpn": gpns[part]})
            theirs += seconds(c.pages_clear, plain.ctypes.data + part.start * PAGE, part.stop - part.start)
        ratios.append(theirs / mine)
        if plain[::PAGE].any():
            raise SystemExit("memset: a page is not zero")
    return figure("unmap_zero_ratio", ratios[1:])


def random_pages(machine: Machine, vm: int, pages: int) -> list[bytes]:
    """Fill the guest's pages with random bytes; these bytes."""
    source = np.random.default_rng(2026)
    contents = [source.bytes(PAGE) for _ in range(pages)]
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    for gpn, content in enumerate(contents):
        machine.guest.guest_write(core=0, gpa=gpn * PAGE, data=content)
    machine.hypervisor.context_save(core=0)
    return contents


def seal(cipher: AESGCM, nonces: list[bytes], contents: list[bytes], sealed: list[bytes]) -> None:
    sealed += [cipher.encrypt(nonce, page, None) for nonce, page in zip(nonces, contents, strict=True)]


def unseal(cipher: AESGCM, nonces: list[bytes], sealed: list[bytes]) -> None:
    for nonce, image in zip(nonces, sealed, strict=True):
        cipher.decrypt(nonce, image, None)


def swap(pages: int, rounds: int) -> Figures:
    """swap_out and swap_in of every page, beside AES-256-GCM of the same bytes by the same library."""
    machine = host(pages)
    gpns, mfns = numbers(pages)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    batch(machine, "page_map", map_columns(vm, gpns, mfns))
    contents = random_pages(machine, vm, pages)
    images = bytearray(pages * IMAGE)
    cipher = AESGCM(bytes(range(32)))
    nonces = [number.to_bytes(12, "little") for number in range(pages)]
    ratios = []
    for _ in range(rounds + 1):
        mine = theirs = 0.0
        sealed: list[bytes] = []
        for part in parts(pages):
            room = memoryview(images)[part.start * IMAGE : part.stop * IMAGE]
            mine += batch_seconds(machine, "swap_out", {"vm": vm, "gpn": gpns[part]}, room)
            theirs += seconds(seal, cipher, nonces[part], contents[part], sealed)
        for part in parts(pages):
            room = memoryview(images)[part.start * IMAGE : part.stop * IMAGE]
            mine += batch_seconds(machine, "swap_in", {"vm": vm, "gpn": gpns[part], "mfn": mfns[part]}, room)
            theirs += seconds(unseal, cipher, nonces[part], sealed[part])
        ratios.append(theirs / mine)
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    if machine.guest.guest_read(core=0, gpa=PAGE, length=PAGE)["data"] != contents[1].hex():
        raise SystemExit("swap: a page came back changed")
    return figure("swap_ratio", ratios[1:])
