"""VMs and the versions of their wishes by API: what you declared, readable by nobody else."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.tenants import selectors
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.services import document_of

router = Router(tags=["vms"])
NEWEST = 100


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


@router.get("/vms", response=list[VmOut])
def vm_list(request: HttpRequest) -> Any:
    """Your VMs by name."""
    return [shown(vm) for vm in selectors.vms_with_version(user=person(request))]


@router.get("/vms/{name}", response=VmOut)
def vm_get(request: HttpRequest, name: str) -> Any:
    """One VM of yours."""
    vm = selectors.vms_with_version(user=person(request)).filter(name=name).first()
    if vm is None:
        raise selectors.missing()
    return shown(vm)


@router.get("/vms/{name}/policies", response=list[VersionOut])
def policy_list(request: HttpRequest, name: str) -> Any:
    """The versions of the wishes for a VM, newest first, at most 100."""
    user = person(request)
    vm = selectors.vm_get(user=user, name=name)
    return [version_shown(policy) for policy in selectors.policies_of(user=user, vm=vm)[:NEWEST]]


@router.get("/vms/{name}/policies/{int:version}", response=dict[str, Any])
def policy_version(request: HttpRequest, name: str, version: int) -> Any:
    """One version: the document as it was given."""
    user = person(request)
    vm = selectors.vm_get(user=user, name=name)
    return document_of(selectors.policy_get(user=user, vm=vm, version=version))
