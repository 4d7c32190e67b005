"""What an organisation may have at once, so that none takes the others' share of the platform.

A quota is counted while the organisation's row is locked, in the transaction that adds to what is counted: of any
number of people who submit at once, exactly those get through for whom there is room, and no counter can drift.
"""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _

from webapp.errors import VpmsError
from webapp.tenants.models import Tenant, VirtualMachine


def lock(tenant_id: int) -> Tenant:
    """The organisation's row, for this transaction alone. On SQLite the transaction itself is the only writer."""
    return Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def expect_start(*, tenant_id: int) -> None:
    """Room for one more VM that waits to start, or VpmsError (too_many_starts, 429)."""
    most = settings.TENANT_STARTS
    if not most:
        return
    lock(tenant_id)
    if VirtualMachine.objects.filter(tenant=tenant_id, state=VirtualMachine.State.HELD).count() >= most:
        message = _("%(count)d VMs of your organisation wait to start already; no more may at once.") % {"count": most}
        raise VpmsError("too_many_starts", 429, message=message)


def expect_vm(*, tenant_id: int) -> None:
    """Room for one more VM, or VpmsError (too_many_vms, 409)."""
    most = settings.TENANT_VMS
    if not most:
        return
    lock(tenant_id)
    if VirtualMachine.objects.filter(tenant=tenant_id, deleted_at__isnull=True).count() >= most:
        message = _("Your organisation has %(count)d VMs already; no more are possible.") % {"count": most}
        raise VpmsError("too_many_vms", 409, message=message)
