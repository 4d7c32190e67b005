"""Writes about hosts: registering them, and placing VMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host, Placement
from webapp.strictjson import canonical
from webapp.tenants.models import VirtualMachine
from webapp.vpms import documents

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOVABLE = (VirtualMachine.State.STOPPED,)


@transaction.atomic
def host_create(*, by: User | None, document: bytes | dict[str, Any]) -> Host:
    """Register a host by its vpms-host/1 document, read strictly. Who runs there is known here, so it names nobody."""
    parsed = documents.read_host(document)
    text = document if isinstance(document, bytes) else canonical(document)
    faults = []
    if parsed.running:
        faults.append(Fault("$.running", "must be empty: running VMs follow from placements"))
    if parsed.agreement is not None:
        faults.append(Fault("$.agreement", "must be null: agreements are made by negotiation here"))
    if Host.objects.filter(name=parsed.host).exists():
        faults.append(Fault("$.host", "this name is taken"))
    if faults:
        raise BadInput(faults)
    host = Host.objects.create(name=parsed.host, document=text.decode(), sha256=parsed.sha256)
    audit.record(by=by, type="host.created", subject=f"host:{host.name}", data={"sha256": host.sha256})
    return host


@transaction.atomic
def placement_set(*, by: User | None, vm: VirtualMachine, host: Host, alone: bool = False) -> Placement:
    """The VM will start on this host. Only a stopped VM is placed: nothing that runs is ever moved by this."""
    vm = VirtualMachine.objects.select_for_update().select_related("tenant").get(pk=vm.pk)
    if vm.state not in MOVABLE:
        raise VpmsError("not_stopped", 409, message=f"{vm.name} is {vm.state}; only a stopped VM can be placed.")
    return place(by=by, vm=vm, host=host, alone=alone)


def place(*, by: User | None, vm: VirtualMachine, host: Host, alone: bool = False) -> Placement:
    """The row and its record, inside the caller's transaction; the caller knows that nothing runs at the old place."""
    placement, _ = Placement.objects.update_or_create(vm=vm, defaults={"host": host, "alone": alone})
    audit.record(by=by, type="vm.placed", subject=f"vm:{vm.name}", data={"host": host.name}, audience=[vm.tenant.slug])
    return placement
