"""VMs and the versions of their wishes by API: what you declared, readable by nobody else."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from webapp.rest.paging import Listed, Paging, pages
from webapp.tenants import selectors
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.services import document_of
from webapp.vpms.vocabulary import PROFILES, QUESTIONS, STRENGTHS

router = Router(tags=["vms"])
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]


class VmOut(Schema):
    name: str
    tenant: str
    state: str
    trace: str
    host: str | None
    policy_version: int | None


class VersionOut(Schema):
    version: int
    sha256: str
    saved_at: dt.datetime
    saved_by: str


class ProgramOut(Schema):
    name: str


class AnswerOut(Schema):
    name: str
    label: str
    consequence: str


class QuestionOut(Schema):
    name: str
    text: str
    help: str
    why: str
    answers: list[AnswerOut]
    strengths: list[str]


class ProfileOut(Schema):
    name: str
    label: str
    help: str
    answers: dict[str, dict[str, str]]


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def shown(vm: VirtualMachine) -> dict[str, Any]:
    placement = getattr(vm, "placement", None)
    return {
        "name": vm.name,
        "tenant": vm.tenant.slug,
        "state": vm.state,
        "trace": vm.trace,
        "host": placement.host.name if placement else None,
        "policy_version": getattr(vm, "newest_version", None),
    }


def version_shown(policy: Policy) -> dict[str, Any]:
    return {
        "version": policy.version,
        "sha256": policy.sha256,
        "saved_at": policy.created_at,
        "saved_by": policy.created_by.get_username(),
    }


@router.get("/vms", response=Listed[VmOut])
def vm_list(
    request: HttpRequest,
    paging: Query[Paging],
    state: Annotated[str, Field(max_length=16)] = "",
    tenant: Annotated[str, Field(max_length=63)] = "",
) -> Any:
    """Your VMs by name; those in one state or of one organisation, if you name it."""
    found = selectors.vms_with_version(user=person(request))
    found = found.filter(state=state) if state else found
    found = found.filter(tenant__slug=tenant) if tenant else found
    return pages(request, found, paging, by="name", shown=shown)


@router.get("/vms/{name}", response=VmOut)
def vm_get(request: HttpRequest, name: str) -> Any:
    """One VM of yours."""
    vm = selectors.vms_with_version(user=person(request)).filter(name=name).first()
    if vm is None:
        raise selectors.missing()
    return shown(vm)


@router.get("/vms/{name}/policies", response=Listed[VersionOut])
def policy_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """The versions of the wishes for a VM, newest first."""
    user = person(request)
    vm = selectors.vm_get(user=user, name=name)
    return pages(request, selectors.policies_of(user=user, vm=vm), paging, by="-version", shown=version_shown)


@router.get("/vms/{name}/policies/{int:version}", response=dict[str, Any])
def policy_version(request: HttpRequest, name: str, version: Version) -> Any:
    """One version: the document as it was given."""
    user = person(request)
    vm = selectors.vm_get(user=user, name=name)
    return document_of(selectors.policy_get(user=user, vm=vm, version=version))


@router.get("/programs", response=Listed[ProgramOut])
def program_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The recorded programs that a VM can run."""
    return pages(request, [{"name": name} for name in selectors.programs()], paging, by="name")


@router.get("/questions", response=Listed[QuestionOut])
def question_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The eight plain questions with their answers and what each leads to, in order."""
    rows = [
        {
            **{field: getattr(question, field) for field in ("name", "text", "help", "why")},
            "answers": [answer._asdict() for answer in question.answers],
            "strengths": list(STRENGTHS),
        }
        for question in QUESTIONS.values()
    ]
    return pages(request, rows, paging, by="name")


@router.get("/profiles", response=Listed[ProfileOut])
def profile_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Ready sets of answers to begin with."""
    rows = [
        {
            "name": profile.name,
            "label": profile.label,
            "help": profile.help,
            "answers": {question: dict(given) for question, given in profile.answers.items()},
            "place": place,
        }
        for place, profile in enumerate(PROFILES)
    ]
    return pages(request, rows, paging, by="place")
