"""The one error type of the product and the list of faults that bad input is answered with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_FAULTS = 20


class Fault(NamedTuple):
    """One thing wrong in a document: where (`$.switches.smt.weight`) and why, in words that a page can show."""

    path: str
    reason: str


class VpmsError(Exception):
    """A refusal: a code that a client can branch on, the HTTP status of that answer, and data that explains it."""

    def __init__(
        self, code: str, http_status: int = 400, data: dict[str, Any] | None = None, message: str = ""
    ) -> None:
        super().__init__(message or code)
        self.code = code
        self.http_status = http_status
        self.data = data or {}
        self.message = message or code

    def as_dict(self) -> dict[str, Any]:
        """The JSON shape of every refusal, the same in API, page and command line."""
        return {"code": self.code, "message": self.message, **self.data}


class BadInput(VpmsError):
    """A document was refused whole; nothing of it was used. Carries at most 20 faults in document order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults[:MAX_FAULTS])
        listed = [{"path": fault.path, "reason": fault.reason} for fault in self.faults]
        first = self.faults[0]
        super().__init__("bad_input", 422, {"faults": listed}, f"{first.path}: {first.reason}")
