"""The life of a VM between declaring and running: another host, other wishes by profile, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.agreements import checks, declaring, ladder, services
from webapp.agreements.models import Conflict, Negotiation, Rung
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Placement
from webapp.fleet.selectors import host_get, hosts_open
from webapp.fleet.services import placement_set
from webapp.live import publish
from webapp.tenants import forms
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.selectors import expect_own, policy_newest
from webapp.tenants.services import document_of
from webapp.vpms import documents
from webapp.vpms.answers import document_from_answers

if TYPE_CHECKING:
    from webapp.accounts.models import User

Vm = VirtualMachine.State


# -- another host


@transaction.atomic
def vm_place(*, by: User, vm: VirtualMachine, host: str) -> None:
    """The stopped VM starts on this host next time, as after a move: only where its start check finds nothing that can
    never be settled. Without wishes there is nothing to check yet. To where it is already: nothing happens."""
    expect_own(by=by, tenant=vm.tenant.slug)
    target = host_get(user=by, name=host)
    if vm.state == Vm.STOPPED and hasattr(vm, "placement") and vm.placement.host == target:
        return
    if vm.state != Vm.STOPPED or policy_newest(user=by, vm=vm) is None:
        placement_set(by=by, vm=vm, host=target)  # which refuses what is not stopped
        return
    vm_move(by=by, vm=vm, host=host)


@transaction.atomic
def vm_move(*, by: User, vm: VirtualMachine, host: str) -> Negotiation | None:
    """A stopped VM is placed on the other host after its start check there. A running one only asks: its place there is
    negotiated while it runs on, and without an agreement nothing has changed. None: it was stopped, and is placed."""
    row = (
        VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant", "placement__host").get(pk=vm.pk)
    )
    expect_own(by=by, tenant=row.tenant.slug)
    target = hosts_open(user=by).filter(name=host).first()
    home = row.placement.host if hasattr(row, "placement") else None
    if target is None:
        raise BadInput([Fault("$.host", _("is not a host of this platform"))])
    if home == target:
        raise VpmsError("same_host", 409, message=_("%(vm)s is on %(host)s already.") % {"vm": row.name, "host": host})
    _expect_settled(row)
    if not ladder.may_start(row, target):
        message = _("%(vm)s cannot run on %(host)s as things are: a demand that is never traded stands in the way.")
        raise VpmsError("cannot_run_there", 409, message=message % {"vm": row.name, "host": host})
    if row.state == Vm.RUNNING:
        begun = services.move_request(by=by, vm=row, host=target)
        publish.wake_keeper()
        return begun
    services.expect_room(host=target, vm=row)
    placement_set(by=by, vm=row, host=target)
    publish.changed(f"tenant/{row.tenant.slug}")
    return None


def _expect_settled(vm: VirtualMachine) -> None:
    if Negotiation.objects.filter(requester=vm, moves=True, state__in=Negotiation.OPEN).exists():
        message = _("A move of %(vm)s is being negotiated already; end that first.") % {"vm": vm.name}
        raise VpmsError("moving", 409, message=message)


# -- its end


@transaction.atomic
def vm_delete(*, by: User, vm: VirtualMachine) -> None:
    """The stopped VM is no more: its place is free and its wishes are emptied. What was signed stays with those who
    signed it, so the name is never given again."""
    row = (
        VirtualMachine.objects.select_for_update(of=("self",))
        .select_related("tenant")
        .get(pk=vm.pk, deleted_at__isnull=True)
    )
    expect_own(by=by, tenant=row.tenant.slug)
    if row.state != Vm.STOPPED:
        message = _("%(vm)s is %(state)s; only a stopped VM can be deleted. Stop it first.")
        raise VpmsError("not_stopped", 409, message=message % {"vm": row.name, "state": row.state})
    _expect_settled(row)
    Rung.objects.filter(negotiation__requester=row, state__in=Rung.OPEN).update(
        state=Rung.State.CANCELLED, due_at=None, enqueued_at=None
    )
    Placement.objects.filter(vm=row).delete()
    Conflict.objects.filter(vms=row, closed_at__isnull=True).update(closed_at=timezone.now())
    row.policies.update(document="{}")
    row.deleted_at = timezone.now()
    row.save(update_fields=["deleted_at"])
    audit.record(by=by, type="vm.deleted", subject=f"vm:{row.name}", data={}, audience=[row.tenant.slug])
    publish.changed(f"tenant/{row.tenant.slug}")


# -- other wishes by profile


@transaction.atomic
def profile_set(*, by: User, vm: VirtualMachine, profile: str) -> Policy | None:
    """The profile's answers as the next version of the wishes; what the questions do not cover stays. None: the newest
    wishes say that already, and nothing was saved."""
    expect_own(by=by, tenant=vm.tenant.slug)
    start = forms.profile_named(profile)
    if start is None:
        raise BadInput([Fault("$.profile", _("is not one of the profiles"))])
    last = policy_newest(user=by, vm=vm)
    before = document_of(last) if last else {}
    host = vm.placement.host if hasattr(vm, "placement") else None
    size = before.get("size", {"vcpus": 1, "memory_mib": forms.MEMORY_MIB[0]})
    document = document_from_answers(
        start.answers,
        vm=vm.name,
        tenant=vm.tenant.slug,
        version=(last.version if last else 0) + 1,
        offers=checks.offers_of(host=host, size=size),
        size=size,
        delegate=before.get("delegate", forms.delegate_default()),
    )
    document |= {member: before[member] for member in forms.CARRIED if member in before}
    if same_wishes(before, document):
        return None
    return declaring.wishes_declare(by=by, vm=vm, document=document, seen=last.version if last else 0)


def same_wishes(before: dict[str, Any], document: bytes | dict[str, Any]) -> bool:
    """Whether the document says what is stored, apart from the number of the version."""
    after = documents.read_policy(document).document if isinstance(document, bytes) else document
    return {**before, "version": 0} == {**after, "version": 0}
