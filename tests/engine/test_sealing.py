"""A page or a VM that leaves the host comes back as it was, in its place, at its time, or not at all."""

import random

import pytest

from hsvm_engine import Machine

from .states import (
    EMPTY,
    FREE,
    OWN,
    PAGE,
    RESWAPPED,
    SHARED_R,
    SWAPPED,
    TARGET,
    Host,
    every_state,
    flipped,
    give,
    start,
)

IMAGE_BYTES, MAGIC_BYTES = 4141, 8


@pytest.fixture
def host() -> Host:
    return every_state()


def swap_in(host: Host, image: str, gpn: int = SWAPPED, vm: int | None = None) -> str:
    return host.status("swap_in", vm=vm or host.a, gpn=gpn, mfn=FREE, image=image)


@pytest.mark.parametrize("architecture", ["hsvm", "hsvm-smm"])
def test_every_single_bit_flip_of_a_sealed_page_is_refused(architecture: str) -> None:
    """The first eight bytes name the format; every other bit is authenticated."""
    host = every_state(architecture)
    image, before = host.images["page"], host.machine.digest()
    assert len(image) == 2 * IMAGE_BYTES
    for byte in range(IMAGE_BYTES):
        expected = "E_INPUT" if byte < MAGIC_BYTES else "E_INTEGRITY"
        found = {swap_in(host, flipped(image, byte, bit)) for bit in range(8)}
        assert found == {expected}, byte
        if byte % 64 == 0 or byte < 64:
            assert host.machine.digest() == before, byte
    assert host.machine.digest() == before
    assert swap_in(host, image) == "OK"


def test_a_sealed_page_that_is_shortened_or_lengthened_is_no_image(host: Host) -> None:
    image, before = host.images["page"], host.machine.digest()
    for length in (0, 1, 8, 15, 16, 29, IMAGE_BYTES - 16, IMAGE_BYTES - 1):
        assert swap_in(host, image[: 2 * length]) == "E_INPUT", length
    for more in ("00", "00" * 16, image):
        assert swap_in(host, image + more) == "E_INPUT"
    assert host.machine.digest() == before


def test_a_sealed_page_is_good_for_its_own_place_and_time_only(host: Host) -> None:
    before = host.machine.digest()
    assert swap_in(host, host.images["page"], RESWAPPED) == "E_INTEGRITY"
    assert swap_in(host, host.images["foreign"]) == "E_INTEGRITY"
    assert swap_in(host, host.images["old"], RESWAPPED) == "E_REPLAY"
    assert swap_in(host, host.images["old"], SWAPPED) == "E_INTEGRITY"
    assert swap_in(host, host.images["page"], EMPTY) == "E_NOENT"
    assert host.machine.digest() == before


def test_a_sealed_page_does_not_show_its_bytes_and_comes_back_with_them(host: Host) -> None:
    assert all(PAGE[:32] not in image for image in host.images.values())
    assert swap_in(host, host.images["page"]) == "OK"
    host.do("context_save", core=0)
    host.do("context_restore", vm=host.a, vcpu=0, core=0)
    assert host.do("guest_read", core=0, gpa=SWAPPED << 12, length=64)["data"] == PAGE


def test_a_sealed_page_comes_back_once(host: Host) -> None:
    assert swap_in(host, host.images["page"]) == "OK"
    assert swap_in(host, host.images["page"]) == "E_EXIST"
    host.do("page_unmap", vm=host.a, gpn=SWAPPED)
    assert swap_in(host, host.images["page"]) == "E_NOENT"


def test_two_images_of_the_same_page_share_no_bytes(host: Host) -> None:
    """The nonce is fresh, so equal pages do not look equal."""
    first = host.do("swap_out", vm=host.a, gpn=OWN)["image"]
    host.do("swap_in", vm=host.a, gpn=OWN, mfn=FREE, image=first)
    second = host.do("swap_out", vm=host.a, gpn=OWN)["image"]
    assert first[34:58] != second[34:58]
    assert sum(a == b for a, b in zip(bytes.fromhex(first[58:]), bytes.fromhex(second[58:]), strict=True)) < 100


