"""The operator's pages of a host's document: form, JSON, YAML, versions; changes of the platform; its end."""

from __future__ import annotations

import json
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.agreements import hosting
from webapp.errors import BadInput, VpmsError
from webapp.fleet import forms
from webapp.fleet import services as fleet
from webapp.fleet.changes import changes
from webapp.fleet.selectors import document_of, site_host, version_get, versions_of
from webapp.roles import operator_required
from webapp.tenants import yamltext
from webapp.tenants.editing import TEXTS, Typed, faults_of, number, taken_away
from webapp.tenants.selectors import missing
from webapp.typed import typed_for
from webapp.vpms import documents
from webapp.vpms.vocabulary import SWITCHES

SHOWN_VERSIONS: Final = 20


class Editor(Typed):
    """What the page of a host's document shows: the stored one, or what was typed and refused. Without a host: a new
    one is being registered."""

    def __init__(self, request: HttpRequest, name: str | None) -> None:
        super().__init__(request)
        user: Any = request.user
        self.user = user
        self.host = site_host(user=user, name=name) if name is not None else None
        self.history = list(versions_of(user=user, host=self.host)[: SHOWN_VERSIONS + 1]) if self.host else []
        self.before = document_of(self.host) if self.host else forms.blank("")

    def typed_document(self) -> bytes | dict[str, Any]:
        """The document that the posted form stands for; BadInput when it stands for none."""
        if self.tab in TEXTS:
            text = self.typed_text()
            return text if self.tab == "json" else yamltext.read(text)
        return forms.document_from_form(self.request.POST, self.before)

    def overtaken(self) -> bool:
        seen = self.seen()
        return self.host is not None and seen is not None and seen != self.host.version

    def said_already(self) -> bool:
        """The same form once more, by a double click or the browser: its document is what is stored."""
        return bool(documents.read_host(self.typed_document()).document == self.before)

    def overtaken_page(self) -> HttpResponse:
        """Both sides, and nothing saved: the person keeps its own, takes theirs, or edits on with both in view."""
        typed = documents.read_host(self.typed_document()).document
        old = next((row for row in self.history if row.version == self.seen()), None)
        theirs = changes(document_of(old), self.before) if old else []
        return self.page(status=412, more={"theirs": theirs, "mine": changes(self.before, typed), "overtaken": True})

    def preview(self) -> HttpResponse:
        """What the document would change and what stands against it, before anything is saved."""
        assert self.host is not None
        document = self.typed_document()
        parsed = fleet.host_read(document, host=self.host)
        text = document.decode() if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False)
        more = {"changes": changes(self.before, parsed.document), "text": text, **self.against(document)}
        if self.tab == "form":  # what it stands for travels as a document, and comes back into the form
            more |= {"changes_tab": "json", "from_form": True}
        return self.page(more={"changes_tab": self.tab, **more})

    def against(self, document: bytes | dict[str, Any]) -> dict[str, Any]:
        """What would be answered to saving it now."""
        assert self.host is not None
        try:
            hosting.expect_possible(self.host, fleet.host_read(document, host=self.host))
        except VpmsError as refused:
            return {"refused": refused, "agreements": refused.data.get("agreements", [])}
        return {}

    def page(
        self, *, refused: VpmsError | None = None, status: int = 200, more: dict[str, Any] | None = None
    ) -> HttpResponse:
        sent = self.request.method == "POST"
        posted: Any = self.request.POST if sent else typed_for(self.request)
        tab = (posted or self.request.GET).get("tab", "form")
        tab = tab if tab in TEXTS else "form"
        before, from_form = self.before, bool(posted and posted.get("form"))
        if from_form:  # back from the page of changes: the form shows what the document says
            tab, before, posted = "form", document_or(posted.get("document", ""), self.before), None
        faults = faults_of(refused) if isinstance(refused, BadInput) else []
        text = (
            (self.shown_text() if sent else posted.get("document", "")) if posted and tab in TEXTS else self.text(tab)
        )
        steps = list(zip(self.history, [*self.history, None][1:], strict=True))[:SHOWN_VERSIONS]
        context = {
            "host": self.host,
            "newest": self.host,
            "seen": self.host.version if self.host else 0,
            "next_version": self.host.version + 1 if self.host else 1,
            "tab": tab,
            "tab_label": TEXTS.get(tab, ""),
            "text": text.strip(),
            "form": forms.shown(before, posted if posted and tab == "form" else None, faults),
            "faults": self.placed(faults),
            "refused": None if faults else refused,
            "agreements": refused.data.get("agreements", []) if refused else [],
            "document": {
                "format": "vpms-host/1",
                "file": reverse("host-file", args=[self.host.name, tab]) if self.host and tab in TEXTS else "",
                "address": f"/api/hosts/{self.host.name}/document" if self.host else "/api/hosts",
                "method": "PUT" if self.host else "POST",
                "name": self.host.name if self.host else "host",
                "docs": "host_document_put" if self.host else "host_add",
            },
            "history": [
                {"version": row, "changes": changes(document_of(older), document_of(row)) if older else []}
                for row, older in steps
            ],
            **(more or {}),
        }
        return render(self.request, "fleet/host_document.html", context, status=status)

    def text(self, tab: str) -> str:
        if tab == "yaml":
            return yamltext.write(self.before)
        return json.dumps(self.before, indent=1, ensure_ascii=False)


