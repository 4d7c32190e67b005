"""Writes of what tenants declare: who acts for them, their VMs, and the versions of their wishes."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from webapp.accounts import services as accounts
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.strictjson import canonical
from webapp.tenants import quotas
from webapp.tenants.changes import changes
from webapp.tenants.models import Membership, Policy, Tenant, VirtualMachine
from webapp.vpms import documents

if TYPE_CHECKING:
    from webapp.accounts.models import User

VERSIONS_PER_HOUR = 10
RESERVED = {"operator", "new"}  # the platform's own party, and the page on which VMs are declared
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def id_check(value: str, *, path: str) -> None:
    """A name of the policy language: lower-case letters, digits, `.`, `_`, `-`; else BadInput at this path."""
    if not ID.match(value):
        raise BadInput([Fault(path, "must be 1 to 63 of a-z, 0-9, '.', '_', '-', and start with a letter or digit")])


@transaction.atomic
def tenant_create(*, by: User | None, slug: str, name: str) -> Tenant:
    """A tenant nobody acts for yet."""
    id_check(slug, path="$.slug")
    if Tenant.objects.filter(slug=slug).exists():
        raise BadInput([Fault("$.slug", "this name is taken")])
    tenant = Tenant.objects.create(slug=slug, name=name)
    audit.record(by=by, type="tenant.created", subject=f"tenant:{slug}", data={}, audience=[slug])
    return tenant


@transaction.atomic
def membership_add(*, by: User | None, user: User, role: str, tenant: Tenant | None = None) -> Membership:
    """The person has this role from now on; given twice it stays one. Open pages notice by the rights version."""
    row, fresh = Membership.objects.get_or_create(user=user, role=role, tenant=tenant)
    if fresh:
        accounts.rights_moved(user=user)
        audit.record(
            by=by,
            type="role.given",
            subject=f"user:{user.alias}",
            data={"person": user.alias, "role": role, "tenant": tenant.slug if tenant else None},
            audience=[tenant.slug] if tenant else [],
        )
    return row


@transaction.atomic
def vm_create(*, by: User | None, tenant: Tenant, name: str, trace: str) -> VirtualMachine:
    """A stopped VM without wishes yet. Names are unique on the platform, because policies and agreements use them."""
    id_check(name, path="$.vm")
    if name in RESERVED:
        raise BadInput([Fault("$.vm", f"{name!r} is a name of the platform itself; choose another")])
    if VirtualMachine.objects.filter(name=name).exists():
        raise BadInput([Fault("$.vm", "this name is taken on this platform; choose another")])
    quotas.expect("vms", tenant_id=tenant.pk)
    vm = VirtualMachine.objects.create(tenant=tenant, name=name, trace=trace)
    audit.record(by=by, type="vm.created", subject=f"vm:{name}", data={"trace": trace}, audience=[tenant.slug])
    return vm


def policy_read(*, vm: VirtualMachine, last: Policy | None, document: bytes | dict[str, Any]) -> documents.Policy:
    """The document read strictly, as what follows the version `last` of this VM's wishes; else BadInput."""
    parsed = documents.read_policy(document)
    faults = []
    if parsed.vm != vm.name:
        faults.append(Fault("$.vm", f"must be {vm.name}, the VM whose wishes these are"))
    if parsed.tenant != vm.tenant.slug:
        faults.append(Fault("$.tenant", f"must be {vm.tenant.slug}"))
    if last is not None and parsed.version <= last.version:
        faults.append(Fault("$.version", f"must be above {last.version}, the version that is stored"))
    if faults:
        raise BadInput(faults)
    return parsed


def expect_seen(*, vm: VirtualMachine, last: Policy | None, seen: int, document: bytes | dict[str, Any]) -> None:
    """Refused with 412 unless the version `seen` (0: none) is still the newest. `changed`: what others changed since;
    `changes`: what this document would change now."""
    at = last.version if last else 0
    if seen == at:
        return
    mine = documents.read_policy(document).document
    stored = document_of(last) if last else None
    old = vm.policies.filter(version=seen).first()
    changed = changes(document_of(old), stored) if old and stored else []
    would = changes(stored, mine) if stored else []
    data = {
        "version": at,
        "changed": [row._asdict() for row in changed],
        "changes": [row._asdict() for row in would],
    }
    message = f"The newest wishes for {vm.name} are version {at}, not the one that you had read. Nothing was saved."
    raise VpmsError("stale", 412, data, message)


def memory_kept(*, vm: VirtualMachine, mib: int) -> None:
    """A VM that runs, or waits to, may come to have so much memory: refused if its organisation may not have it."""
    if vm.state != VirtualMachine.State.STOPPED and mib > vm.memory_mib:
        quotas.expect("memory", tenant_id=vm.tenant_id, more=mib - vm.memory_mib)
        VirtualMachine.objects.filter(pk=vm.pk).update(memory_mib=mib)


@transaction.atomic
def policy_save(*, by: User, vm: VirtualMachine, document: bytes | dict[str, Any], seen: int | None = None) -> Policy:
    """The next version of the wishes for `vm`: read strictly, kept exactly as given. Refused whole with its faults, or
    stored whole. The version must rise, and an hour holds at most ten: that makes feeling out others expensive.
    `seen` is the version that the person had before its eyes: nothing that was saved after it is overwritten unseen."""
    text = document if isinstance(document, bytes) else canonical(document)
    quotas.lock(vm.tenant_id)
    vm = VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=vm.pk)
    last = vm.policies.order_by("-version").first()
    if seen is not None:
        expect_seen(vm=vm, last=last, seen=seen, document=document)
    parsed = policy_read(vm=vm, last=last, document=document)
    hour_ago = timezone.now() - dt.timedelta(hours=1)
    if vm.policies.filter(created_at__gt=hour_ago).count() >= VERSIONS_PER_HOUR:
        raise VpmsError(
            "too_many_versions",
            429,
            message=f"{vm.name} has had {VERSIONS_PER_HOUR} versions within an hour; the next one can be saved later.",
        )
    memory_kept(vm=vm, mib=parsed.size["memory_mib"])
    policy = Policy.objects.create(
        vm=vm, version=parsed.version, document=text.decode(), sha256=parsed.sha256, created_by=by
    )
    audit.record(
        by=by,
        type="policy.version",
        subject=f"vm:{vm.name}",
        data={"version": policy.version, "sha256": policy.sha256, "before": last.sha256 if last else None},
        audience=[vm.tenant.slug],
    )
    return policy


def document_of(policy: Policy) -> dict[str, Any]:
    """The stored document, decoded. It was read strictly when it was stored."""
    document: dict[str, Any] = json.loads(policy.document)
    return document
