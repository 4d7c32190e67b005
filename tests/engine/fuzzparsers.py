"""What is fuzzed: for each parser its samples, how they are changed, how they are read, and its own error."""

import contextlib
import hashlib
import io
import json
import random
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hsvm_engine import ARCHITECTURES, Machine
from hsvm_engine.attackfile import BUILTIN, AttackFileError, builtin_ids, read_attack
from hsvm_engine.operations import OPERATIONS
from hsvm_engine.scenarios import SCENARIOS, Scenario
from hsvm_engine.trace import read_lackey
from hsvm_engine.tracefile import HEADER, TraceError, TraceReader, builtin_trace, builtin_traces, write_trace

Change = Callable[[random.Random, list[bytes]], bytes]
NUMBERS = (0, 1, 2, 7, 255, 256, 4095, 4096, 65535, 1 << 28, (1 << 31) - 1, 1 << 32, (1 << 48) - 1, (1 << 64) - 1)
MOST_LINES = 8_000  # longer texts only take time
WORDS = (
    *(b"", b"null", b"true", b"no", b"-1", b"1e999", b"NaN", b"0x", b"0xffffffffffffffff", b"9" * 5000, b"$", b"$x.y"),
    *(b"$victim", b"&a", b"*a", b"!!python/object:os.system", b"<<", b"{", b"}", b"[" * 50, b"]", b"- ", b": ", b"? "),
    *(
        b"|",
        b">",
        b"'",
        b'"',
        b"\\ud800",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xe2\x80\xa8",
        b"\0",
        b"\t",
        b"\r",
        b"#",
        b"%YAML 9.9",
    ),
    *(
        b"repeat",
        b"steps",
        b"let",
        b"expect",
        b"machine",
        b"as",
        b"op",
        b"setup",
        b"\n---\n",
        b"\n...\n",
        b"\xef\xbb\xbf",
    ),
    *(name.encode() for name in OPERATIONS),
)


@dataclass(frozen=True)
class Parser:
    samples: Callable[[], list[bytes]]
    change: Change
    read: Callable[[bytes], object]
    error: type[Exception]


