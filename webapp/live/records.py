"""Messages in a file or an answer: u32 milliseconds, u8 type (0 text, 1 binary), u32 length, payload; little endian."""

from __future__ import annotations

import struct
from typing import Final

from webapp.live.topics import Frame

RECORD: Final = struct.Struct("<IBI")
TEXT, BINARY = 0, 1


def record(frame: Frame, *, at: int = 0) -> bytes:
    """The message as a record; `at` counts in recordings alone."""
    kind, payload = (BINARY, frame) if isinstance(frame, bytes) else (TEXT, frame.encode())
    return RECORD.pack(at, kind, len(payload)) + payload
