"""Reads of hosts: what they can do is public to everybody signed in, who runs there is the operator's matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from webapp.fleet.models import Host, HostVersion, Placement
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

ON_HOST = (VirtualMachine.State.STARTING, VirtualMachine.State.RUNNING, VirtualMachine.State.STOPPING)


def hosts_of(*, user: User) -> QuerySet[Host]:
    """The hosts that the person may choose or run: all for operators, those in service for tenants, none for others."""
    if user.sees_site:
        return Host.objects.all()
    return Host.objects.filter(retired_at__isnull=True) if user.tenant_slugs else Host.objects.none()


def hosts_open(*, user: User) -> QuerySet[Host]:
    """Those of them on which a VM can be placed."""
    return hosts_of(user=user).filter(retired_at__isnull=True)


def host_get(*, user: User, name: str) -> Host:
    host = hosts_of(user=user).filter(name=name).first()
    if host is None:
        raise missing()
    return host


def site_host(*, user: User, name: str) -> Host:
    """A host for those who see the site; for tenants its document and its history are missing."""
    if not user.sees_site:
        raise missing()
    return host_get(user=user, name=name)


def versions_of(*, user: User, host: Host) -> QuerySet[HostVersion]:
    """The versions of a host's document, newest first, for those who see the site."""
    found = HostVersion.objects.filter(host=host).select_related("created_by")
    return found if user.sees_site else found.none()


def version_get(*, user: User, host: Host, version: int) -> HostVersion:
    found = versions_of(user=user, host=host).filter(version=version).first()
    if found is None:
        raise missing()
    return found


def placements_of(*, user: User, host: Host) -> QuerySet[Placement]:
    """Who is placed on the host: everybody for operators, a tenant's own VMs for the tenant."""
    found = Placement.objects.filter(host=host).select_related("vm__tenant").order_by("vm__name")
    return found if user.sees_site else found.filter(vm__in=VirtualMachine.objects.visible_to(user))


def running_vms(*, host: Host) -> QuerySet[VirtualMachine]:
    """The VMs that hold the host's resources now: running, about to run, not yet gone. For services, not pages."""
    return (
        VirtualMachine.objects.filter(placement__host=host, state__in=ON_HOST).select_related("tenant").order_by("name")
    )


def document_of(host: Host | HostVersion) -> dict[str, Any]:
    """The host document as the operator gave it. It was read strictly when it was stored."""
    document: dict[str, Any] = json.loads(host.document)
    return document


def document_now(*, host: Host, running: list[str], agreement: dict[str, Any] | None) -> dict[str, Any]:
    """The host document with the VMs that run there now and the predicate of the agreement in force."""
    return {**document_of(host), "running": sorted(running), "agreement": agreement}