# Changes


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    """A few changes of any bytes: flips, numbers, cuts, repetitions, insertions."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 1000))
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) % (1 << 8 * width)
            out[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length] * rng.choice((1, 2, 30))
        elif kind == 4:
            out[at:at] = rng.randbytes(length)
        elif kind == 5:
            out[at : at + length] = bytes(min(length, len(out) - at))
        else:
            del out[at:]
    return bytes(out)


def text_changed(rng: random.Random, samples: list[bytes]) -> bytes:
    """A text with lines and words exchanged, now and then with any bytes."""
    lines = rng.choice(samples).split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 2:
            lines[at:at] = lines[min(at, other) : max(at, other) + 1] * rng.choice((1, 1, 40))
        elif kind == 3:
            lines[at] = b" " * rng.choice((1, 2, 4)) + lines[at]
        elif kind == 4:
            lines.insert(at, rng.choice(rng.choice(samples).split(b"\n")))
        elif kind == 5:
            lines[at] = bytes_changed(rng, lines[at])
        else:
            lines[at] = _word_changed(rng, lines[at])
        lines = lines[:MOST_LINES] or [b""]
    text = b"\n".join(lines)
    return bytes_changed(rng, text) if rng.random() < 0.1 else text


def _word_changed(rng: random.Random, line: bytes) -> bytes:
    words = list(re.finditer(rb"[\w$.-]+", line))
    if not words:
        return line + rng.choice(WORDS)
    word = rng.choice(words)
    new = rng.choice(WORDS) if rng.random() < 0.6 else str(rng.choice(NUMBERS)).encode()
    return line[: word.start()] + new + line[word.end() :]


def trace_changed(rng: random.Random, samples: list[bytes]) -> bytes:
    """A binary trace with any bytes changed; mostly its checksums are made right again, so that they hide nothing."""
    data = bytes_changed(rng, rng.choice(samples))
    return data if rng.random() < 0.2 else _checked_trace(rng, data)


def _checked_trace(rng: random.Random, data: bytes) -> bytes:
    if len(data) < HEADER.size:
        return data
    out = bytearray(data)
    meta = min(struct.unpack_from("<I", out, 12)[0], 65_536)
    end = HEADER.size + meta
    struct.pack_into("<I", out, 28, zlib.crc32(bytes(out[:28]) + bytes(out[HEADER.size : end])))
    if end + 12 <= len(out):
        body = bytes(out[end + 12 :])
        if rng.random() < 0.5:  # change what is packed, too
            with contextlib.suppress(zlib.error):
                body = zlib.compress(bytes_changed(rng, zlib.decompressobj().decompress(body, 1 << 20)))
        struct.pack_into("<II", out, end + 4, len(body) & 0xFFFFFFFF, zlib.crc32(body))
        out[end + 12 :] = body
    return bytes(out)


def snapshot_changed(rng: random.Random, samples: list[bytes]) -> bytes:
    """A snapshot with any bytes changed; mostly inside its packed state, with the checksum made right again."""
    data = rng.choice(samples)
    if rng.random() < 0.15:
        return bytes_changed(rng, data)
    length = struct.unpack_from("<I", data, 6)[0]
    config, body = data[10 : 10 + length], zlib.decompress(data[10 + length : -32])
    if rng.random() < 0.2:
        config = text_changed(rng, [config])
    else:
        body = bytes_changed(rng, _number_changed(rng, body) if rng.random() < 0.7 else body)
    head = data[:6] + struct.pack("<I", len(config)) + config + zlib.compress(body, 1)
    return head + hashlib.sha256(head).digest()


def _number_changed(rng: random.Random, body: bytes) -> bytes:
    """One aligned number changed and nothing moved: it reaches what lies behind the checks of lengths."""
    out = bytearray(body)
    width = rng.choice((1, 2, 4, 8))
    sections = [match.end() + 8 for match in re.finditer(rb"[A-Z]{3}[A-Z ]", body[:4] + body)]
    start = rng.choice(sections or [0])
    at = min(start + width * rng.randrange(1, 64), max(len(out) - width, 0))
    near = int.from_bytes(out[at : at + width], "little") + rng.choice((-1, 1, 2, 256))
    number = rng.choice((near, rng.choice(NUMBERS))) % (1 << 8 * width)
    out[at : at + width] = number.to_bytes(width, "little")
    return bytes(out)


# Samples


def attack_samples() -> list[bytes]:
    return [(BUILTIN / f"{attack_id}.yaml").read_bytes() for attack_id in builtin_ids()] + [_JSON_ATTACK]


_JSON_ATTACK = json.dumps(
    {
        **{"schema": 1, "id": "X01", "says": "The hypervisor reads.", "port": ["hypervisor"], "let": {"frame": 4096}},
        "setup": [{"op": "create_vm", "vcpus": 1, "as": "victim"}],
        "attacker": [
            {"repeat": 3, "steps": [{"op": "hv_read", "mfn": "$frame", "offset": 0, "length": 32, "as": "seen"}]},
            {"op": "hv_write_context", "vm": "$victim", "vcpu": 0, "registers": {"rax": 1, "cr3": "$frame"}},
        ],
        "expect": {"hsvm": "BLOCKED"},
    },
    indent=1,
).encode()


def scenario_samples() -> list[bytes]:
    texts = [scenario.to_json() for scenario in SCENARIOS.values()]
    attacks = [{"step": 2, "attack": "A01", "victim": "a-db"}]
    texts.append(json.dumps({**json.loads(texts[0]), "attacks": attacks}, indent=1))
    return [text.replace(",", ",\n").encode() for text in texts]


def trace_samples() -> list[bytes]:
    """The built-in traces, cut short: one of a few references, one of a few thousand, one of two blocks."""
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        for name in builtin_traces():
            trace = builtin_trace(name)
            for count in (3, 2_000, 66_000):
                path = Path(folder) / "cut.hsvmtrace"
                write_trace(path, [(trace.addresses[:count], trace.kinds[:count])], trace.meta)
                samples += [path.read_bytes()] * (5 if count < 10_000 else 1)
    return samples


def lackey_samples() -> list[bytes]:
    banner, summary = b"==7== Lackey, an example Valgrind tool\n", b"==7== Exit code: 0\n"
    lines = b"I  04016bf0,3\n L 1ffeffe7e,8\n S 1ffeffe80,4\n M 0421c7cc,4\nI  04016bf3,5\n" * 8
    return [lines, banner + lines + summary]


def snapshot_samples() -> list[bytes]:
    """Small hosts of every row with a guest that has run, a swapped page and a shared one."""
    return [_host(name).snapshot() for name in ARCHITECTURES]


def _host(architecture: str) -> Machine:
    small = {"l1": {"sets": 2, "ways": 2}, "l2": {"sets": 4, "ways": 2}}
    protected = 24 if ARCHITECTURES[architecture].protected_region else 0
    machine = Machine(256, 32, protected, 2, architecture=architecture, tlb=small)
    vm = machine.apply({"op": "create_vm", "vcpus": 2})["vm"]
    machine.apply({"op": "create_vm", "vcpus": 1})
    for gpn in range(8):
        machine.apply({"op": "page_map", "vm": vm, "gpn": gpn, "mfn": 100 + gpn, "perm": "rw", "size": 1})
    machine.apply({"op": "context_restore", "vm": vm, "vcpu": 0, "core": 0})
    machine.apply({"op": "guest_set_registers", "core": 0, "registers": {"cr3": 7 << 12}})
    machine.apply({"op": "guest_map", "core": 0, "gva": 0x5000, "gpn": 0, "perm": "rw"})
    machine.apply({"op": "guest_access", "core": 0, "gva": 0x5010, "kind": "w"})
    machine.apply({"op": "guest_write", "core": 0, "gpa": 0x1000, "data": "5a" * 64})
    machine.apply({"op": "guest_share", "core": 0, "gpn": 1, "perm": "r"})
    machine.apply({"op": "guest_mergeable", "core": 0, "gpn": 0, "with": "any"})
    machine.apply({"op": "swap_out", "vm": vm, "gpn": 2})
    machine.apply({"op": "preempt", "core": 0, "after": 9})
    return machine


# Reading


def read_trace(data: bytes) -> None:
    for _ in TraceReader(io.BytesIO(data), "fuzz"):
        pass


def _lackey(data: bytes) -> None:
    for _ in read_lackey(io.BytesIO(data), "fuzz"):
        pass


def read_scenario(data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason}") from None
    return Scenario.from_json(text)


def restore(data: bytes) -> None:
    """What is restored must also bear to be looked at and used."""
    machine = Machine.restore(data)
    machine.dump()
    machine.digest()
    machine.tlb()
    for core in range(machine.cores):
        machine.walk(core, 0x5010)
        machine.apply({"op": "guest_read", "core": core, "gpa": 0x1000, "length": 4})
        machine.apply({"op": "context_save", "core": core})
    for vm in [row[0] for row in machine.dump()["vms"]]:
        machine.apply({"op": "delete_vm", "vm": vm})


PARSERS: dict[str, Parser] = {
    "attack": Parser(attack_samples, text_changed, read_attack, AttackFileError),
    "scenario": Parser(scenario_samples, text_changed, read_scenario, ValueError),
    "trace": Parser(trace_samples, trace_changed, read_trace, TraceError),
    "lackey": Parser(lackey_samples, text_changed, _lackey, TraceError),
    "snapshot": Parser(snapshot_samples, snapshot_changed, restore, ValueError),
}
