"""What the operator's software does to a running guest: pages merged, swapped, copied and read. (policy.md section 12)

Whether an act may take effect is decided before, by whoever calls: here it is carried out as an honest hypervisor does
it. Where the processor guards the memory, the guest's driver helps as far as its agreement says: it shares a page for
an allowed plain read and takes it back, and marks what may be merged. What was seen is told as counts and digests.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from hsvm_engine.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from hsvm_engine.play import Player, Vm

Images = dict[tuple[int, int], str]  # handle and guest page: the image, in hex
PAGE = 4_096
PLAIN_TAG = "00" * 16  # what ends an image that nobody sealed


def leaves_of(player: Player, vm: Vm) -> list[tuple[int, int, str]]:
    """Guest page, frame and permission of each page that is mapped, lowest first."""
    rows = player.machine.dump()["leaves"].get(vm.handle, [])
    return [(gpn + i, mfn + i, perm) for gpn, mfn, size, perm in rows for i in range(size)]


def _as_guest(player: Player, vm: Vm, op: str, gpns: list[int], **fields: Any) -> list[int]:
    """The guest's driver does this to each of its pages; those for which it was answered OK."""
    core = vm.spec.core
    player.hypervisor.must("context_restore", vm=vm.handle, vcpu=0, core=core)
    done = [
        gpn for gpn in gpns if player.machine.apply({"op": op, "core": core, "gpn": gpn, **fields})["status"] == "OK"
    ]
    player.hypervisor.must("context_save", core=core)
    return done


# -- merging


def merge(player: Player, vm: Vm, other: Vm, pages: int) -> dict[str, Any]:
    """Kernel pages, pair by pair: what is equal is kept once. Guarded pages are compared by the processor alone."""
    machine, hypervisor = player.machine, player.hypervisor
    merged = {(row[0], row[1]) for row in machine.dump()["merged"]}
    count = min(vm.guest.kernel - vm.guest.tables, other.guest.kernel - other.guest.tables)
    pairs = [(vm.guest.tables + number, other.guest.tables + number) for number in range(count)]
    pairs = [pair for pair in pairs if (other.handle, pair[1]) not in merged and (vm.handle, pair[0]) not in merged]
    frames = {each.handle: {gpn: mfn for gpn, mfn, _ in leaves_of(player, each)} for each in (vm, other)}
    before = np.array(list(frames[other.handle].values()), np.intp)
    if ARCHITECTURES[machine.architecture].merge_consent:
        for each, side, partner in ((vm, 0, other), (other, 1, vm)):
            _as_guest(player, each, "guest_mergeable", [pair[side] for pair in pairs], **{"with": [partner.handle]})
    else:
        pairs = [
            (one, two)
            for one, two in pairs
            if _read(player, frames[vm.handle].get(one)) == _read(player, frames[other.handle].get(two)) is not None
        ]
    done = compared = 0
    for one, two in pairs:
        if done == pages:
            break
        compared += 1
        result = machine.hypervisor.merge(vm=vm.handle, gpn=one, other_vm=other.handle, other_gpn=two)
        done += result["status"] == "OK"
    for each in (vm, other):
        hypervisor.shoot_down(each.handle)
    hypervisor.wipe(before)
    return {"compared": compared, "merged": done, "freed": done}


def part(player: Player, vm: Vm, *, ends: bool = False) -> int:
    """Every page that the VM borrows or lends becomes two again. A VM that ends gives pages of its own for it, where
    the host has none."""
    hypervisor, count = player.hypervisor, 0
    for borrower, gpn, lender, _ in player.machine.dump()["merged"]:
        if vm.handle not in (borrower, lender):
            continue
        mfn = hypervisor.free_frame(borrower)
        if mfn is None and ends:
            player.machine.hypervisor.page_unmap(vm=vm.handle, gpn=max(gpn for gpn, _, _ in leaves_of(player, vm)))
            mfn = hypervisor.free_frame(borrower)
        if mfn is not None:
            hypervisor.must("unmerge", vm=borrower, gpn=gpn, mfn=mfn)
            count += 1
    if count:
        for each in player.vms:
            hypervisor.shoot_down(each.handle)
    return count


# -- swapping


