"""Declare by API: VMs and their place, wishes as a document or as answers, what they would change, older versions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.agreements import checks, declaring, life, selectors
from webapp.errors import BadInput, Fault
from webapp.rest.document import body_of_kind
from webapp.rest.doors import reader
from webapp.rest.etags import etag, seen_in
from webapp.rest.paging import Strict
from webapp.tenants import forms
from webapp.tenants.api import Version, VmOut
from webapp.tenants.api import router as vms
from webapp.tenants.api import shown as vm_shown
from webapp.tenants.changes import changes
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.selectors import missing, policy_get, policy_newest, vm_get
from webapp.tenants.services import document_of, policy_read
from webapp.vpms.answers import answers_from_document
from webapp.vpms.vocabulary import QUESTIONS

router = Router(tags=["wishes"])
Name = Annotated[str, Field(max_length=63)]


class SavedOut(Schema):
    version: int
    sha256: str
    status: str
    status_words: str


class ChangeOut(Schema):
    setting: str
    now: str
    then: str


class FindingOut(Schema):
    code: str
    title: str
    severity_words: str
    text: str


class CheckOut(Schema):
    status: str
    words: str
    against: str
    not_checked: str
    findings: list[FindingOut]


class PreviewOut(Schema):
    version: int
    changes: list[ChangeOut]
    check: CheckOut | None


class VmIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "my-vm", "trace": "gzip", "host": "h1", "memory_mib": 8, "profile": "balanced", "tenant": ""}
            ]
        },
    )
    name: Name
    trace: Name
    host: Annotated[
        str,
        Field(
            max_length=63,
            description="Left out: one that keeps the wishes best, and where it can start at once if possible.",
        ),
    ] = ""
    memory_mib: Annotated[int, Field(ge=1, le=2**26)] = forms.MEMORY_MIB[0]
    profile: Name
    tenant: Annotated[str, Field(max_length=63, description="Needed only by people of several organisations.")] = ""


class PlaceIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"host": "h2"}]})
    host: Name


class GivenIn(Strict):
    answer: Annotated[str, Field(max_length=32)] | None = None
    strength: Literal["must", "prefer", "dont_mind"] = "dont_mind"


class AnswersIn(Strict):
    """What is left out counts as don't mind, as in the form."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"answers": {"q1": {"answer": "nobody", "strength": "must"}}, "memory_mib": 8}]
        },
    )
    answers: dict[str, GivenIn]
    memory_mib: Annotated[int, Field(ge=1, le=2**26)] | None = None
    delegate: Annotated[str, Field(max_length=32)] | None = None


class AnswersOut(Schema):
    version: int
    answers: dict[str, dict[str, str]] | None = Field(description="null: the document says more than the questions can")
    described: str
    memory_mib: int | None
    delegate: str


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


@vms.post("/vms", response={201: VmOut})
def vm_declare(request: HttpRequest, given: VmIn) -> Any:
    """Declare a VM: its name, program, host and memory, and a profile as the first version of its wishes."""
    user = person(request)
    vm = declaring.vm_declare(
        by=user,
        tenant=given.tenant or (user.tenant_slugs[0] if len(user.tenant_slugs) == 1 else ""),
        name=given.name,
        trace=given.trace,
        host=given.host,
        memory_mib=str(given.memory_mib),
        profile=given.profile,
    )
    return Status(201, {**vm_shown(vm), "policy_version": 1})


@vms.put("/vms/{name}/placement", response=VmOut)
def vm_place(request: HttpRequest, name: str, given: PlaceIn) -> Any:
    """Place a stopped VM of yours on another host, where it starts next time, if its wishes can be kept there beside
    those who run (409 cannot_run_there else). Nothing that runs is moved by this."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    life.vm_place(by=user, vm=vm, host=given.host)
    newest = policy_newest(user=user, vm=vm)
    return {**vm_shown(vm_get(user=user, name=name)), "policy_version": newest.version if newest else None}


# -- wishes


def newest_of(user: Any, vm: VirtualMachine) -> int:
    policy = policy_newest(user=user, vm=vm)
    return policy.version if policy else 0


def saved(user: Any, vm: VirtualMachine, policy: Policy, response: HttpResponse) -> dict[str, Any]:
    check = selectors.check_of(user=user, vm=vm)
    response["ETag"] = etag(policy.version, policy.sha256)
    return {
        "version": policy.version,
        "sha256": policy.sha256,
        "status": check["status"] if check else "not_checked",
        "status_words": check["words"] if check else "Not checked: the VM has no host",
    }


@router.get("/vms/{name}/policy", response=dict[str, Any])
def policy_newest_get(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """The newest wishes for a VM of yours: the document as it was given. Its ETag goes into If-Match when you save."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    newest = policy_newest(user=user, vm=vm)
    if newest is None:
        raise missing()
    response["ETag"] = etag(newest.version, newest.sha256)
    return document_of(newest)


