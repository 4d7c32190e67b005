"""What a start is decided on: the newest wishes of everyone concerned, and the host as it is now."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.db.models import Max

from webapp.agreements.selectors import agreement_in_force, predicate_of
from webapp.errors import VpmsError
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_now, running_vms
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.services import document_of


class Inputs(NamedTuple):
    """Documents by VM, and the host document with who runs and what is in force."""

    policies: dict[str, dict[str, Any]]
    host: dict[str, Any]
    vms: list[VirtualMachine]  # by name; the requester among them


def inputs_of(*, host: Host, requester: VirtualMachine) -> Inputs:
    """Everything that the start of `requester` depends on, read once. Wishes saved later count for a later start."""
    running = [vm for vm in running_vms(host=host) if vm.pk != requester.pk]
    vms = sorted([*running, requester], key=lambda vm: vm.name)
    agreement = agreement_in_force(host=host)
    document = document_now(
        host=host,
        running=[vm.name for vm in running],
        agreement=predicate_of(agreement) if agreement else None,
    )
    return Inputs(newest_documents(vms), document, vms)


def newest_documents(vms: list[VirtualMachine]) -> dict[str, dict[str, Any]]:
    """The newest wishes of each VM. A VM without wishes cannot start."""
    last = Policy.objects.filter(vm__in=vms).order_by().values("vm").annotate(last=Max("version"))
    newest = dict(last.values_list("vm", "last"))
    for vm in vms:
        if vm.pk not in newest:
            raise VpmsError("no_wishes", 409, message=f"{vm.name} has no wishes yet; answer the eight questions first.")
    names = {vm.pk: vm.name for vm in vms}
    rows = Policy.objects.filter(vm__in=vms).order_by("vm__name", "version")
    return {names[row.vm_id]: document_of(row) for row in rows if row.version == newest[row.vm_id]}
