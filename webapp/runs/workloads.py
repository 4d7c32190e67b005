"""Workload traces of tenants: read strictly, kept under our own names, played by every worker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext as _

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.runs import engine
from webapp.tenants import quotas
from webapp.tenants.models import Tenant, VirtualMachine, Workload
from webapp.tenants.selectors import expect_own, missing, workloads_of

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOST_BYTES: Final = 5 << 20  # of a file, as it comes and as it is kept
MOST_TITLE: Final = 80


def _fault(text: str) -> BadInput:
    return BadInput([Fault("$.file", text)])


def workload_add(*, by: User, tenant: Tenant, title: str, data: bytes) -> Workload:
    """The trace stored under our own name, or BadInput that says where it is wrong. The same once more is the same."""
    expect_own(by=by, tenant=tenant.slug)
    if not data:
        raise _fault(_("is empty; choose a file"))
    if len(data) > MOST_BYTES:
        raise _fault(_("is larger than 5 MiB"))
    try:
        content, references = engine.read_workload(data, most=settings.TENANT_REFERENCES)
    except engine.TooLong as error:
        raise _fault(quotas.refused("references", used=error.references).message) from None
    except engine.TraceError as error:
        raise _fault(_("is no whole trace: %(place)s: %(reason)s") % vars(error)) from None
    if len(content) > MOST_BYTES:
        raise _fault(_("is larger than 5 MiB"))
    return _keep(by, tenant, title, content, references)


@transaction.atomic
def _keep(by: User, tenant: Tenant, title: str, content: bytes, references: int) -> Workload:
    row = quotas.lock(tenant.pk)
    digest = hashlib.sha256(content).hexdigest()
    known = row.workloads.filter(sha256=digest).first()
    if known is not None:
        return known
    quotas.expect("storage", tenant_id=row.pk, more=len(content))
    words = " ".join(title.split())[:MOST_TITLE]
    words = "".join(letter for letter in words if letter.isprintable()) or _("a trace")
    found = Workload.objects.create(
        tenant=row, title=words, content=content, size=len(content), sha256=digest, references=references, created_by=by
    )
    audit.record(
        by=by,
        type="workload.uploaded",
        subject=f"tenant:{row.slug}",
        data={"name": found.name, "sha256": digest, "references": references},
        audience=[row.slug],
    )
    return found


@transaction.atomic
def workload_delete(*, by: User, pk: int) -> Workload:
    """Gone, unless a VM ever had it: what was run must be able to be played again."""
    row = workloads_of(user=by).select_for_update(of=("self",)).filter(pk=pk).first()
    if row is None:
        raise missing()
    expect_own(by=by, tenant=row.tenant.slug)
    if VirtualMachine.objects.filter(trace=row.name).exists():
        raise VpmsError("in_use", 409, message=_("A VM has run this trace; its run can be played again only with it."))
    data = {"name": row.name, "sha256": row.sha256}
    audit.record(
        by=by, type="workload.deleted", subject=f"tenant:{row.tenant.slug}", data=data, audience=[row.tenant.slug]
    )
    row.delete()
    return row
