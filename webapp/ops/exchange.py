"""Organisations and hosts as one JSON document, to fill a site or to carry them to another. No wishes, no people, no
secrets: what an organisation wishes is its own, and is carried by its own export."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction

from webapp.errors import BadInput, Fault
from webapp.fleet import services as fleet
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.strictjson import load
from webapp.tenants import services as tenants
from webapp.tenants.models import UPLOAD, Tenant, VirtualMachine
from webapp.tenants.selectors import programs

FORMAT: Final = "vpms-fleet/1"
MOST_BYTES: Final = 64 << 20
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "document": {"format": str, "hosts": list, "tenants": list},
    "tenant": {"slug": str, "name": str, "vms": list},
    "vm": {"name": str, "trace": str, "host": (str, type(None))},
}


def export() -> dict[str, Any]:
    """Every host with its document, every organisation that was not deleted, with its VMs and where they are placed.
    VMs with an uploaded program are left out: the program is the organisation's own."""
    rows = VirtualMachine.objects.filter(deleted_at__isnull=True).exclude(trace__startswith=UPLOAD)
    vms: dict[int, list[dict[str, Any]]] = {}
    for vm in rows.select_related("placement__host").order_by("name"):
        host = vm.placement.host.name if hasattr(vm, "placement") else None
        vms.setdefault(vm.tenant_id, []).append({"name": vm.name, "trace": vm.trace, "host": host})
    return {
        "format": FORMAT,
        "hosts": [document_of(host) for host in Host.objects.all()],
        "tenants": [
            {"slug": row.slug, "name": row.name, "vms": vms.get(row.pk, [])}
            for row in Tenant.objects.filter(deleted_at__isnull=True)
        ],
    }


@transaction.atomic
def take_in(text: bytes) -> dict[str, int]:
    """Register all hosts, organisations and VMs of the document through the services, or none of them: refused with at
    most 20 faults, each with its place."""
    document = load(text, max_bytes=MOST_BYTES, max_depth=12, max_array=None)
    faults = _shape(document, "document", "$")
    if not faults and document["format"] != FORMAT:
        faults = [Fault("$.format", f"must be {FORMAT}")]
    if faults:
        raise BadInput(faults)
    traces = programs()
    hosts: dict[str, Host] = {host.name: host for host in Host.objects.all()}
    for number, one in enumerate(document["hosts"]):
        _kept(faults, f"$.hosts[{number}]", lambda one=one: _host(one, hosts))
    count = {"hosts": len(document["hosts"]), "tenants": len(document["tenants"]), "vms": 0}
    for number, one in enumerate(document["tenants"]):
        at = f"$.tenants[{number}]"
        wrong = _shape(one, "tenant", at)
        tenant = None if wrong else _kept(faults, at, lambda one=one: _tenant(one))
        faults += wrong
        for index, vm in enumerate([] if wrong else one["vms"]):
            place = f"{at}.vms[{index}]"
            wrong = _shape(vm, "vm", place)
            faults += wrong
            if not wrong and tenant is not None:
                _kept(faults, place, lambda vm=vm, tenant=tenant: _vm(vm, tenant, hosts, traces))
            count["vms"] += 1
    if faults:
        raise BadInput(faults)
    return count


def _shape(value: Any, kind: str, path: str) -> list[Fault]:
    fields = SHAPES[kind]
    if not isinstance(value, dict):
        return [Fault(path, "must be an object")]
    wrong = [Fault(f"{path}.{name}", "is no field here") for name in value if name not in fields]
    for name, type_ in fields.items():
        if name not in value:
            wrong.append(Fault(f"{path}.{name}", "is missing"))
        elif not isinstance(value[name], type_):
            wrong.append(Fault(f"{path}.{name}", "has the wrong type"))
    return wrong


def _kept(faults: list[Fault], path: str, make: Any) -> Any:
    """What was made, each in a savepoint of its own; or its faults, under the place where it stands."""
    try:
        with transaction.atomic():
            return make()
    except BadInput as refused:
        faults += [Fault(path + fault.path[1:], fault.reason) for fault in refused.faults]
        return None


def _host(document: dict[str, Any], hosts: dict[str, Host]) -> None:
    host = fleet.host_create(by=None, document=document)
    hosts[host.name] = host


def _tenant(one: dict[str, Any]) -> Tenant:
    if not 0 < len(one["name"]) <= 120:
        raise BadInput([Fault("$.name", "must have 1 to 120 characters")])
    return tenants.tenant_create(by=None, slug=one["slug"], name=one["name"])


def _vm(one: dict[str, Any], tenant: Tenant, hosts: dict[str, Host], traces: list[str]) -> None:
    if one["trace"] not in traces:
        raise BadInput([Fault("$.trace", f"must be one of {', '.join(traces)}")])
    if one["host"] is not None and one["host"] not in hosts:
        raise BadInput([Fault("$.host", "is no host of this site or of the document")])
    vm = tenants.vm_create(by=None, tenant=tenant, name=one["name"], trace=one["trace"])
    if one["host"] is not None:
        fleet.placement_set(by=None, vm=vm, host=hosts[one["host"]])
