"""Reads of LTI: a course's grades on their way back, and what the operator sees."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from webapp.courses.models import Course
from webapp.courses.selectors import missing
from webapp.lti import launches, platforms
from webapp.lti.models import Context, Return, SigningKey

__all__ = ["contexts_of", "missing", "operator_shown", "return_get", "returns_of"]


def returns_of(*, course: Course) -> QuerySet[Return]:
    """The caller has checked that the person teaches the course."""
    return Return.objects.filter(item__course=course).select_related("item", "member").order_by("member", "item")


def return_get(*, course: Course, pk: int) -> Return:
    found = Return.objects.filter(item__course=course, pk=pk).select_related("item").first()
    if found is None:
        raise missing()
    return found


def contexts_of(course: Course) -> list[str]:
    """The platforms with whose courses this one is linked."""
    names = {row.issuer: row.name for row in platforms.known()}
    found = Context.objects.filter(course=course).values_list("issuer", flat=True).distinct()
    return sorted(names.get(issuer, issuer) for issuer in found)


def operator_shown() -> dict[str, Any]:
    """What the operator registers at a platform, the platforms of the settings, and our keys."""
    return {
        "platforms": platforms.known(),
        "addresses": {
            "login": f"{settings.SITE_URL}/lti/login/",
            "launch": launches.target(),
            "keys": f"{settings.SITE_URL}/lti/keys.json",
        },
        "keys": list(SigningKey.objects.all()[:20]),
        "named": bool(settings.LTI_PLATFORMS),
    }
