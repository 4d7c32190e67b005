"""What a webhook sends: the document vpms-notice/1 and its JSON Schema."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.utils import translation

from webapp.notices.models import Delivery
from webapp.notices.wording import KINDS, TONES
from webapp.strictjson import canonical

FORMAT: Final = "vpms-notice/1"
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "/api/schemas/webhook.json",
    "title": "What a webhook is told",
    "description": (
        "Sent by POST as application/json. The header VPMS-Signature reads t=SECONDS,v1=HEX: HEX is the HMAC-SHA256, "
        "keyed with the webhook's secret as it was shown (whsec_ included), of the text SECONDS, a full stop and the "
        "body as received. For a day after the secret was replaced there are two v1: take the message if one fits. "
        "Refuse a time more than five minutes off. VPMS-Delivery repeats `id`; a message may come twice and then has "
        "the same id. Answer with any 2xx status within four seconds; anything else, redirects too, is tried again."
    ),
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "id", "at", "test", "organisation", "kind", "severity", "code", "subject", "text", "link"],
    "properties": {
        "format": {"const": FORMAT},
        "id": {"type": "string", "format": "uuid"},
        "at": {"type": "string", "format": "date-time"},
        "test": {"type": "boolean", "description": "sent by the button: nothing has happened"},
        "organisation": {"type": "string", "description": "empty: the operators of the platform"},
        "kind": {"enum": [*KINDS, "test"]},
        "severity": {"enum": list(TONES)},
        "code": {"type": "string", "description": "what happened, for programs"},
        "subject": {"type": "string", "description": "the VM or the thing that it is about"},
        "text": {"type": "string", "description": "one sentence in English"},
        "link": {"type": "string", "format": "uri"},
    },
}


def body_of(delivery: Delivery) -> bytes:
    """The body, the same at every try."""
    event, endpoint = delivery.event, delivery.endpoint
    told: dict[str, Any] = {
        "format": FORMAT,
        "id": str(delivery.uid),
        "at": (event.at if event else delivery.made_at).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "test": event is None,
        "organisation": endpoint.tenant,
        "kind": event.kind if event else "test",
        "severity": event.severity if event else "info",
        "code": event.code if event else "test",
        "subject": event.subject if event else "",
        "link": settings.SITE_URL + (event.link if event else endpoint.page),
    }
    with translation.override("en"):
        told["text"] = event.text if event else "This is a test. Nothing has happened."
    return canonical(told)
