"""An organisation leaves, and takes what it wished along: also out of the negotiations that are over.

What stays is what others hold or what proves something: signed papers, each with the settings in force and the digests
of the wishes; the record, whose entries tell digests and no wishes, so that no seal breaks; and of each negotiation its
parties by number, how it ended, and when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from webapp.agreements.models import Conflict, Message, Negotiation, Waiver
from webapp.tenants import people

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User
    from webapp.tenants.models import Tenant


def negotiations_with(tenant: Tenant) -> QuerySet[Negotiation]:
    """Those in which a VM of the organisation is or was a party."""
    vms = tenant.vms.values("pk")
    return Negotiation.objects.filter(Q(requester__in=vms) | Q(seats__vm__in=vms)).distinct()


def refusals(*, tenant: Tenant) -> list[str]:
    """Why the organisation cannot be deleted now, in words."""
    told = people.organisation_refusals(tenant=tenant)
    numbers = negotiations_with(tenant).filter(state__in=Negotiation.OPEN).values_list("pk", flat=True)
    words = _("Negotiation %(number)s is not over yet. Withdraw from it or wait for its end.")
    return [*told, *(words % {"number": number} for number in sorted(numbers))]


@transaction.atomic
def organisation_delete(*, by: User, tenant: Tenant) -> None:
    """See people.organisation_delete; and nothing of its wishes is left in the negotiations, which others may still
    open: they find how it ended and their own signed paper."""
    people.organisation_delete(by=by, tenant=tenant, more=refusals(tenant=tenant))
    vms = tenant.vms.values("pk")
    over = list(negotiations_with(tenant).values_list("pk", flat=True))
    Negotiation.objects.filter(pk__in=over).update(protocol={})
    Message.objects.filter(negotiation__in=over).update(reason="", suggestion={})
    Conflict.objects.filter(Q(vms__in=vms) | Q(negotiation__in=over)).update(evidence={})
    alone = Conflict.objects.filter(vms__in=vms).exclude(vms__in=tenant.vms.model.objects.exclude(tenant=tenant))
    alone.update(text="", switch="")
    Waiver.objects.filter(vm__in=vms).delete()
