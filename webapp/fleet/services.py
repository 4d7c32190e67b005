"""Writes about hosts: registering them, the versions of their documents, their end, and placing VMs.

Whether a document may be stored under what runs there is decided above, in webapp.agreements.hosting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.changes import changes
from webapp.fleet.models import Host, HostVersion, Placement, columns_of
from webapp.fleet.selectors import document_of
from webapp.live import publish
from webapp.roles import must
from webapp.strictjson import canonical
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import missing
from webapp.tenants.services import RESERVED
from webapp.vpms import documents

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOVABLE = (VirtualMachine.State.STOPPED,)


def expect_operator(by: User) -> None:
    """Hosts are for operators to change; auditors of the site read them; for all others they are missing."""
    if not by.sees_site:
        raise missing()
    must(by, "act", tenant=None)


def host_read(document: bytes | dict[str, Any], *, host: Host | None = None) -> documents.Host:
    """The document read strictly, for a new host or as the next version of this one; else BadInput. Who runs there and
    under which agreement is known here, so it names neither."""
    parsed = documents.read_host(document)
    faults = []
    if parsed.running:
        faults.append(Fault("$.running", "must be empty: running VMs follow from placements"))
    if parsed.agreement is not None:
        faults.append(Fault("$.agreement", "must be null: agreements are made by negotiation here"))
    if host is not None and parsed.host != host.name:
        faults.append(Fault("$.host", f"must be {host.name}: a host keeps its name"))
    if host is None and parsed.host in RESERVED:
        faults.append(Fault("$.host", f"{parsed.host!r} is a name of the platform itself; choose another"))
    elif host is None and Host.objects.filter(name=parsed.host).exists():
        faults.append(Fault("$.host", "this name is taken"))
    if faults:
        raise BadInput(faults)
    return parsed


@transaction.atomic
def host_create(*, by: User | None, document: bytes | dict[str, Any]) -> Host:
    """Register a host by its vpms-host/1 document, for whoever may: people come through host_register."""
    parsed = host_read(document)
    columns = columns_of(parsed.document)
    host = Host.objects.create(name=parsed.host, document=_text(document), sha256=parsed.sha256, **columns)
    _keep_version(host, by=by, kind=HostVersion.Kind.EDIT, reason="")
    audit.record(by=by, type="host.created", subject=f"host:{host.name}", data={"sha256": host.sha256})
    publish.changed("fleet")
    return host


@transaction.atomic
def host_register(*, by: User, document: bytes | dict[str, Any]) -> Host:
    """An operator registers a host; owners can place VMs on it at once."""
    expect_operator(by)
    return host_create(by=by, document=document)


def expect_seen(*, host: Host, seen: int, document: bytes | dict[str, Any]) -> None:
    """Refused with 412 unless version `seen` is still the newest. `changed`: what others changed since; `changes`: what
    this document would change now."""
    if seen == host.version:
        return
    mine, stored = documents.read_host(document).document, document_of(host)
    old = host.versions.filter(version=seen).first()
    data = {
        "version": host.version,
        "changed": [row._asdict() for row in changes(document_of(old), stored)] if old else [],
        "changes": [row._asdict() for row in changes(stored, mine)],
    }
    words = _(
        "The newest document of %(host)s is version %(version)s, not the one that you had read. Nothing was saved."
    )
    raise VpmsError("stale", 412, data, words % {"host": host.name, "version": host.version})


def expect_in_service(host: Host) -> None:
    if host.retired_at is not None:
        words = _("%(host)s was retired: it takes no VM any more, and its document stays as it is.")
        raise VpmsError("host_retired", 409, message=words % {"host": host.name})


@transaction.atomic
def host_save(
    *, by: User, host: Host, document: bytes | dict[str, Any], kind: str = HostVersion.Kind.EDIT, reason: str = ""
) -> Host:
    """The next version of the host's document, kept exactly as given. `host` is locked by the caller, who has found
    that nothing which is in force stands against it, or reports what has happened anyway."""
    parsed = host_read(document, host=host)
    before = host.sha256
    host.document, host.sha256, host.version = _text(document), parsed.sha256, host.version + 1
    for column, value in columns_of(parsed.document).items():
        setattr(host, column, value)
    host.save(update_fields=["document", "sha256", "version", "zone", "architecture"])
    _keep_version(host, by=by, kind=kind, reason=reason)
    data = {"version": host.version, "sha256": host.sha256, "before": before}
    told = {**data, "reason": reason} if kind == HostVersion.Kind.FACT else data
    audit.record(by=by, type=f"host.{kind}", subject=f"host:{host.name}", data=told)
    publish.changed("fleet")
    return host


def _text(document: bytes | dict[str, Any]) -> str:
    return (document if isinstance(document, bytes) else canonical(document)).decode()


def _keep_version(host: Host, *, by: User | None, kind: str, reason: str) -> None:
    HostVersion.objects.create(
        host=host,
        version=host.version,
        kind=kind,
        document=host.document,
        sha256=host.sha256,
        reason=reason,
        created_by=by,
    )


@transaction.atomic
def host_close(*, by: User, host: Host) -> Host:
    """The host takes no VM from now on. Its history stays, and its name is never given again."""
    host.retired_at = timezone.now()
    host.save(update_fields=["retired_at"])
    audit.record(by=by, type="host.retired", subject=f"host:{host.name}", data={})
    publish.changed("fleet")
    return host


@transaction.atomic
def placement_set(*, by: User | None, vm: VirtualMachine, host: Host, alone: bool = False) -> Placement:
    """The VM will start on this host. Only a stopped VM is placed: nothing that runs is ever moved by this."""
    vm = VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=vm.pk)
    if vm.state not in MOVABLE:
        raise VpmsError("not_stopped", 409, message=f"{vm.name} is {vm.state}; only a stopped VM can be placed.")
    return place(by=by, vm=vm, host=host, alone=alone)


def place(*, by: User | None, vm: VirtualMachine, host: Host, alone: bool = False) -> Placement:
    """The row and its record, inside the caller's transaction; the caller knows that nothing runs at the old place.
    The host's row is locked, so that it cannot be retired at the same moment."""
    expect_in_service(Host.objects.select_for_update().get(pk=host.pk))
    placement, _made = Placement.objects.update_or_create(vm=vm, defaults={"host": host, "alone": alone})
    audit.record(by=by, type="vm.placed", subject=f"vm:{vm.name}", data={"host": host.name}, audience=[vm.tenant.slug])
    return placement
