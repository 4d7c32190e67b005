"""Random operations of every kind on a small host: what long runs of these tests are made of.

A run is chosen by its seed and by what came before. What differs from machine to machine, the bytes of images and the
secrets of guests, stands in an operation as a reference that each `Player` resolves for itself.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

from hsvm_engine import ARCHITECTURES, Machine
from hsvm_engine.operations import OPERATIONS

FRAMES, HYPERVISOR_FRAMES, PROTECTED_FRAMES, CORES = 2048, 64, 96, 2
MACHINE_ID = "0f" * 16
HUGE_FRAMES, SMALL_FRAMES = (512, 1024), range(256, 290)
PRIVATE_PAGES, PUBLIC_PAGES, HUGE_PAGE = range(4), range(4, 10), 512
MOST_VMS = 3

# How often each operation is asked for; all others once.
OFTEN = {
    **{"page_map": 60, "page_unmap": 12, "swap_out": 16, "swap_in": 24, "context_restore": 16, "context_save": 12},
    **{"merge": 40, "unmerge": 8, "guest_read": 24, "guest_write": 48, "guest_map": 12, "guest_access": 30},
    **{"guest_share": 6, "guest_unshare": 6, "guest_mergeable": 50, "claim": 10, "release": 10, "balloon": 2},
    **{"hv_read": 24, "hv_write": 8, "dma_read": 16, "dma_write": 6, "create_vm": 4, "guest_set_registers": 8},
    **{"import_vm": 4, "export_vm": 2, "delete_vm": 2},
}
REGISTERS = ("rax", "rbx", "rip", "r15")


@dataclass(frozen=True)
class Secret:
    """Bytes that each player's guest knows for itself; never zero, so that a page is zero for all or for none."""

    number: int
    length: int

    def of(self, secret: bytes) -> bytes:
        bits = hashlib.shake_256(secret + self.number.to_bytes(4, "big")).digest(self.length)
        return bytes(byte | 1 for byte in bits)


@dataclass(frozen=True)
class Image:
    """The n-th image that the machine gave out, with one bit changed if `flip` is not None."""

    number: int
    flip: int | None = None


