"""Watches a running attack and says what was seen: the outcome is observed here, never declared by a file.

The observer keeps what the victim last wrote (memory and registers), who stands on which core, and every byte that came
out of the attacker's port. It decides nothing by architecture: it has no way to know it.
"""

from collections.abc import Mapping
from typing import Any

from hsvm_engine.operations import REGISTER_NAMES

Result = Mapping[str, Any]
SECRET_BYTES = 16


class Observer:
    """What an onlooker with the victim's memory of itself can say about one attack."""

    def __init__(self, victim: int | None, secret: bytes, cores: Mapping[int, tuple[int, int]]) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"secret: must have {SECRET_BYTES} bytes")
        self.victim = victim
        self.secret = secret
        self.cores = dict(cores)  # core -> (handle, vcpu)
        self.tail = b""  # the last bytes that the attacker was given: the secret may come in pieces
        self.written: dict[int, int] = {}  # gpa -> the byte that the victim last wrote there
        self.registers: dict[int, dict[str, int]] = {}  # vcpu -> the registers as the victim left them

    def runs_victim(self, core: object) -> bool:
        """Whether the guest that acts on `core` is the victim."""
        return isinstance(core, int) and core in self.cores and self.cores[core][0] == self.victim

    def expect_memory(self, written: Mapping[int, bytes]) -> None:
        """Note that the victim last wrote these bytes at these guest-physical addresses."""
        for gpa, data in written.items():
            self.written.update({gpa + i: byte for i, byte in enumerate(data)})

    def given_up(self, gpns: set[int]) -> None:
        """The victim's own balloon driver gave these pages away: it no longer expects anything there."""
        self.written = {gpa: byte for gpa, byte in self.written.items() if gpa >> 12 not in gpns}

    def attacker_step(self, result: Result) -> str | None:
        """Take what the attacker was given; the finding, if it now holds the victim's secret."""
        if result["status"] == "OK":
            seen = self.tail + bytes.fromhex(result.get("data", ""))
            registers = result.get("registers", {})
            seen += b"".join(registers[name].to_bytes(8, "little") for name in REGISTER_NAMES if name in registers)
            self.tail = seen[1 - SECRET_BYTES :]
            if self.secret not in seen:
                return None
            return f"the attacker's bytes contain the victim's {SECRET_BYTES} secret bytes"
        return None

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
        """Follow the world switches: who is on which core."""
        if result["status"] != "OK":
            return
        if op["op"] == "context_restore":
            self.cores[op["core"]] = (op["vm"], op["vcpu"])
        elif op["op"] == "context_save":
            self.cores.pop(op["core"], None)

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