def test_a_shared_page_is_never_sealed(host: Host) -> None:
    assert host.status("swap_out", vm=host.a, gpn=SHARED_R) == "E_BUSY"


def test_an_image_of_a_deleted_vm_is_of_no_use_to_its_successor(host: Host) -> None:
    image = host.do("swap_out", vm=host.idle, gpn=0)["image"]
    host.do("delete_vm", vm=host.idle)
    heir = host.do("create_vm", vcpus=1)["vm"]
    give(host, heir, (0,), FREE)
    host.do("swap_out", vm=heir, gpn=0)
    assert swap_in(host, image, 0, heir) == "E_INTEGRITY"
    assert host.status("swap_in", vm=host.idle, gpn=0, mfn=FREE, image=image) == "E_NOVM"


# Whole VMs


def exported(host: Host, pages: int = 3) -> str:
    vm = host.do("create_vm", vcpus=2)["vm"]
    give(host, vm, tuple(range(pages)), 430)
    host.do("context_restore", vm=vm, vcpu=1, core=2)
    for gpn in range(pages):
        host.do("guest_write", core=2, gpa=gpn << 12, data=PAGE)
    host.do("guest_set_registers", core=2, registers={"rbx": 77})
    host.do("context_save", core=2)
    return str(host.do("export_vm", vm=vm, target=TARGET)["image"])


def test_bit_flips_of_an_exported_vm_are_refused(host: Host) -> None:
    """All of the first and last 256 bytes, and a sample of the rest."""
    image = exported(host)
    length, before, source = len(image) // 2, host.machine.digest(), random.Random(1)
    places = [*range(256), *range(length - 256, length), *(source.randrange(length) for _ in range(500))]
    for byte in places:
        status = host.status("import_vm", image=flipped(image, byte, source.randrange(8)))
        assert status in ({"E_INPUT"} if byte < MAGIC_BYTES else {"E_INPUT", "E_INTEGRITY"}), byte
    assert host.machine.digest() == before
    assert host.status("import_vm", image=image) == "OK"


def test_an_exported_vm_that_is_shortened_or_lengthened_is_refused(host: Host) -> None:
    image, before = exported(host), host.machine.digest()
    for length in (0, 1, 15, 16, 100, len(image) // 4, len(image) // 2 - 1):
        assert host.status("import_vm", image=image[: 2 * length]) in {"E_INPUT", "E_INTEGRITY"}, length
    for more in ("00", "00" * 4096, image):
        assert host.status("import_vm", image=image + more) in {"E_INPUT", "E_INTEGRITY"}
    assert host.machine.digest() == before


def test_an_exported_vm_runs_on_where_it_is_let_in_and_nowhere_twice(host: Host) -> None:
    image = exported(host)
    assert PAGE[:32] not in image
    vm = host.do("import_vm", image=image)["vm"]
    host.do("context_restore", vm=vm, vcpu=1, core=2)
    assert host.do("guest_registers", core=2)["registers"]["rbx"] == 77
    assert host.do("guest_read", core=2, gpa=1 << 12, length=64)["data"] == PAGE
    assert host.status("import_vm", image=image) == "E_REPLAY"


def test_a_machine_that_the_image_does_not_name_or_that_has_another_key_refuses_it(host: Host) -> None:
    image = exported(host)
    for options in ({"machine_id": "ff" * 16}, {"platform_key": "11" * 32}):
        other = start(options=options)
        assert other.apply({"op": "import_vm", "image": image})["status"] == "E_INTEGRITY"
    twin = start(seed=99)
    assert twin.apply({"op": "import_vm", "image": image})["status"] == "OK"


def test_what_is_imported_is_remembered_over_a_snapshot(host: Host) -> None:
    image = exported(host)
    host.do("delete_vm", vm=host.do("import_vm", image=image)["vm"])
    again = Machine.restore(host.machine.snapshot())
    assert again.apply({"op": "import_vm", "image": image})["status"] == "E_REPLAY"
