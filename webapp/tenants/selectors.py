"""Reads of what tenants declare; every door takes the person who looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db.models import Max, Q

from webapp.errors import VpmsError
from webapp.roles import must
from webapp.tenants.models import (
    UPLOAD,
    Policy,
    PolicyQuerySet,
    Tenant,
    VirtualMachine,
    VmQuerySet,
    Workload,
    WorkloadQuerySet,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

TRACE_SUFFIX = ".hsvmtrace"


def missing() -> VpmsError:
    """The one answer for what does not exist and for what somebody may not see."""
    return VpmsError("not_found", 404, message="There is nothing here that you may see.")


def expect_own(*, by: User, tenant: str) -> None:
    """Go on only for people who may change things of this tenant: readers are refused, to others it is missing."""
    if tenant not in by.tenant_slugs:
        raise missing()
    must(by, "act", tenant=tenant)


def tenants_of(*, user: User) -> QuerySet[Tenant]:
    """The tenants for which the person acts."""
    return Tenant.objects.filter(slug__in=user.tenant_slugs)


def active_of(*, user: User) -> Tenant:
    """The organisation for which the person acts now."""
    found = tenants_of(user=user).first()
    if found is None:
        raise missing()
    return found


def organisations_all(*, user: User) -> QuerySet[Tenant]:
    """Every organisation, for those who register them."""
    found = Tenant.objects.filter(deleted_at__isnull=True)
    return found if user.is_operator else found.none()


def vms_of(*, user: User) -> VmQuerySet:
    """The VMs of the person's tenants, with tenant and host at hand."""
    return VirtualMachine.objects.visible_to(user).select_related("tenant", "placement__host")


def vms_with_version(*, user: User) -> VmQuerySet:
    """The same with `newest_version`, the number of the newest wishes."""
    return vms_of(user=user).annotate(newest_version=Max("policies__version"))


ORDERS: Final = ("name", "-name", "state", "-created_at", "placement__host__name")


def vms_found(*, user: User, text: str = "", state: str = "", order: str = "") -> VmQuerySet:
    """The person's VMs whose name, host or program has this text, in this state; in one of ORDERS, else by name."""
    found = vms_of(user=user)
    if text:
        found = found.filter(
            Q(name__icontains=text) | Q(placement__host__name__icontains=text) | Q(trace__icontains=text)
        )
    if state in VirtualMachine.State.values:
        found = found.filter(state=state)
    return found.order_by(*((order,) if order in ORDERS else ()), "name")


def vm_get(*, user: User, name: str) -> VirtualMachine:
    """The person's VM of this name; a foreign one is as missing as one that does not exist."""
    vm = vms_of(user=user).filter(name=name).first()
    if vm is None:
        raise missing()
    return vm


def policies_of(*, user: User, vm: VirtualMachine) -> PolicyQuerySet:
    """Every version of the wishes for the VM, newest first."""
    return Policy.objects.visible_to(user).filter(vm=vm).select_related("created_by")


def policy_newest(*, user: User, vm: VirtualMachine) -> Policy | None:
    return policies_of(user=user, vm=vm).first()


def policy_get(*, user: User, vm: VirtualMachine, version: int) -> Policy:
    """One version; missing ones and foreign ones are answered alike."""
    policy = policies_of(user=user, vm=vm).filter(version=version).first()
    if policy is None:
        raise missing()
    return policy


def programs() -> list[str]:
    """The recorded programs that a VM can run, by name."""
    return sorted(path.name.removesuffix(TRACE_SUFFIX) for path in settings.TRACES.glob(f"*{TRACE_SUFFIX}"))


def workloads_of(*, user: User) -> WorkloadQuerySet:
    """The programs that the person's tenants uploaded, newest first, without what is in them."""
    return Workload.objects.visible_to(user).select_related("tenant", "created_by").defer("content")


def programs_of(*, user: User, tenant: str = "") -> list[tuple[str, str]]:
    """Name and label of every program that VMs of the person (or of one of its tenants) can run: own uploads first."""
    own = workloads_of(user=user)
    own = own.filter(tenant__slug=tenant) if tenant else own
    return [*((row.name, f"{row.title} ({row.name})") for row in own), *((name, name) for name in programs())]


def workload_content(name: str) -> bytes | None:
    """The bytes of an uploaded program by our name, for the engine; None where there is none."""
    number = name.removeprefix(UPLOAD)
    if not (name.startswith(UPLOAD) and number.isascii() and number.isdecimal() and len(number) <= 18):
        return None
    content = Workload.objects.filter(pk=int(number)).values_list("content", flat=True).first()
    return bytes(content) if content is not None else None
