"""Reads of hosts: what they can do is public to everybody signed in, who runs there is the operator's matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from webapp.fleet.models import Host, Placement
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

ON_HOST = (VirtualMachine.State.STARTING, VirtualMachine.State.RUNNING, VirtualMachine.State.STOPPING)


def hosts_of(*, user: User) -> QuerySet[Host]:
    """The hosts that the person may choose or run: all for operators and tenants, none for others."""
    return Host.objects.all() if user.sees_site or user.tenant_slugs else Host.objects.none()


def host_get(*, user: User, name: str) -> Host:
    host = hosts_of(user=user).filter(name=name).first()
    if host is None:
        raise missing()
    return host


def placements_of(*, user: User, host: Host) -> QuerySet[Placement]:
    """Who is placed on the host: everybody for operators, a tenant's own VMs for the tenant."""
    found = Placement.objects.filter(host=host).select_related("vm__tenant").order_by("vm__name")
    return found if user.sees_site else found.filter(vm__in=VirtualMachine.objects.visible_to(user))


def running_vms(*, host: Host) -> QuerySet[VirtualMachine]:
    """The VMs that hold the host's resources now: running, about to run, not yet gone. For services, not pages."""
    return (
        VirtualMachine.objects.filter(placement__host=host, state__in=ON_HOST).select_related("tenant").order_by("name")
    )


def document_of(host: Host) -> dict[str, Any]:
    """The host document as the operator gave it. It was read strictly when it was stored."""
    document: dict[str, Any] = json.loads(host.document)
    return document


def document_now(*, host: Host, running: list[str], agreement: dict[str, Any] | None) -> dict[str, Any]:
    """The host document with the VMs that run there now and the predicate of the agreement in force."""
    return {**document_of(host), "running": sorted(running), "agreement": agreement}
