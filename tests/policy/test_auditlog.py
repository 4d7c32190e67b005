"""The quick reader of a log accepts nothing that the careful one, line by line, refuses."""

import random
from typing import Any

from webapp import strictjson
from webapp.vpms import auditlog

TEXTS = ["", "a.b", "x e5", "é", "\x7f", "\\", "1.5", ":1.5", '"']
INSERTED = [b" ", b"1", b".5", b"e5", b"{}", b",", b"[", b'"']


def some_value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice([0, -1, 2**53 - 1, 2**53, 10**17])
    if kind == 1:
        return rng.choice(TEXTS)
    if kind == 2:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(3) if depth < 4 else 0)]
    if kind == 3:
        return {rng.choice("abcd"): some_value(rng, depth + 1) for _ in range(rng.randrange(3) if depth < 4 else 0)}
    if kind == 4:
        return rng.choice([True, False, None])
    if kind == 5:
        nested: Any = 1
        for _ in range(rng.choice([3, 13, 14, 15, 16, 17]) if depth == 0 else 1):
            nested = {"n": nested} if rng.random() < 0.5 else [nested]
        return nested
    return rng.randrange(1000)


def some_log(rng: random.Random) -> list[bytes]:
    lines, previous = [], auditlog.GENESIS
    for seq in range(rng.choice([1, 2, 5])):
        data = some_value(rng) if rng.random() < 0.2 else {"v": some_value(rng)}
        entry = {"seq": seq, "at": "t", "type": "x", "actor": "a", "subject": "s", "data": data, "prev": previous}
        previous = strictjson.digest(entry)
        lines.append(strictjson.canonical({**entry, "hash": previous}))
    return lines


def damaged(rng: random.Random, line: bytes) -> bytes:
    at = rng.randrange(len(line))
    kind = rng.randrange(3)
    if kind == 0:
        return line[:at] + bytes([line[at] ^ 1 << rng.randrange(8)]) + line[at + 1 :]
    if kind == 1:
        return line[:at] + rng.choice(INSERTED) + line[at:]
    return line.replace(b'"actor":', b'"actor":"b","actor":')


def carefully(lines: list[bytes]) -> list[dict[str, Any]] | None:
    found, previous = [], auditlog.GENESIS
    for number, line in enumerate(lines):
        entry = auditlog._entry(line, number, previous)
        if entry is None:
            return None
        found.append(entry)
        previous = entry["hash"]
    return found


def test_what_the_quick_reader_takes_the_careful_one_takes_alike() -> None:
    rng = random.Random(77)
    quick = refused = 0
    for _ in range(1500):
        lines = some_log(rng)
        if rng.random() < 0.5:
            at = rng.randrange(len(lines))
            lines[at] = damaged(rng, lines[at])
        if any(b"\n" in line for line in lines):
            continue
        found, right = auditlog.entries_plain(lines, 0, auditlog.GENESIS), carefully(lines)
        quick += found is not None
        refused += right is None
        assert found is None or found == right, lines
    assert quick > 200 and refused > 200, (quick, refused)