def swap_out(player: Player, vm: Vm, gpns: list[int]) -> dict[str, Any]:
    """The pages leave memory as images, which the hypervisor keeps. The digest is over these."""
    digest, sealed, taken = hashlib.sha256(), True, 0
    frames = np.array([mfn for _, mfn, _ in leaves_of(player, vm)], np.intp)
    for gpn in gpns:
        result = player.machine.hypervisor.swap_out(vm=vm.handle, gpn=gpn)
        if result["status"] != "OK":
            continue
        image = result["image"]
        player.images[vm.handle, gpn] = image
        digest.update(bytes.fromhex(image))
        sealed = sealed and not image.endswith(PLAIN_TAG)
        taken += 1
    player.hypervisor.shoot_down(vm.handle)
    player.hypervisor.wipe(frames)
    return {"pages": taken, "sealed": sealed and taken > 0, "digest": digest.hexdigest() if taken else ""}


def fetch(player: Player, handle: int, gpn: int) -> bool:
    """Bring a swapped page back into a free frame. False: the host has none."""
    mfn = player.hypervisor.free_frame(handle)
    if mfn is None:
        return False
    player.hypervisor.must("swap_in", vm=handle, gpn=gpn, mfn=mfn, image=player.images.pop((handle, gpn)))
    return True


# -- copying and reading


def image(player: Player, vm: Vm, *, sealed: bool, most: int | None = None) -> dict[str, Any]:
    """The VM's first pages as an image: how many, its digest, and whether the guest's secret can be read in it.

    Left out are pages that no honest hypervisor can copy so: merged ones, and of sealed images the guest's tables.
    """
    found = leaves_of(player, vm)[:most]
    parts, refused = _seal(player, vm, found) if sealed else _plain(player, vm, found)
    digest = hashlib.sha256()
    for data in parts:
        digest.update(data)
    return {
        "pages": len(parts),
        "bytes": sum(map(len, parts)),
        "digest": digest.hexdigest() if parts else "",
        "sealed": sealed,
        "secret": any(vm.guest.secret in data for data in parts),
        "left_out": len(found) - len(parts),
        "answers": refused,
    }


def _seal(player: Player, vm: Vm, found: list[tuple[int, int, str]]) -> tuple[list[bytes], str]:
    """Page by page out and in again, keeping the image. Tables would be tables no more, so they stay."""
    parts, machine = [], player.machine
    for gpn, mfn, perm in found:
        result = machine.hypervisor.swap_out(vm=vm.handle, gpn=gpn) if perm != "rw" else {"status": ""}
        if result["status"] == "OK":
            parts.append(bytes.fromhex(result["image"]))
            player.hypervisor.must("swap_in", vm=vm.handle, gpn=gpn, mfn=mfn, image=result["image"])
    return parts, ""


def _plain(player: Player, vm: Vm, found: list[tuple[int, int, str]]) -> tuple[list[bytes], str]:
    """What loads of the hypervisor answer. Where they are guarded the guest lends each page for the time of the act."""
    guarded = ARCHITECTURES[player.machine.architecture].hv_access_check
    lent = _as_guest(player, vm, "guest_share", [gpn for gpn, _, _ in found], perm="r") if guarded else []
    parts, answers = [], set()
    for _, mfn, _ in found:
        result = player.machine.hypervisor.hv_read(mfn=mfn, offset=0, length=PAGE)
        if result["status"] == "OK":
            parts.append(bytes.fromhex(result["data"]))
        else:
            answers.add(result["status"])
    if lent:
        _as_guest(player, vm, "guest_unshare", lent)
    return parts, ", ".join(sorted(answers))


def _read(player: Player, mfn: int | None) -> str | None:
    if mfn is None:
        return None
    result = player.machine.hypervisor.hv_read(mfn=mfn, offset=0, length=PAGE)
    return str(result["data"]) if result["status"] == "OK" else None


def registers(player: Player, vm: Vm) -> str:
    """Whether the saved registers of the VM could be read, or the refusal."""
    answers = {
        player.machine.hypervisor.hv_read_context(vm=vm.handle, vcpu=vcpu)["status"] for vcpu in range(vm.spec.vcpus)
    }
    return "read" if answers == {"OK"} else ", ".join(sorted(answers))
