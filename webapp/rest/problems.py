"""One shape of every refusal of the API: a problem (RFC 9457) with a stable code and the faults, if it has any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponse

from webapp.rest.codes import CODES

MEDIA_TYPE: Final = "application/problem+json"


def problem(
    status: int,
    code: str,
    message: str,
    *,
    faults: Sequence[dict[str, str]] = (),
    more: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """`message` says the same as `detail`, in the words of the pages. Whatever more the code promises stands beside."""
    known = CODES.get(code)
    if known and message == code:  # raised without words of its own
        message = str(known.title)
    told = {
        "faults": list(faults),
        **(more or {}),
        "message": message,
        "type": f"/api/errors#{code}",
        "title": str(known.title) if known else HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
    }
    return HttpResponse(json.dumps(told, cls=DjangoJSONEncoder), status=status, content_type=MEDIA_TYPE)
