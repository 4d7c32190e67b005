"""Agree by API: wishes and their check, conflicts, negotiations and answers to proposals."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema

from webapp.agreements import declaring, selectors
from webapp.agreements.models import Conflict
from webapp.tenants.selectors import missing, policy_newest, vm_get
from webapp.tenants.services import document_of

router = Router(tags=["agreements"])
NEWEST = 100


class ConflictOut(Schema):
    id: int
    code: str
    name: str
    kind: str
    trigger: str
    severity: str
    switch: str
    host: str
    text: str
    found_at: dt.datetime
    closed_at: dt.datetime | None


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def conflict_shown(conflict: Conflict) -> dict[str, Any]:
    fields = ("id", "code", "name", "kind", "trigger", "severity", "switch", "text", "found_at", "closed_at")
    return {"host": conflict.host.name, **{field: getattr(conflict, field) for field in fields}}


@router.get("/conflicts", response=list[ConflictOut])
def conflict_list(request: HttpRequest, open: bool = Query(True)) -> Any:
    """Conflicts that concern your VMs, newest first, at most 100."""
    found = selectors.conflicts_of(user=person(request), open_only=open)[:NEWEST]
    return [conflict_shown(conflict) for conflict in found]


@router.get("/vms/{name}/policy", response=dict[str, Any])
def policy_get(request: HttpRequest, name: str) -> Any:
    """The newest wishes for a VM of yours: the document as it was given."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    newest = policy_newest(user=user, vm=vm)
    if newest is None:
        raise missing()
    return document_of(newest)


class SavedOut(Schema):
    version: int
    sha256: str
    status: str
    status_words: str


@router.put("/vms/{name}/policy", response=SavedOut)
def policy_put(request: HttpRequest, name: str) -> Any:
    """Save a vpms-policy/1 document as the next version. It is read strictly and refused whole, or stored whole."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    policy = declaring.wishes_declare(by=user, vm=vm, document=request.body)
    check = selectors.check_of(user=user, vm=vm)
    return {
        "version": policy.version,
        "sha256": policy.sha256,
        "status": check["status"] if check else "not_checked",
        "status_words": check["words"] if check else "Not checked: the VM has no host",
    }
