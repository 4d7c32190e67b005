"""Agree: a start is checked, a negotiation decides, an agreement is signed and put in force. Every write is audited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from webapp.agreements import wording
from webapp.agreements.models import Conflict, Negotiation
from webapp.audit import services as audit
from webapp.errors import VpmsError
from webapp.fleet.models import Host
from webapp.live import publish
from webapp.tenants.models import VirtualMachine
from webapp.tenants.services import document_of

if TYPE_CHECKING:
    from collections.abc import Iterable


State = Negotiation.State


@transaction.atomic
def conflict_record(
    *,
    host: Host,
    vms: Iterable[VirtualMachine],
    code: str,
    severity: str,
    switch: str,
    text: str,
    evidence: dict[str, Any],
    trigger: str = "run",
    negotiation: Negotiation | None = None,
    name: str = "",
) -> Conflict:
    """A conflict that was recognised, with the entry of the log that says so. `text` names no other tenant.

    Found while running it is dynamic and carries the engine's evidence; found in documents it is static.
    """
    concerned = list(vms)
    conflict = Conflict.objects.create(
        host=host,
        negotiation=negotiation,
        code=code,
        name=name or wording.CONFLICT_NAMES.get(code, ""),
        kind="dynamic" if trigger == "run" else "static",
        trigger=trigger,
        severity=severity,
        switch=switch,
        text=text,
        evidence=evidence,
    )
    conflict.vms.set(concerned)
    slugs = sorted({vm.tenant.slug for vm in concerned})
    audit.record(
        by=None,
        type="conflict",
        subject=f"host:{host.name}",
        data={
            "code": code,
            "name": conflict.name,
            "severity": severity,
            "switch": switch,
            "text": text,
            "evidence": evidence,
        },
        audience=slugs,
    )
    for slug in slugs:
        publish.changed(f"tenant/{slug}")
    publish.changed("fleet")
    return conflict


def size_of(*, vm: VirtualMachine) -> dict[str, Any]:
    """The size in the newest wishes for the VM: vcpus and memory_mib."""
    newest = vm.policies.first()
    if newest is None:
        raise VpmsError("no_wishes", 409, message=f"{vm.name} has no wishes yet.")
    size: dict[str, Any] = document_of(newest)["size"]
    return size