@dataclass
class Player:
    """A machine with the images that it gave out and the secret of its guests."""

    machine: Machine
    secret: bytes = b""
    images: list[str] = field(default_factory=list)

    def do(self, op: dict[str, Any]) -> dict[str, Any]:
        result = self.machine.apply({key: self._resolve(value) for key, value in op.items()})
        if "image" in result:
            self.images.append(result["image"])
        return result

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Secret):
            return value.of(self.secret).hex()
        if isinstance(value, Image):
            image = bytearray.fromhex(self.images[value.number])
            if value.flip is not None:
                image[value.flip // 8 % len(image)] ^= 1 << value.flip % 8
            return image.hex()
        if isinstance(value, dict):
            return {key: self._number(item) for key, item in value.items()}
        return value

    def _number(self, value: int | Secret) -> int:
        return int.from_bytes(value.of(self.secret), "big") if isinstance(value, Secret) else value


def host(architecture: str = "hsvm", **more: Any) -> Machine:
    """A machine of the shape of a random run."""
    protected = PROTECTED_FRAMES if ARCHITECTURES[architecture].protected_region else 0
    options = {"machine_id": MACHINE_ID} | more.pop("options", {})
    return Machine(FRAMES, HYPERVISOR_FRAMES, protected, CORES, architecture, options=options, **more)


def is_victim(vm: int) -> bool:
    """The VMs with odd slots have secrets, if the run has any."""
    return vm % 2 == 1


class RandomRun:
    """Chooses operations and does them on one player; others may be given the same operations.

    With `secrets` the victims run on core 0 only, the others on core 1. A victim's private pages and registers hold
    secrets; it shares only public pages, edits no guest table and puts nothing secret into cr3, as all of these show.
    """

    def __init__(self, player: Player, seed: int, *, secrets: bool = False) -> None:
        self.player, self.random, self.secrets = player, random.Random(seed), secrets
        self.living: list[int] = []
        self.dead = [99]
        self.images: list[tuple[int, int]] = []  # (vm, gpn) of each image; gpn -1 for a whole VM
        self.on_core: dict[int, int] = {}
        self.names = list(OPERATIONS)
        self.names.remove("cold_boot_read")  # out of scope: it sees everything
        self.weights = [OFTEN.get(name, 1) for name in self.names]

    def step(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """One operation and its result."""
        op = self._choose()
        result = self.player.do(op)
        if result["status"] == "OK":
            self._learn(op, result)
        return op, result

    def acts_in_secret(self, op: dict[str, Any]) -> bool:
        """Whether a victim does the operation, so that only its status is anybody else's."""
        return self.secrets and OPERATIONS[op["op"]].port == "guest" and op["core"] == 0

    def _learn(self, op: dict[str, Any], result: dict[str, Any]) -> None:
        name = op["op"]
        if name in ("create_vm", "import_vm"):
            self.living.append(result["vm"])
        if name in ("delete_vm", "export_vm"):
            self.living.remove(op["vm"])
            self.dead = [*self.dead[-4:], op["vm"]]
        if name == "context_restore":
            self.on_core[op["core"]] = op["vm"]
        if name == "context_save":
            del self.on_core[op["core"]]
        if "image" in result:
            self.images.append((op["vm"], op.get("gpn", -1)))

    def _choose(self) -> dict[str, Any]:
        name = self.random.choices(self.names, self.weights)[0]
        if not self.living or name in ("import_vm", "create_vm") and len(self.living) >= MOST_VMS:
            name = "page_map" if self.living else "create_vm"
        op: dict[str, Any] = {"op": name}
        for key in OPERATIONS[name].fields:
            op[key] = getattr(self, "_" + key)(op)
        if name == "swap_in" and op["image"] != "00":
            op["vm"], op["gpn"] = self.images[op["image"].number]
            op["gpn"] = max(op["gpn"], 0)
        if name == "context_restore" and self.secrets and op["vm"] in self.living:
            op["core"] = 0 if is_victim(op["vm"]) else 1
        if name == "guest_map" and self.acts_in_secret(op):
            op["op"] = "guest_unmap"
            del op["gpn"], op["perm"]
        return op

    # One maker per field; `op` holds the fields made before.

    def _vm(self, op: dict[str, Any]) -> int:
        return self.random.choice(self.living if self.random.random() < 0.95 else self.dead)

    def _other_vm(self, op: dict[str, Any]) -> int:
        others = [vm for vm in self.living if vm != op["vm"]]
        return self.random.choice(others) if others else self._vm(op)

    def _vcpus(self, op: dict[str, Any]) -> int:
        return self.random.choice((1, 1, 2))

    def _vcpu(self, op: dict[str, Any]) -> int:
        return 1 if self.random.random() < 0.1 else 0

    def _core(self, op: dict[str, Any]) -> int:
        return self.random.randrange(CORES)

    def _pages(self, op: dict[str, Any]) -> int:
        return self.random.choice((1, 2))

    def _mapped(self, vm: int) -> list[int]:
        """Guest pages of a VM that are mapped, of 2 MiB leaves the first."""
        return [gpn for gpn, *_ in self.player.machine.dump()["leaves"].get(vm, [])]

    def _gpn(self, op: dict[str, Any]) -> int:
        public = op["op"] in ("guest_share", "guest_mergeable", "merge")
        vm = op.get("other_vm", op.get("vm", self.on_core.get(op.get("core", -1))))
        pages = (*PUBLIC_PAGES,) if public else (*PRIVATE_PAGES, *PUBLIC_PAGES, HUGE_PAGE, HUGE_PAGE + 3)
        mapped = set(self._mapped(vm or 0))
        fitting = [gpn for gpn in pages if (gpn in mapped) == (op["op"] != "page_map")]
        return self.random.choice(fitting if fitting and self.random.random() < 0.85 else pages)

    _other_gpn = _gpn

    def _mfn(self, op: dict[str, Any]) -> int:
        if op.get("gpn") == HUGE_PAGE and self.random.random() < 0.7:
            return self.random.choice(HUGE_FRAMES)
        odd = (0, 1, HYPERVISOR_FRAMES - 2, HYPERVISOR_FRAMES - 1, HUGE_FRAMES[0] + 3, FRAMES - 90, FRAMES - 1)
        owners, reads = self.player.machine.ownership(), op["op"].endswith("_read")
        wanted = range(3, 99) if reads else range(1, 2) if op["op"] in ("release", "hv_write") else range(1)
        fitting = [mfn for mfn in SMALL_FRAMES if owners[mfn] in wanted]
        if fitting and self.random.random() < (0.4 if reads else 0.75):
            return self.random.choice(fitting)
        return self.random.choice(SMALL_FRAMES if self.random.random() < 0.9 else odd)

    def _size(self, op: dict[str, Any]) -> int:
        return 512 if op["gpn"] == HUGE_PAGE and op["mfn"] in HUGE_FRAMES else 1

    def _perm(self, op: dict[str, Any]) -> str:
        return self.random.choice(("r", "rw", "rw", "rw") if op["op"] == "guest_share" else ("rw", "rw", "rwx", "r"))

    def _image(self, op: dict[str, Any]) -> Image | str:
        whole = op["op"] == "import_vm"
        fitting = [n for n, (_, gpn) in enumerate(self.images) if (gpn < 0) == whole][-12:]
        if not fitting:
            return "00"
        flip = self.random.randrange(33_000) if self.random.random() < 0.1 else None
        return Image(self.random.choice(fitting), flip)

    def _target(self, op: dict[str, Any]) -> str:
        return MACHINE_ID

    def _offset(self, op: dict[str, Any]) -> int:
        return self.random.choice((0, 0, 0, 4000))

    def _length(self, op: dict[str, Any]) -> int:
        return self.random.choice((16, 64, 96))

    def _data(self, op: dict[str, Any]) -> str | Secret:
        if op.get("gpa", 0) >> 12 in PUBLIC_PAGES:
            return self.random.choice(("00", "aa")) * 16  # so that pages may be equal, and merged
        length = self.random.choice((8, 16))
        if self.acts_in_secret(op) and op["gpa"] >> 12 in (*PRIVATE_PAGES, HUGE_PAGE, HUGE_PAGE + 3):
            return Secret(self.random.randrange(1000), length)
        return bytes([self.random.choice((0, 0, 0xAA))] * length).hex()

    def _gpa(self, op: dict[str, Any]) -> int:
        # a victim's write never runs over the end of its page, so that secret and public pages stay apart
        gpn = self._gpn(op)
        return (gpn << 12) + (0 if gpn in PUBLIC_PAGES else self.random.choice((0, 8, 4000 if self.secrets else 4090)))

    def _gva(self, op: dict[str, Any]) -> int:
        page = self.random.choice((0, 1, 2, 3, 4, HUGE_PAGE, 1 << 27)) << 12
        return page + (self.random.randrange(4096) if op["op"] == "guest_access" else 0)

    def _kind(self, op: dict[str, Any]) -> str:
        return self.random.choice("rrwx")

    def _device(self, op: dict[str, Any]) -> int:
        return self.random.randrange(3)

    def _vector(self, op: dict[str, Any]) -> int:
        return self.random.choice((3, 128))

    def _after(self, op: dict[str, Any]) -> int:
        return self.random.choice((1, 5, 1000, 1000, 1000))

    def _with(self, op: dict[str, Any]) -> str | list[int]:
        return self.random.choice(("any", "any", "any", "any", "any", "none", self.living[:2]))

    def _registers(self, op: dict[str, Any]) -> dict[str, Any]:
        names = self.random.sample(REGISTERS, 2)
        if op["op"] == "guest_set_registers" and self.acts_in_secret(op):
            return {name: Secret(self.random.randrange(1000), 8) for name in names}
        return {name: self.random.getrandbits(64) for name in names} | (
            {"cr3": 0} if self.random.random() < 0.1 else {}
        )
