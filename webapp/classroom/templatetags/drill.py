"""`{% drill_line "hsvm" %}`: what the twelve attacks of the drill come to on this kind of machine, really executed."""

from __future__ import annotations

from functools import cache
from typing import Any

from django import template

from webapp.classroom import mine

register = template.Library()


@cache
def _counted(row: str) -> dict[str, Any]:
    """Executions depend on the machine alone: done once for a process."""
    return mine.counted(row)


@register.inclusion_tag("classroom/_drill_line.html")
def drill_line(row: str) -> dict[str, Any]:
    return _counted(row)
