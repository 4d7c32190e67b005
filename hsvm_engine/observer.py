"""Watches a running attack and says what was seen: the outcome is observed here, never declared by a file.

The observer keeps what the victim last wrote (memory and registers), who stands on which core, and all that came out of
the attacker's port. It decides nothing by architecture: it has no way to know it.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

from hsvm_engine.operations import REGISTER_NAMES

Result = Mapping[str, Any]
SECRET_BYTES = 16
SECRET_BITS = 8 * SECRET_BYTES
PATIENCE = 1_000  # steps without progress of a runnable victim that count as denied service
PAGE = 4096


class Observer:
    """What an onlooker with the victim's memory of itself can say about one attack."""

    def __init__(self, victim: int | None, secret: bytes, cores: Mapping[int, tuple[int, int]]) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"secret: must have {SECRET_BYTES} bytes")
        self.handles = set() if victim is None else {victim}  # of the victim: several once it was copied by an import
        self.secret = secret
        self.bits = tuple(secret[i >> 3] >> (i & 7) & 1 for i in range(SECRET_BITS))
        self.bit = 0  # number of the bit that the victim works on
        self.cores = dict(cores)  # core -> (handle, vcpu)
        self.tail = b""  # the last bytes that the attacker was given: the secret may come in pieces
        self.notes: deque[int | str] = deque(maxlen=SECRET_BITS)  # what the attacker wrote down
        self.written: dict[int, int] = {}  # gpa -> the byte that the victim last wrote there
        self.registers: dict[int, dict[str, int]] = {}  # vcpu -> the registers as the victim left them
        self.exported: set[str] = set()  # images that hold the victim
        self.started = self._on_a_core()
        self.waiting = 0  # steps since the victim last got on

    def runs_victim(self, core: object) -> bool:
        """Whether the guest that acts on `core` is the victim."""
        return isinstance(core, int) and core in self.cores and self.cores[core][0] in self.handles

    def _on_a_core(self) -> bool:
        return any(handle in self.handles for handle, _ in self.cores.values())

    # the victim's own view

    def part_of_secret(self, part: str | None) -> str | int:
        """The secret as hex bytes; one half as a register holds it; or the page that the current bit leads to."""
        match part:
            case "low":
                return int.from_bytes(self.secret[:8], "little")
            case "high":
                return int.from_bytes(self.secret[8:], "little")
            case "page":
                return PAGE * (1 + self.bits[self.bit])
        return self.secret.hex()

    def next_bit(self) -> None:
        """The victim is done with one bit of its secret."""
        self.bit = (self.bit + 1) % SECRET_BITS

    def expect_memory(self, written: Mapping[int, bytes]) -> None:
        """Note that the victim last wrote these bytes at these guest-physical addresses."""
        for gpa, data in written.items():
            self.written.update({gpa + i: byte for i, byte in enumerate(data)})

    def given_up(self, gpns: set[int]) -> None:
        """The victim's own balloon driver gave these pages away: it no longer expects anything there."""
        self.written = {gpa: byte for gpa, byte in self.written.items() if gpa >> 12 not in gpns}

    # what was done; each method returns the finding, if there is one

    def attacker_step(self, op: Mapping[str, Any], result: Result) -> str | None:
        """Take what the attacker did and was given."""
        if self.started and self.handles and not self._on_a_core():
            self.waiting += 1
        if result["status"] != "OK":
            return self._patience()
        if op["op"] == "inject" and self.runs_victim(op["core"]):
            return f"vector {op['vector']} arrived at the victim, which expected none"
        seen = self.tail + bytes.fromhex(result.get("data", "")) + bytes.fromhex(result.get("image", ""))
        registers = result.get("registers", {})
        seen += b"".join(registers[name].to_bytes(8, "little") for name in REGISTER_NAMES if name in registers)
        self.tail = seen[1 - SECRET_BYTES :]
        if self.secret in seen:
            return f"the attacker's bytes contain the victim's {SECRET_BYTES} secret bytes"
        return self._patience()

    def note(self, value: int | str) -> str | None:
        """Take what the attacker wrote down: two values in the order of the secret's bits give the secret away."""
        self.notes.append(value)
        if len(self.notes) < SECRET_BITS or len(set(self.notes)) != 2:
            return None
        if not any(tuple(int(note == one) for note in self.notes) == self.bits for one in set(self.notes)):
            return None
        return f"the attacker's {SECRET_BITS} notes of what it saw are the victim's secret, bit by bit"

    def victim_turn(self, result: Result) -> str | None:
        """Follow whether the victim gets on when it is let go on."""
        self.waiting = 0 if result["status"] == "OK" else self.waiting + 1
        return self._patience()

    def _patience(self) -> str | None:
        if self.waiting < PATIENCE:
            return None
        return f"the victim could run and made no progress for {PATIENCE:,} steps"

    def victim_step(self, op: Mapping[str, Any], result: Result) -> str | None:
        """Follow one operation of the victim; the finding, if it sees without a fault what it did not leave."""
        if result["status"] != "OK":
            return None
        vcpu = self.cores[op["core"]][1]
        match op["op"]:
            case "guest_write":
                self.expect_memory({op["gpa"]: bytes.fromhex(op["data"])})
            case "guest_read":
                return self._memory_finding(op["gpa"], bytes.fromhex(result["data"]))
            case "guest_set_registers":
                self._expected(vcpu).update(op["registers"])
            case "guest_map":
                self._expected(vcpu).pop("cr3", None)  # the guest OS may just have loaded its first table
            case "guest_registers":
                return self._register_finding(vcpu, result["registers"])
        return None

    def any_step(self, op: Mapping[str, Any], result: Result) -> None:
        """Follow who is on which core, and under which handles the victim lives."""
        if result["status"] != "OK":
            return
        match op["op"]:
            case "context_restore":
                self.cores[op["core"]] = (op["vm"], op["vcpu"])
                self.started = self.started or self.runs_victim(op["core"])
            case "context_save":
                self.cores.pop(op["core"], None)
            case "delete_vm":
                self.handles.discard(op["vm"])
            case "export_vm" if op["vm"] in self.handles:
                self.handles.discard(op["vm"])
                self.exported.add(result["image"])
            case "import_vm" if op["image"] in self.exported:
                self.handles.add(result["vm"])

    def _expected(self, vcpu: int) -> dict[str, int]:
        return self.registers.setdefault(vcpu, dict.fromkeys(REGISTER_NAMES, 0))

    def _memory_finding(self, gpa: int, data: bytes) -> str | None:
        for i, byte in enumerate(data):
            if self.written.get(gpa + i, byte) != byte:
                return f"the victim read {byte:#04x} at {gpa + i:#x}, where it last wrote {self.written[gpa + i]:#04x}"
        return None

    def _register_finding(self, vcpu: int, registers: Mapping[str, int]) -> str | None:
        if vcpu not in self.registers:
            return None
        for name, value in self._expected(vcpu).items():
            if registers[name] != value:
                return f"the victim's {name} came back as {registers[name]:#x}, it had left {value:#x}"
        return None