@router.put("/vms/{name}/policy", response=SavedOut, openapi_extra=body_of_kind("policy"))
def policy_put(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """Save a vpms-policy/1 document as the next version. It is read strictly and refused whole, or stored whole.

    With If-Match it is refused with 412 where somebody else saved a version after the one that you had read. The answer
    then tells what was changed since (`changed`) and what your document would change now (`changes`)."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    seen = seen_in(request, newest=newest_of(user, vm))
    policy = declaring.wishes_declare(by=user, vm=vm, document=request.body, seen=seen)
    return saved(user, vm, policy, response)


@router.post("/vms/{name}/policy/check", response=PreviewOut, auth=reader, openapi_extra=body_of_kind("policy"))
def policy_check(request: HttpRequest, name: str) -> Any:
    """What a document would change, and its check against the VM's host. Nothing is saved."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    last = policy_newest(user=user, vm=vm)
    parsed = policy_read(vm=vm, last=last, document=request.body)
    placement = getattr(vm, "placement", None)
    check = None
    if placement is not None:
        tried = Policy(vm=vm, version=parsed.version, document=request.body.decode())
        check = checks.shown(checks.create_check(host=placement.host, policy=tried), names=[vm.name])
    rows = changes(document_of(last), parsed.document) if last else []
    return {"version": parsed.version, "changes": [row._asdict() for row in rows], "check": check}


@router.get("/vms/{name}/check", response=CheckOut)
def check_get(request: HttpRequest, name: str) -> Any:
    """The newest wishes checked against the VM's host as it is now. 404 without wishes or host."""
    user = person(request)
    check = selectors.check_of(user=user, vm=vm_get(user=user, name=name))
    if check is None:
        raise missing()
    return check


@router.post("/vms/{name}/policies/{int:version}/restore", response=SavedOut)
def policy_restore(request: HttpRequest, name: str, version: Version, response: HttpResponse) -> Any:
    """Save an old version again under the next number: history only grows. If-Match counts as for saving."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    newest = newest_of(user, vm)
    document = {**document_of(policy_get(user=user, vm=vm, version=version)), "version": newest + 1}
    policy = declaring.wishes_declare(by=user, vm=vm, document=document, seen=seen_in(request, newest=newest))
    return saved(user, vm, policy, response)


@router.get("/vms/{name}/answers", response=AnswersOut)
def answers_get(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """The newest wishes as answers to the plain questions."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    newest = policy_newest(user=user, vm=vm)
    if newest is None:
        raise missing()
    response["ETag"] = etag(newest.version, newest.sha256)
    document = document_of(newest)
    given = answers_from_document(document, offers_of(vm, document))
    return {
        "version": newest.version,
        "answers": given,
        "described": forms.described(given),
        "memory_mib": document.get("size", {}).get("memory_mib"),
        "delegate": document.get("delegate", {}).get("mode", "human"),
    }


def offers_of(vm: VirtualMachine, document: dict[str, Any]) -> dict[str, list[str]]:
    placement = getattr(vm, "placement", None)
    return checks.offers_of(host=placement.host if placement else None, size=document.get("size", {}))


@router.put("/vms/{name}/answers", response=SavedOut)
def answers_put(request: HttpRequest, name: str, given: AnswersIn, response: HttpResponse) -> Any:
    """Answer the plain questions: saved as the next version of the wishes. What the questions do not cover stays as it
    was. If-Match counts as for saving a document."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    last = policy_newest(user=user, vm=vm)
    before = document_of(last) if last else {}
    newest = last.version if last else 0
    unknown = [name for name in given.answers if name not in QUESTIONS]
    if unknown:
        raise BadInput([Fault(f"$.answers.{name[:16]}", "is no question") for name in unknown])
    size, mode = before.get("size", {}).get("memory_mib"), before.get("delegate", {}).get("mode")
    typed = {
        "memory_mib": str(given.memory_mib or size or forms.MEMORY_MIB[0]),
        "delegate": given.delegate or mode or "human",
    }
    for question, one in given.answers.items():
        typed |= {f"{question}-strength": one.strength, question: one.answer or ""}
    try:
        document = forms.document_from_form(
            typed,
            vm=vm.name,
            tenant=vm.tenant.slug,
            version=newest + 1,
            before=before,
            offers=offers_of(vm, before),
        )
    except BadInput as refused:
        raise BadInput([answers_fault(fault) for fault in refused.faults]) from None
    policy = declaring.wishes_declare(by=user, vm=vm, document=document, seen=seen_in(request, newest=newest))
    return saved(user, vm, policy, response)


def answers_fault(fault: Fault) -> Fault:
    """The form's fault at the place that it has in this body."""
    path = fault.path.replace("$.q", "$.answers.q", 1) if fault.path.startswith("$.q") else fault.path
    renamed = {"$.size.memory_mib": "$.memory_mib", "$.delegate.mode": "$.delegate"}
    return Fault(renamed.get(path, path), fault.reason)
