"""What the processes log: lines for people in the demo, JSON lines in production, never a secret.

Everything is logged through Python's own `logging`; here is decided how a line looks. What a request, a task or a slice
is about is bound once, and stands in every line that is logged meanwhile.
"""

from __future__ import annotations

import logging
import re
from contextlib import AbstractContextManager
from typing import Any, Final

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

REMOVED: Final = "[removed]"
# Names of what no log ever holds. Ids, digests and codes are told; contents never.
DENIED: Final = re.compile(
    r".*(password|passwd|secret|token|cookie|authorization|session|csrf|api_?key|seal|seed|private"
    r"|content|body|page_bytes|document|answers|wishes|policy|email).*",
    re.IGNORECASE,
)
# The same inside a text: `password=…`, `"token": "…"`, `Authorization: Bearer …`, `Cookie: …`.
IN_TEXT: Final = re.compile(
    r"(?i)((?:password|passwd|secret|token|cookie|authorization|sessionid|csrf)[\w-]{0,40}"
    r"[\"']?\s*[:=]\s*[\"']?(?:bearer\s+|basic\s+)?)[^\s\"',;&}]+"
)
TOKEN: Final = re.compile(r"\bvpms_[A-Za-z0-9_-]{16,}")  # an API token, wherever it stands
LONGEST: Final = 4000

bind, bound, clear = bind_contextvars, bound_contextvars, clear_contextvars


def request_id() -> str:
    """Of the request, or the task that it led to, under way; empty: nobody asked for what happens."""
    return str(get_contextvars().get("request_id", ""))


def working(**about: Any) -> AbstractContextManager[None]:
    """What is done in the block is about these things, in every line."""
    return bound(**about)


def clean(text: str) -> str:
    """The text without secrets, cut: what a stranger sends as a path must not cost more for being long."""
    text = TOKEN.sub(REMOVED, IN_TEXT.sub(rf"\1{REMOVED}", text[: 2 * LONGEST]))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def scrubbed(value: Any, name: str = "") -> Any:
    """The same without what no log may hold."""
    if name and DENIED.fullmatch(name):
        return REMOVED
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, dict):
        return {key: scrubbed(inner, str(key)) for key, inner in value.items()}
    return [scrubbed(inner) for inner in value] if isinstance(value, list | tuple | set) else value


def scrub(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """The processor that every line passes last, its traceback included."""
    kept = {name: value for name, value in event.items() if name.startswith("_")}
    return {**{name: scrubbed(value, name) for name, value in event.items() if name not in kept}, **kept}


def one_line(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What came from outside begins no line of its own."""
    event["event"] = str(event.get("event", "")).replace("\r", "\\r").replace("\n", "\\n")
    return event


class Careful(logging.Filter):
    """Before a line's words are put together: its parts without secrets. Addresses can be secrets too (an invitation's
    link): where Django logs one, the route's name stands."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if request is not None and isinstance(record.args, tuple):
            path = getattr(request, "path", "")
            record.args = tuple(route_of(request) if arg == path else arg for arg in record.args)
        record.__dict__.pop("request", None)
        if isinstance(record.args, tuple):
            record.args = tuple(scrubbed(arg) for arg in record.args)
        elif isinstance(record.args, dict):
            record.args = scrubbed(record.args)
        return True


def route_of(request: Any) -> str:
    """The name of the route that the request took: of a bounded list, and without what stood in its places."""
    match = getattr(request, "resolver_match", None)
    return str(getattr(match, "view_name", "") or "") or "none"


def settings(*, level: str, as_json: bool) -> dict[str, Any]:
    """Django's LOGGING."""
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=["route", "status", "ms", "run", "slice", "references", "kind", "job"]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        scrub,
        one_line,
    ]
    last = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"careful": {"()": "webapp.logs.Careful"}},
        "formatters": {
            "line": {
                "()": "structlog.stdlib.ProcessorFormatter",
                "foreign_pre_chain": before,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
            }
        },
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["careful"]},
        },
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # What is missing or refused is in the line of its request; what broke is told with its traceback.
            "django.request": {"level": "ERROR"},
            # A slice has one line of its own (webapp/runs/tasks.py), not two of Celery's.
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},
            # Django's own handlers would print the same a second time.
            "django": {"handlers": [], "propagate": True},
            "django.server": {"handlers": [], "propagate": True},
        },
    }
