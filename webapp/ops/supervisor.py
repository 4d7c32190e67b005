"""Starts, watches, restarts and stops the processes of the embedded stack. Leaves none behind, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
BACK_OFF_FIRST, BACK_OFF_LAST = 0.5, 5.0
DEATHS_ALLOWED: Final = 5
DEATHS_WITHIN: Final = 60.0
STOP_SECONDS: Final = 15.0
TAIL_LINES: Final = 20

_libc = ctypes.CDLL(None, use_errno=True)


class GaveUp(RuntimeError):
    """A child died again and again; the message carries the last lines of its log."""


def die_with_parent(parent: int) -> Callable[[], None]:
    """For preexec_fn: the kernel ends the child when the thread that forked it ends (so: fork from the main thread)."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the request stood
            os._exit(1)

    return prepare


@dataclass
class Child:
    """One process of the stack and its log."""

    name: str
    command: Sequence[str]
    log: Path
    environment: dict[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=deque)
    back_off: float = BACK_OFF_FIRST
    start_at: float = 0.0

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops the children in order
                preexec_fn=die_with_parent(os.getpid()),
            )

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-TAIL_LINES:])

    def signal(self, how: signal.Signals) -> None:
        """To the whole session, so that the pool of a killed worker goes too."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, how)
            except ProcessLookupError:
                return


class Supervisor:
    """Children in their order of start; they are stopped in the reverse order."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self.stopping = False

    def start(self, *names: str) -> None:
        for child in self.children:
            if child.name in names:
                child.start()

    def watch(self) -> None:
        """Restart who died, with a growing pause. More than five deaths in a minute end everything."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            if not child.start_at:
                child.signal(signal.SIGKILL)  # what the dead process left of its session
                child.deaths.append(now)
                while child.deaths and child.deaths[0] < now - DEATHS_WITHIN:
                    child.deaths.popleft()
                if len(child.deaths) > DEATHS_ALLOWED:
                    raise GaveUp(
                        f"{child.name} ended {len(child.deaths)} times within a minute. Its last lines:\n{child.tail()}"
                    )
                quiet = len(child.deaths) == 1
                child.back_off = BACK_OFF_FIRST if quiet else min(BACK_OFF_LAST, child.back_off * 2)
                child.start_at = now + child.back_off
                print(
                    f"{child.name} ended ({child.process.returncode}); it is started again", file=sys.stderr, flush=True
                )
            elif now >= child.start_at:
                child.start_at = 0.0
                child.start()

    def stop(self) -> None:
        """Ask each child to end, last started first, 15 s each; then end what is left of it."""
        for child in reversed(self.children):
            if child.process is None:
                continue
            if child.process.poll() is None:
                try:
                    child.process.send_signal(child.stop_signal)
                    child.process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    print(
                        f"{child.name} did not end in {STOP_SECONDS:.0f} s and is killed", file=sys.stderr, flush=True
                    )
            child.signal(signal.SIGKILL)
            child.process.wait()
