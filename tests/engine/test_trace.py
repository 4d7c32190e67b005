"""Traces: what is written is read again, what is damaged is refused with its place, Valgrind's text is understood."""

import io
import json
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from hsvm_engine import tracefile
from hsvm_engine.cli import main
from hsvm_engine.trace import info, read_lackey
from hsvm_engine.tracefile import (
    BLOCK,
    BLOCK_HEADER,
    FETCH,
    HEADER,
    READ,
    WRITE,
    Trace,
    TraceError,
    builtin_trace,
    builtin_traces,
    load_trace,
    make_trace,
    write_trace,
)

BANNER = b"==7== Lackey, an example Valgrind tool\n"
REFERENCES = b"I  04016bf0,3\n L 1ffeffe7e,8\n S 1ffeffe80,4\n M 0421c7cc,4\n"


def random_trace(count: int = BLOCK + 1_000, seed: int = 1) -> Trace:
    random = np.random.default_rng(seed)
    addresses = random.integers(0, 1 << 48, count, dtype=np.uint64)
    addresses[:3] = (0, (1 << 48) - 1, 0)
    return make_trace(addresses, random.integers(0, 3, count).astype(np.uint8))


def written(path: Path, trace: Trace) -> Path:
    write_trace(path, [(trace.addresses, trace.kinds)], {"program": ["x"]})
    return path


def lackey(text: bytes, **options: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for addresses, kinds in read_lackey(io.BytesIO(text), "text", **options):
        pairs += zip(addresses.tolist(), kinds.tolist(), strict=True)
    return pairs


def run(*arguments: str) -> int:
    return main(["trace", *arguments])


def test_a_written_trace_is_read_again_address_by_address(tmp_path: Path) -> None:
    trace = random_trace()
    again = load_trace(written(tmp_path / "a.hsvmtrace", trace))
    assert (again.addresses == trace.addresses).all()
    assert (again.kinds == trace.kinds).all()
    assert again.digest == trace.digest
    assert again.meta == {"program": ["x"]}


def test_a_loaded_trace_cannot_be_changed(tmp_path: Path) -> None:
    trace = load_trace(written(tmp_path / "a.hsvmtrace", random_trace(10)))
    with pytest.raises(ValueError, match="read-only"):
        trace.addresses[0] = 1


def test_every_truncation_is_refused_with_its_place(tmp_path: Path) -> None:
    data = written(tmp_path / "a.hsvmtrace", random_trace(500)).read_bytes()
    cut = tmp_path / "cut.hsvmtrace"
    for length in (*range(0, 120), len(data) // 2, len(data) - 1):
        cut.write_bytes(data[:length])
        with pytest.raises(TraceError, match=f"cut.hsvmtrace: byte {length}: the file ends inside") as refusal:
            load_trace(cut)
        assert refusal.value.place == f"byte {length}"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    data = written(tmp_path / "a.hsvmtrace", random_trace(60)).read_bytes()
    bad = tmp_path / "bad.hsvmtrace"
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        bad.write_bytes(flipped)
        with pytest.raises(TraceError):
            load_trace(bad)


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.hsvmtrace", random_trace(60))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(TraceError, match="after the last block"):
        load_trace(path)


def forged(path: Path, body: bytes, count: int) -> Path:
    """A file whose checksums are right, with this body as its only block."""
    start = HEADER.pack(tracefile.MAGIC, tracefile.VERSION, 2, count, 1, 0)[:-4]
    block = BLOCK_HEADER.pack(count, len(body), zlib.crc32(body)) + body
    path.write_bytes(start + struct.pack("<I", zlib.crc32(start + b"{}")) + b"{}" + block)
    return path


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (bytes(1 << 20), "inflates to more"),
        (b"\x02\x02\x00", "ends too early"),
        (b"\x02\x02\x00\x00\x00", "more than its references"),
        (b"\x07\x02\x00\x00", "kinds"),
        (b"\x02\x02\x01\x00", "more than 48 bits"),
        (b"\x02\x02" + b"\xfe\xff\xff\xff\xff\xff\x7f" * 2, "more than 48 bits"),
        (b"\x02\x02" + b"\x80" * 7 + b"\x01\x00", "too long"),
    ],
)
def test_a_forged_block_is_refused_while_it_is_inflated(tmp_path: Path, plain: bytes, reason: str) -> None:
    body = zlib.compress(plain)
    with pytest.raises(TraceError, match=reason):
        load_trace(forged(tmp_path / "f.hsvmtrace", body, 2))


