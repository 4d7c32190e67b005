"""What a page that edits a document by form, JSON and YAML has in common, whatever the document is about."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from django.http import HttpRequest, HttpResponse

from webapp.errors import BadInput, Fault, VpmsError
from webapp.tenants import yamltext

TEXTS = {"json": "JSON", "yaml": "YAML"}  # tabs that show the document itself


def taken_away(document: str, *, kind: str, name: str) -> HttpResponse:
    """A stored document as a file: JSON exactly as it is stored, or YAML."""
    body = document if kind == "json" else yamltext.write(json.loads(document))
    answer = HttpResponse(body, content_type="application/json" if kind == "json" else "application/yaml")
    answer["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return answer


def faults_of(refused: VpmsError) -> list[Fault]:
    return refused.faults if isinstance(refused, BadInput) else [Fault("$", refused.message)]


class Typed:
    """What was sent with the form of an editor: the text or a file, and the version that was before the eyes."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @property
    def tab(self) -> str:
        """The view of the document that the form was sent from."""
        tab = self.request.POST.get("tab", "")
        return tab if tab in TEXTS else "form"

    @cached_property
    def file(self) -> bytes | None:
        """An imported file: it takes the place of what stands in the field."""
        given = self.request.FILES.get("file")
        return bytes(given.read(yamltext.MAX_BYTES + 1)) if given else None

    def typed_text(self) -> bytes:
        if self.file is not None:
            return self.file.strip()
        return self.request.POST.get("document", "").strip().encode("utf-8", "surrogatepass")

    def shown_text(self) -> str:
        """The typed text as the field shows it again."""
        return self.typed_text().decode("utf-8", "replace") if self.file else self.request.POST.get("document", "")

    def seen(self) -> int | None:
        """The version that the person had before its eyes when the form was opened; None: the form does not say."""
        return number(self.request.POST.get("seen", ""))

    def placed(self, faults: list[Fault]) -> list[dict[str, Any]]:
        """The faults with the line of the typed text in which each stands, where that can be told."""
        typed = self.request.method == "POST" and self.tab in TEXTS
        lines = yamltext.lines_of(self.typed_text()) if typed else {}
        return [{"path": fault.path, "reason": fault.reason, "line": lines.get(fault.path)} for fault in faults]


def number(text: str) -> int | None:
    """A whole number as forms and addresses carry it."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else None
