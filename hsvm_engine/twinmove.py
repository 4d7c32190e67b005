"""The slow twin's pages on the move: merged, swapped out and in, exported and imported with their VM.

Images of the twin are its own: a keyed hash stands for the cipher, so a sealed page is in the clear here. A swap image
has the form of the machine's, byte for byte where nothing is sealed.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from hsvm_engine.twinfields import EXPORT_MAGIC, SWAP_MAGIC
from hsvm_engine.twinvm import FREE, PAGE, Leaf, Op, Page, Vm, refuse

if TYPE_CHECKING:
    from hsvm_engine.twin import Twin

HEADER, TAG, NONCE = 16, 16, 12
ZERO = bytes(PAGE)
PERM_BITS = {"r": 1, "w": 2, "x": 4}


def merge(twin: Twin, vm: int, gpn: int, other_vm: int, other_gpn: int) -> Op:
    lender, borrower = (vm, gpn), (other_vm, other_gpn)
    first, second = twin.vm(vm), twin.vm(other_vm)
    leaf, other = first.leaf(gpn), second.leaf(other_gpn)
    if leaf is None or other is None:
        refuse("E_NOENT")
    if _merge_busy(twin, first, gpn, leaf) or _merge_busy(twin, second, other_gpn, other) or borrower in twin.lends:
        refuse("E_BUSY")
    if vm == other_vm or gpn not in first.pages or other_gpn not in second.pages or leaf[0] == other[0]:
        refuse("E_STATE")
    if twin.checked and not (_agrees(first, gpn, other_vm) and _agrees(second, other_gpn, vm)):
        refuse("E_OWNER")
    if twin.checked and twin.load(leaf[0]) != twin.load(other[0]):
        refuse("E_OWNER")
    if twin.checked and lender not in twin.lends:
        twin.shoot(lender)  # its leaf changes with the first borrower only
    twin.borrows[borrower] = lender, other[1]
    twin.lends.setdefault(lender, leaf[1])
    first.pages[gpn] = leaf[0], leaf[1].replace("w", "")
    second.pages[other_gpn] = leaf[0], other[1].replace("w", "")
    twin.release_frame(borrower, other[0])
    return {"freed": other[0]}


def _merge_busy(twin: Twin, vm: Vm, gpn: int, leaf: Leaf) -> bool:
    page = vm.handle, gpn
    aliased = twin.literal and len(twin.frames_of(vm, leaf[0])) > 1
    lent = any(other != page and twin.vms[other[0]].pages[other[1]][0] == leaf[0] for other in twin.lends)
    return gpn in vm.shares or page in twin.borrows or aliased or lent


def _agrees(vm: Vm, gpn: int, partner: int) -> bool:
    mark = vm.marks.get(gpn, frozenset())
    return mark == "any" or partner in mark


def unmerge(twin: Twin, vm: int, gpn: int, mfn: int) -> None:
    found, page = twin.vm(vm), (vm, gpn)
    if page not in twin.borrows:
        refuse("E_STATE")
    twin.check_free(mfn)
    lender, perm = twin.borrows.pop(page)
    content = twin.load(found.pages[gpn][0])
    found.pages[gpn] = mfn, perm
    twin.owner[mfn] = vm
    twin.store(mfn, 0, content)
    if not twin.borrowers(lender):
        pages = twin.vms[lender[0]].pages
        pages[lender[1]] = pages[lender[1]][0], twin.lends.pop(lender)
        if twin.checked:
            twin.shoot(lender)
    if twin.checked:
        twin.shoot(page)


def swap_out(twin: Twin, vm: int, gpn: int) -> Op:
    found, page = twin.vm(vm), (vm, gpn)
    if twin.checked and (gpn in found.shares or twin.is_merged(page)):
        refuse("E_BUSY")
    mfn, perm = found.leaf(gpn) or refuse("E_NOENT")
    version = found.swaps + 1
    image = _swap_image(twin, page, version, perm, twin.load(mfn))
    twin.release_page(found, gpn)
    found.swaps = version
    found.records[gpn] = version, perm
    return {"image": image.hex()}


def _swap_image(twin: Twin, page: Page, version: int, perm: str, content: bytes) -> bytes:
    bits = sum(PERM_BITS[letter] for letter in perm)
    image = SWAP_MAGIC + version.to_bytes(8, "little") + bytes([bits]) + bytes(NONCE) + content
    return image + (_seal(page, image) if twin.checked else bytes(TAG))


def _seal(page: object, image: bytes) -> bytes:
    return blake2b(image, key=repr(page).encode(), digest_size=TAG).digest()


def swap_in(twin: Twin, vm: int, gpn: int, mfn: int, image: bytes) -> None:
    found, page = twin.vm(vm), (vm, gpn)
    if twin.is_listed(page):
        refuse("E_BUSY")
    if twin.checked and found.leaf(gpn):
        refuse("E_EXIST")
    version, perm = found.records.get(gpn) or refuse("E_NOENT")
    twin.check_free(mfn)
    if twin.checked and _seal(page, image[:-TAG]) != image[-TAG:]:
        refuse("E_INTEGRITY")
    if twin.checked and int.from_bytes(image[8:HEADER], "little") != version:
        refuse("E_REPLAY")
    del found.records[gpn]
    found.pages[gpn] = mfn, perm
    twin.owner[mfn] = vm
    twin.store(mfn, 0, image[-TAG - PAGE : -TAG])


def export_vm(twin: Twin, vm: int, target: str) -> Op:
    found = twin.vm(vm)
    merged = any(page[0] == vm for page in (*twin.borrows, *twin.lends))
    if merged or found.shares or found.records or any(running and running[0] == vm for running in twin.on_core):
        refuse("E_BUSY")
    pages = [
        [gpn + i, perm, twin.load(mfn + i).hex() if mfn + i in twin.content else ""]
        for gpn, mfn, size, perm in sorted(found.leaves())
        for i in range(size)
    ]
    body = {"target": target, "saved": found.saved, "pages": pages, "tables": sorted(found.guest_tables)}
    twin.dissolve(found)
    twin.exports += 1
    text = json.dumps({**body, "number": twin.exports}).encode()
    return {"image": (EXPORT_MAGIC + len(text).to_bytes(8, "little") + _seal("export", text) + text).hex()}


def import_vm(twin: Twin, image: bytes) -> Op:
    seal, text = image[HEADER : HEADER + TAG], image[HEADER + TAG :]
    if twin.checked and seal != _seal("export", text):
        refuse("E_INTEGRITY")
    body: dict[str, Any] = json.loads(text)
    if twin.checked and body["target"] != twin.machine_id:
        refuse("E_INTEGRITY")
    if twin.checked and body["number"] in twin.imported:
        refuse("E_REPLAY")
    pages = body["pages"]
    free = [mfn for mfn, owner in enumerate(twin.owner) if owner == FREE][: len(pages)]
    if len(free) < len(pages):
        refuse("E_NOMEM")
    vm = Vm(0, body["saved"], [], {}, guest_tables=set(body["tables"]))
    needed = dict.fromkeys(key for gpn, _, _ in pages for key in vm.missing(gpn))
    root, *frames = twin.take(1 + len(vm.saved) + len(needed))
    vm.context_frames = [frames.pop(0) for _ in vm.saved]
    vm.tables = {(4, 0): root, **dict(zip(needed, frames, strict=True))}
    vm.handle = twin.new_handle()
    twin.imported.add(body["number"])
    for mfn, (gpn, perm, content) in zip(free, pages, strict=True):
        vm.pages[gpn] = mfn, perm
        twin.owner[mfn] = vm.handle
        twin.store(mfn, 0, bytes.fromhex(content) or ZERO)
    twin.vms[vm.handle] = vm
    return {"vm": vm.handle}