def test_a_header_that_promises_too_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "h.hsvmtrace"
    for count, blocks, reason in ((1 << 40, 1, "allowed"), (0, 0, "allowed"), (BLOCK + 1, 1, "do not hold")):
        start = HEADER.pack(tracefile.MAGIC, tracefile.VERSION, 2, count, blocks, 0)[:-4]
        path.write_bytes(start + struct.pack("<I", zlib.crc32(start + b"{}")) + b"{}")
        with pytest.raises(TraceError, match=reason):
            load_trace(path)


def test_lackeys_letters_become_fetch_read_write_and_both() -> None:
    assert lackey(REFERENCES) == [
        (0x04016BF0, FETCH),
        (0x1FFEFFE7E, READ),
        (0x1FFEFFE80, WRITE),
        (0x0421C7CC, READ),
        (0x0421C7CC, WRITE),
    ]


def test_an_access_over_a_page_border_touches_both_pages() -> None:
    assert lackey(b" L 1ffc,8\n") == [(0x1FFC, READ), (0x2000, READ)]
    assert lackey(b" L 1ff8,8\n") == [(0x1FF8, READ)]


def test_remarks_of_valgrind_are_passed_over_and_skip_and_limit_cut() -> None:
    text = BANNER + REFERENCES * 30_000 + b"==7== Exit code: 0\n"
    assert lackey(text) == lackey(REFERENCES) * 30_000
    assert lackey(text, skip=7, limit=100_000) == (lackey(REFERENCES) * 30_000)[7:100_007]


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (b"", "line 1", "no reference"),
        (BANNER + b"==7== Exit code: 0\n", "line 2", "no reference"),
        (REFERENCES + b" L 12", "line 5", "ends inside a line"),
        (BANNER + REFERENCES, "line 5", "cut off"),
        (REFERENCES + b"hello\n", "line 5", "neither a reference"),
        (b" L xyz,8\n", "line 1", "neither a reference"),
        (b" L ffffffffffff,8\n", "line 1", "48 bits"),
        (b"\x7fELF" + bytes(9_000), "line 1", "too long"),
        (bytes(100) + b"\n", "line 1", "neither a reference"),
    ],
)
def test_text_that_is_not_a_whole_trace_is_refused_with_its_line(text: bytes, place: str, reason: str) -> None:
    with pytest.raises(TraceError, match=reason) as refusal:
        lackey(text)
    assert refusal.value.place == place


def test_import_and_info_print_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(REFERENCES)
    assert run("import", str(tmp_path / "a.log")) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["references"], shown["fetches"], shown["reads"], shown["writes"]) == (5, 1, 2, 2)
    again = tmp_path / "b.hsvmtrace"
    assert run("import", str(tmp_path / "a.hsvmtrace"), "--skip", "1", "--limit", "2", "-o", str(again)) == 0
    assert load_trace(again).addresses.tolist() == [0x1FFEFFE7E, 0x1FFEFFE80]
    assert info(again)["references"] == 2


def test_bad_input_ends_with_2_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.log").write_bytes(REFERENCES + b"oops")
    assert run("import", str(tmp_path / "a.log")) == 2
    assert "a.log: line 5: the text ends inside a line" in capsys.readouterr().err
    assert run("info", str(tmp_path / "a.log")) == 2
    assert run("import", str(tmp_path / "missing")) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="recording needs Valgrind")
def test_a_program_is_recorded_under_valgrind(tmp_path: Path) -> None:
    output = tmp_path / "t.hsvmtrace"
    arguments = ["record", "--limit", "5000", "-o", str(output), "--", "true"]
    code = f"from tests.engine.test_trace import run; run(*{arguments})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
    assert info(output)["references"] == 5_000


def test_the_recorded_traces_are_whole_small_and_of_real_size() -> None:
    assert builtin_traces() == ["gzip", "sqlite3"]
    assert sum((tracefile.FOLDER / f"{name}.hsvmtrace").stat().st_size for name in builtin_traces()) <= 3 << 20
    for name, pages in (("gzip", 200), ("sqlite3", 450)):
        trace = builtin_trace(name)
        assert len(trace) >= 3_000_000
        assert len(np.unique(trace.addresses >> np.uint64(12))) >= pages
        assert np.bincount(trace.kinds, minlength=3).min() > 200_000


def test_a_name_of_a_trace_is_never_a_path() -> None:
    with pytest.raises(ValueError, match="no trace is named"):
        builtin_trace("../traces/gzip")
