"""The kit itself, in small: its faults happen, its comparisons see a difference, its table leads somewhere."""

from __future__ import annotations

import importlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.goals.__main__ import GOALS
from tests.goals.chaos import differing
from tests.goals.load import text_frame
from tests.goals.stack import FaultProxy, until

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that says back what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                there, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(there,), daemon=True).start()

    def answer(there: socket.socket) -> None:
        try:
            while data := there.recv(100):
                there.sendall(data)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def opened(folder: Path) -> socket.socket:
    way = socket.socket(socket.AF_UNIX)
    way.settimeout(20)
    way.connect(str(folder / "way"))
    return way


def asked(way: socket.socket, text: bytes) -> bytes:
    try:
        way.sendall(text)
        return way.recv(100)
    except OSError:  # too late, or ended
        return b""


def test_each_fault_of_the_proxy_happens(echo: int, tmp_path: Path) -> None:
    proxy = FaultProxy(tmp_path / "way", echo)
    proxy.DELAY = 0.1
    way = opened(tmp_path)
    assert asked(way, b"one") == b"one"
    proxy.mode = "delay"
    assert asked(way, b"two") == b"two"
    for mode in ("half-open", "drop"):
        dead = opened(tmp_path)
        proxy.mode = mode
        for text in (b"three", b"four"):  # the second after it: what has lost a byte stays silent
            before = proxy.swallowed
            dead.sendall(text)
            until(lambda before=before: proxy.swallowed > before, 30)
            proxy.mode = "pass"
        dead.settimeout(0.05)
        assert asked(dead, b"five") == b""
    assert asked(way, b"six") == b"six"
    assert proxy.reset() >= 1
    assert asked(way, b"seven") == b""


def test_a_doubled_effect_and_a_lost_one_both_show() -> None:
    assert differing([[1, "a"], [2, "b"]], [[1, "a"], [1, "a"], [3, "c"]]) == [[[2, "b"]], [[1, "a"], [3, "c"]]]
    assert differing([[1]], [[1], [1]]) == [[], [[1]]]


def test_a_masked_frame_is_as_the_protocol_has_it() -> None:
    for text in ("short", "x" * 40_000):
        frame = text_frame(text)
        head = 2 if len(text) < 126 else 4
        size = frame[1] & 0x7F if head == 2 else int.from_bytes(frame[2:4], "big")
        mask, body = frame[head : head + 4], frame[head + 4 :]
        assert (frame[0], frame[1] & 0x80, size) == (0x81, 0x80, len(text))
        assert bytes(byte ^ mask[i % 4] for i, byte in enumerate(body)).decode() == text


@pytest.mark.parametrize("name", GOALS)
def test_every_goal_of_the_table_can_be_measured_and_is_explained(name: str) -> None:
    module, _, function = GOALS[name].does.partition(".")
    assert callable(getattr(importlib.import_module(f"tests.goals.{module}"), function))
    assert f"| {name} |" in (ROOT / "docs" / "operators" / "goals.md").read_text()
