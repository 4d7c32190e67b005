"""Declaring: a new VM, and the wishes for one, as questions and as a document, with the conflicts that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.agreements import checks, declaring, life, places, selectors
from webapp.errors import Fault, VpmsError
from webapp.fleet.selectors import hosts_open
from webapp.roles import must, tenant_required
from webapp.tenants import forms, quotas, yamltext
from webapp.tenants.changes import Change, changes
from webapp.tenants.editing import TEXTS, Typed, faults_of, number, taken_away
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.selectors import missing, policies_of, policy_get, programs_of, tenants_of, vm_get
from webapp.tenants.services import document_of, policy_read
from webapp.typed import typed_for
from webapp.vpms import documents
from webapp.vpms.answers import answers_from_document
from webapp.vpms.vocabulary import PROFILES, SWITCHES

SHOWN_VERSIONS = 20
VERSION = re.compile(r"(\"?\bversion\"?\s*:\s*)\d+")


class Editor(Typed):
    """What the preferences page shows: the stored wishes, or what was typed and refused."""

    def __init__(self, request: HttpRequest, name: str) -> None:
        super().__init__(request)
        user: Any = request.user
        self.user = user
        self.vm: VirtualMachine = vm_get(user=user, name=name)
        placement = getattr(self.vm, "placement", None)
        self.host = placement.host if placement else None
        self.history: list[Policy] = list(policies_of(user=user, vm=self.vm)[:SHOWN_VERSIONS])
        self.newest = self.history[0] if self.history else None
        self.before = document_of(self.newest) if self.newest else None
        self.next_version = self.newest.version + 1 if self.newest else 1
        self.offers = checks.offers_of(host=self.host, size=(self.before or {}).get("size", {}))

    def answers_in(self, document: Mapping[str, Any] | None) -> forms.Answers | None:
        return answers_from_document(document, self.offers) if document else None

    def typed_document(self) -> bytes | dict[str, Any]:
        """The document that the posted form stands for; BadInput when it stands for none."""
        post = self.request.POST
        if post.get("tab") in TEXTS:
            text = self.typed_text()
            return text if post.get("tab") == "json" else yamltext.read(text)
        return forms.document_from_form(
            post,
            vm=self.vm.name,
            tenant=self.vm.tenant.slug,
            version=self.next_version,
            before=self.before,
            offers=self.offers,
        )

    def overtaken(self) -> bool:
        """Whether somebody has saved since the form was opened."""
        seen = self.seen()
        return seen is not None and seen != self.next_version - 1

    def said_already(self) -> bool:
        """The same form once more, by a double click or the browser: its wishes are what is stored."""
        return self.before is not None and life.same_wishes(self.before, self.typed_document())

    def overtaken_page(self) -> HttpResponse:
        """Both sides, and nothing saved: the person keeps its own, takes theirs, or edits on with both in view."""
        typed = documents.read_policy(self.typed_document()).document
        old = next((row for row in self.history if row.version == self.seen()), None)
        assert self.before is not None
        theirs = changes(document_of(old), self.before) if old else []
        return self.page(status=412, more={"theirs": theirs, "mine": changes(self.before, typed), "overtaken": True})

    def touched(self) -> dict[str, dict[str, Any]]:
        """By question: the newest version that changed one of its settings, with who saved it and when."""
        found: dict[str, dict[str, Any]] = {}
        for policy, older in self.steps:
            new, old = document_of(policy)["switches"], document_of(older)["switches"] if older else {}
            for switch, known in SWITCHES.items():
                if new.get(switch) != old.get(switch):
                    found.setdefault(known.question, {"policy": policy})
        return found

    @property
    def steps(self) -> list[tuple[Policy, Policy | None]]:
        """Each version with the one before it; the oldest that is shown has none unless it is the first."""
        pairs = list(zip(self.history, [*self.history[1:], None], strict=True))
        return pairs if len(self.history) < SHOWN_VERSIONS else pairs[:-1]

    def preview(self) -> list[Change] | None:
        """What the typed document would change; None where that has been seen, or nothing is stored to compare with."""
        post = self.request.POST
        if post.get("tab") not in TEXTS or post.get("act") == "save" or self.before is None:
            return None
        parsed = policy_read(vm=self.vm, last=self.newest, document=self.typed_document())
        return changes(self.before, parsed.document)

    def page(
        self,
        *,
        faults: list[Fault] | None = None,
        status: int = 200,
        shown: list[Change] | None = None,
        more: dict[str, Any] | None = None,
    ) -> HttpResponse:
        posted = self.request.POST if self.request.method == "POST" else typed_for(self.request)
        stored = self.answers_in(self.before)
        expressible = self.before is None or stored is not None
        tab = (posted or self.request.GET).get("tab", "form" if expressible else "json")
        profile = None if posted else forms.profile_named(self.request.GET.get("profile", ""))
        answers: forms.Answers = forms.answers_of_profile(profile) if profile else stored or {}
        size, mode = (self.before or {}).get("size", {}), (self.before or {}).get("delegate", {}).get("mode", "human")
        memory = str(size.get("memory_mib", forms.MEMORY_MIB[0]))
        text = self.text(tab)
        if posted and tab in TEXTS:
            typed = self.shown_text() if self.request.method == "POST" else posted.get("document", "")
            text = self.next_text(typed.strip(), renumber=bool(more))
        elif posted:
            answers = forms.read_answers(posted)
            memory, mode = posted.get("memory_mib", memory), posted.get("delegate", mode)
        touched = self.touched()
        context = {
            "vm": self.vm,
            "seen": self.next_version - 1,
            "touched": touched,
            "host": self.host,
            "newest": self.newest,
            "next_version": self.next_version,
            "described": forms.described(stored),
            "expressible": expressible,
            "tab": tab if tab in TEXTS else "form",
            "tab_label": TEXTS.get(tab, ""),
            "rows": [{**row, "touched": touched.get(row["name"])} for row in forms.rows(answers, faults or [])],
            "profiles": PROFILES,
            "chosen_profile": profile.name if profile else "",
            "profile_label": profile.label if profile else "",
            "strength_help": forms.STRENGTH_HELP,
            "memory": [(size, str(size) == memory) for size in self.memory_choices(size)],
            "delegates": [(name, *words, name == mode) for name, words in self.delegate_choices(mode)],
            "text": text,
            "document": {
                "format": "vpms-policy/1",
                "file": reverse("wishes-file", args=[self.vm.name, tab]) if tab in TEXTS and self.newest else "",
                "address": f"/api/vms/{self.vm.name}/policy",
                "name": self.vm.name,
                "docs": "policy_put",
            },
            "faults": self.placed(faults or []),
            "changes": shown,
            "check": selectors.check_of(user=self.user, vm=self.vm),
            "history": [
                {
                    "policy": policy,
                    "described": forms.described(self.answers_in(document_of(policy))),
                    "changes": changes(document_of(older), document_of(policy)) if older else [],
                }
                for policy, older in zip(self.history, [*self.history[1:], None], strict=True)
            ],
            **(more or {}),
        }
        return render(self.request, "tenants/preferences.html", context, status=status)

    def next_text(self, text: str, *, renumber: bool) -> str:
        """What was typed; under the next number where somebody has taken its own."""
        return VERSION.sub(rf"\g<1>{self.next_version}", text, count=1) if renumber else text

    def text(self, tab: str) -> str:
        """The stored document, ready to be saved as the next version."""
        document = {**self.before, "version": self.next_version} if self.before else {}
        if tab == "yaml":
            return yamltext.write(document)
        return json.dumps(document, indent=1, ensure_ascii=False)

    def memory_choices(self, size: Mapping[str, Any]) -> list[int]:
        return sorted({*forms.MEMORY_MIB, size.get("memory_mib", forms.MEMORY_MIB[0])})

    def delegate_choices(self, mode: str) -> list[tuple[str, tuple[str, str]]]:
        """The two modes that the form offers, and the stored one if it is a third."""
        known = list(forms.DELEGATES.items())
        stored = (self.before or {}).get("delegate", {}).get("mode", mode)
        if stored not in forms.DELEGATES:
            words = ("As written in the document", "Within the bounds that your document names.")
            known.append((stored, words))
        return known


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: HttpRequest, name: str) -> HttpResponse:
    """Questions, document and history of one VM's wishes. A refused save answers 4xx with everything still typed in.

    A document is saved only after the page has shown what it would change.
    """
    editor = Editor(request, name)
    if request.method != "POST" or request.POST.get("act") == "back":
        return editor.page()
    tab = request.POST.get("tab", "")
    tab = tab if tab in TEXTS else "form"
    try:
        if editor.overtaken():
            if not editor.said_already():
                return editor.overtaken_page()
            messages.success(request, _("These wishes are saved already; nothing was saved twice."))
            return redirect(f"{request.path}?tab={tab}")
        shown = editor.preview()
        if shown is not None:
            return editor.page(shown=shown)
        policy = declaring.wishes_declare(
            by=editor.user, vm=editor.vm, document=editor.typed_document(), seen=editor.seen()
        )
    except VpmsError as refused:
        return editor.page(faults=faults_of(refused), status=refused.http_status)
    messages.success(request, f"Version {policy.version} of your wishes for {name} is saved.")
    return redirect(f"{request.path}?tab={tab}")


@tenant_required
@require_GET
def wishes_file(request: HttpRequest, name: str, kind: str) -> HttpResponse:
    """A version of the wishes to take away: the document exactly as stored, or as YAML."""
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    text = request.GET.get("version", "")
    policy = policy_get(user=user, vm=vm, version=number(text) or 0) if text else policies_of(user=user, vm=vm).first()
    if policy is None or kind not in TEXTS:
        raise missing()
    return taken_away(policy.document, kind=kind, name=f"{vm.name}-wishes-{policy.version}")


@tenant_required
@require_POST
def revert(request: HttpRequest, name: str) -> HttpResponse:
    """An old version saved again under the next number: history only grows."""
    editor = Editor(request, name)
    version = number(request.POST.get("version", "")) or 0
    old = policy_get(user=editor.user, vm=editor.vm, version=version)
    if editor.overtaken():
        words = _("Somebody has saved version %(newest)s meanwhile. Nothing was saved: look at it, then choose again.")
        messages.warning(request, words % {"newest": editor.next_version - 1})
        return editor.page(status=412)
    document = {**document_of(old), "version": editor.next_version}
    policy = declaring.wishes_declare(by=editor.user, vm=editor.vm, document=document, seen=editor.seen())
    words = _("Version %(old)s was saved again as version %(version)s.")
    messages.success(request, words % {"old": old.version, "version": policy.version})
    return redirect("vm-preferences", name=name)


@tenant_required
@require_POST
def goal_waive(request: HttpRequest, name: str) -> HttpResponse:
    """A goal of the VM given up, or taken up again."""
    user: Any = request.user
    switch, up = request.POST.get("switch", ""), request.POST.get("act") == "up"
    vm = declaring.goal_waive(by=user, vm=name, switch=switch, given_up=not up)
    words = "is taken up again" if up else "is given up"
    messages.success(request, f"The goal “{SWITCHES[switch].label}” of {name} {words}. The wishes stay as they are.")
    placement = getattr(vm, "placement", None)
    return redirect("tenant-goals", name=placement.host.name) if placement else redirect("vm-preferences", name=name)


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def vm_new(request: HttpRequest) -> HttpResponse:
    """Declare a VM: name, program, host, memory, and a profile as the first version of its wishes."""
    user: Any = request.user
    tenants, hosts = list(tenants_of(user=user)), list(hosts_open(user=user))
    must(user, "act", tenant=next(iter(user.tenant_slugs), None))
    typed: Any = request.POST if request.method == "POST" else typed_for(request) or request.GET
    faults: list[Fault] = []
    status = 200
    if request.method == "POST":
        try:
            vm = declaring.vm_declare(
                by=user,
                tenant=typed.get("tenant", tenants[0].slug if len(tenants) == 1 else ""),
                name=typed.get("name", "").strip(),
                trace=typed.get("trace", ""),
                host=typed.get("host", ""),
                memory_mib=typed.get("memory_mib", ""),
                profile=typed.get("profile", ""),
            )
        except VpmsError as refused:
            faults, status = faults_of(refused), refused.http_status
        else:
            words = _("%(vm)s is declared on host %(host)s. Look through its wishes, then start it.")
            messages.success(request, words % {"vm": vm.name, "host": vm.placement.host.name})
            return redirect("vm-preferences", name=vm.name)
    context = {
        "tenants": tenants,
        "hosts": hosts,
        "programs": programs_of(user=user),
        "profiles": PROFILES,
        "memory": forms.MEMORY_MIB,
        "level": quotas.level("vms", tenant=tenants[0]) if len(tenants) == 1 else None,
        "typed": typed,
        "faults": {fault.path.removeprefix("$."): fault.reason for fault in faults},
    }
    return render(request, "tenants/vm_new.html", context, status=status)


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def vm_delete(request: HttpRequest, name: str) -> HttpResponse:
    """Ask once, with what it means in words; to keep the VM is what the page proposes."""
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    must(user, "act", tenant=vm.tenant.slug)
    if request.method != "POST":
        return render(request, "agreements/vm_delete.html", {"vm": vm})
    life.vm_delete(by=user, vm=vm)
    messages.success(request, _("%(vm)s is deleted.") % {"vm": vm.name})
    return redirect("my-vms")


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def vm_move(request: HttpRequest, name: str) -> HttpResponse:
    """The other hosts, which of them can keep the wishes and why not; a running VM only asks to move."""
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    refused = None
    if request.method == "POST":
        try:
            begun = life.vm_move(by=user, vm=vm, host=request.POST.get("host", ""))
        except VpmsError as fault:
            refused = fault
        else:
            if begun is not None:
                words = _("%(vm)s runs on where it is while its place on %(host)s is negotiated.")
                messages.success(request, words % {"vm": vm.name, "host": begun.host.name})
                return redirect("negotiation", pk=begun.pk)
            words = _("%(vm)s is placed on %(host)s and starts there next time.")
            messages.success(request, words % {"vm": vm.name, "host": request.POST.get("host", "")})
            return redirect("my-vms")
    policy = policies_of(user=user, vm=vm).first()
    spots = places.places_of(user=user, policy=policy) if policy else []
    home = vm.placement.host if hasattr(vm, "placement") else None
    context = {
        "vm": vm,
        "home": home,
        "runs": vm.state == VirtualMachine.State.RUNNING,
        "places": [row for row in spots if row["host"] != home],
        "policy": policy,
        "faults": faults_of(refused) if refused else [],
    }
    return render(request, "agreements/vm_move.html", context, status=refused.http_status if refused else 200)