def document_or(text: str, other: dict[str, Any]) -> dict[str, Any]:
    """The document in this text, or the other if there is none in it."""
    try:
        return dict(documents.read_host(text).document)
    except BadInput:
        return other


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def host_new(request: HttpRequest) -> HttpResponse:
    """Register a host by form or document. A refused one answers 4xx with everything still typed in."""
    editor = Editor(request, None)
    if request.method != "POST":
        return editor.page()
    try:
        host = fleet.host_register(by=editor.user, document=editor.typed_document())
    except VpmsError as refused:
        return editor.page(refused=refused, status=refused.http_status)
    messages.success(request, _("Host %(host)s is registered; owners can place VMs on it.") % {"host": host.name})
    return redirect("host", name=host.name)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def host_document(request: HttpRequest, name: str) -> HttpResponse:
    """Form, document and history of one host. It is saved only after the page has shown what it would change."""
    editor = Editor(request, name)
    if request.method != "POST" or request.POST.get("act") == "back":
        return editor.page()
    assert editor.host is not None
    try:
        if editor.overtaken():
            if not editor.said_already():
                return editor.overtaken_page()
            messages.success(request, _("This document is saved already; nothing was saved twice."))
            return redirect(f"{request.path}?tab={editor.tab}")
        if request.POST.get("act") != "save":
            return editor.preview()
        host = hosting.host_edit(by=editor.user, host=editor.host, document=editor.typed_document(), seen=editor.seen())
    except VpmsError as refused:
        return editor.page(refused=refused, status=refused.http_status)
    words = _("Version %(version)s of the document of %(host)s is saved.")
    messages.success(request, words % {"version": host.version, "host": host.name})
    return redirect(f"{request.path}?tab={editor.tab}")


@require_GET
@operator_required
def host_file(request: HttpRequest, name: str, kind: str) -> HttpResponse:
    """A version of the document to take away: exactly as stored, or as YAML."""
    user: Any = request.user
    host = site_host(user=user, name=name)
    text = request.GET.get("version", "")
    version = version_get(user=user, host=host, version=number(text) or 0) if text else host
    if kind not in TEXTS:
        raise missing()
    return taken_away(version.document, kind=kind, name=f"{host.name}-host-{version.version}")


@require_POST
@operator_required
def host_revert(request: HttpRequest, name: str) -> HttpResponse:
    """An old version saved again under the next number, if nothing that is in force stands against it."""
    editor = Editor(request, name)
    assert editor.host is not None
    old = version_get(user=editor.user, host=editor.host, version=number(request.POST.get("version", "")) or 0)
    try:
        host = hosting.host_edit(by=editor.user, host=editor.host, document=old.document.encode(), seen=editor.seen())
    except VpmsError as refused:
        return editor.page(refused=refused, status=refused.http_status)
    words = _("Version %(old)s was saved again as version %(version)s.")
    messages.success(request, words % {"old": old.version, "version": host.version})
    return redirect("host-document", name=name)


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def host_platform(request: HttpRequest, name: str) -> HttpResponse:
    """Report what has happened to the machine: first what it comes to, then it is told to those who lose by it."""
    user: Any = request.user
    host = site_host(user=user, name=name)
    before = documents.read_host(host.document)
    post = request.POST
    refused, fact = None, None
    if request.method == "POST":
        given: dict[str, Any] = {
            "attested": {"yes": True, "no": False}.get(post.get("attested", "")),
            "lost": _pairs(post.getlist("lost")),
            "gained": _pairs(post.getlist("gained")),
        }
        try:
            if post.get("act") == "report":
                fact = hosting.fact_report(by=user, host=host, reason=post.get("reason", ""), **given)
                messages.success(request, _told(host.name, fact))
                return redirect("host", name=name)
            fleet.expect_in_service(host)
            fact = hosting.fact_read(host=host, **given)
        except VpmsError as fault:
            refused = fault
    context = {
        "host": host,
        "attested": before.attested,
        "groups": _groups(before, post.getlist("lost"), post.getlist("gained")),
        "typed": post,
        "fact": fact,
        "changes": changes(document_of(host), fact.document) if fact else [],
        "faults": faults_of(refused) if refused else [],
    }
    return render(request, "fleet/platform.html", context, status=refused.http_status if refused else 200)


def _pairs(fields: list[str]) -> list[tuple[str, str]]:
    """`smt/off` as switch and value."""
    return [(switch, value) for switch, _slash, value in (field.partition("/") for field in fields[:256])]


def _told(host: str, fact: hosting.Fact) -> str:
    vms = sorted({vm for row in fact.broken for vm in row.vms})
    if not vms:
        return _("The change of %(host)s is recorded. No agreement in force loses by it.") % {"host": host}
    words = _("The change of %(host)s is recorded, and the owners of %(vms)s were told. Nothing was stopped.")
    return words % {"host": host, "vms": ", ".join(vms)}


def _groups(host: documents.Host, lost: list[str], gained: list[str]) -> list[dict[str, Any]]:
    """For each setting what the machine can do now (and may have lost) and what it cannot (and may have gained)."""
    rows = []
    for name, switch in SWITCHES.items():
        can = host.capabilities.get(name, switch.names)
        values = [
            {
                "field": "lost" if value.name in can else "gained",
                "pair": f"{name}/{value.name}",
                "label": value.label,
                "ticked": f"{name}/{value.name}" in (lost if value.name in can else gained),
            }
            for value in switch.values
        ]
        rows.append({"label": switch.label, "values": values, "open": any(value["ticked"] for value in values)})
    return rows


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def host_retire(request: HttpRequest, name: str) -> HttpResponse:
    """Ask once, with what it means in words; to keep the host is what the page proposes."""
    user: Any = request.user
    host = site_host(user=user, name=name)
    refused = None
    if request.method == "POST":
        try:
            hosting.host_retire(by=user, host=host)
        except VpmsError as fault:
            refused = fault
        else:
            messages.success(request, _("%(host)s is retired. Its history stays.") % {"host": name})
            return redirect("hosts")
    context = {"host": host, "placed": hosting.here(host), "refused": refused}
    return render(request, "fleet/retire.html", context, status=refused.http_status if refused else 200)
