"""What can be taken away and checked elsewhere: signed agreements and the public keys of their parties.

The whole envelope names every party, so it goes to operators, and to a tenant where nobody else is a party. Others get
their part: everything that concerns them, under the digest that names the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from webapp.agreements import steps
from webapp.agreements.keys import key_make, key_of
from webapp.agreements.models import Agreement, Negotiation, Seat, SigningKey
from webapp.audit import services as audit
from webapp.errors import VpmsError
from webapp.roles import must
from webapp.strictjson import load
from webapp.tenants.models import Tenant, VirtualMachine
from webapp.tenants.selectors import expect_own, missing, tenants_of
from webapp.vpms import agreement as language
from webapp.vpms.formats import OPERATOR

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

PART: Any = "vpms-agreement-part/1"
NEWEST = 20


def agreements_of(*, user: User) -> QuerySet[Agreement]:
    """Agreements to which the person is a party (operators: to all), newest first."""
    found = Agreement.objects.select_related("host").order_by("-id")
    if user.sees_site:
        return found
    seats = Seat.objects.filter(vm__tenant__slug__in=user.tenant_slugs)
    return found.filter(negotiation__in=seats.values("negotiation"))


def agreement_get(*, user: User, pk: int) -> Agreement:
    found = agreements_of(user=user).filter(pk=pk).first()
    if found is None:
        raise missing()
    return found


def paper_of(*, user: User, agreement: Agreement) -> dict[str, Any]:
    """The envelope where the person may read all of it, otherwise the person's part of it."""
    envelope: dict[str, Any] = load(agreement.envelope, max_depth=16, max_string=1 << 20)
    terms = language.predicate_of(envelope)
    own = own_parties(user, terms)
    if reads_whole(user, terms):
        return envelope
    rows = [row for row in terms["parties"] if row["id"] in own]
    known = {language.key_id(row["key"]) for row in rows}
    hidden = ("parties", "assignment", "format")
    return {
        "format": PART,
        "payload_sha256": agreement.digest,
        **{name: value for name, value in terms.items() if name not in hidden},
        "parties": rows,
        "others": len(terms["parties"]) - len(rows),
        "assignment": {
            "host": terms["assignment"]["host"],
            "vms": {vm: values for vm, values in terms["assignment"]["vms"].items() if vm in own},
        },
        "signatures": [row for row in envelope["signatures"] if row["keyid"] in known],
        "whole": language.verify(agreement.envelope, now=steps.now_text())["reason"],
    }


def own_parties(user: User, terms: dict[str, Any]) -> set[str]:
    """The parties for which the person may act, and the operator."""
    slugs = user.tenant_slugs
    return {row["id"] for row in terms["parties"] if row["tenant"] in slugs or row["id"] == OPERATOR}


def reads_whole(user: User, terms: dict[str, Any]) -> bool:
    """Who reads what operators read reads every envelope, a tenant one in which nobody else is a party."""
    return user.sees_site or len(own_parties(user, terms)) == len(terms["parties"])


def shown(*, user: User) -> list[dict[str, Any]]:
    """The newest agreements as a page lists them, each verified now."""
    return [row_shown(user=user, agreement=agreement) for agreement in agreements_of(user=user)[:NEWEST]]


def row_shown(*, user: User, agreement: Agreement) -> dict[str, Any]:
    """One agreement of a list, verified now."""
    verdict = language.verify(agreement.envelope, now=steps.now_text())
    terms = language.predicate_of(agreement.envelope)
    return {
        "agreement": agreement,
        "own": [row["id"] for row in terms["parties"] if row["tenant"] in user.tenant_slugs],
        "parties": len(terms["parties"]),
        "signed": all(row["ok"] for row in verdict["signatures"]) and verdict["reason"] in ("ok", "expired"),
        "until": terms["notAfter"],
        "whole": reads_whole(user, terms),
    }


# -- keys


def keys_of(*, user: User) -> list[dict[str, Any]]:
    """The public keys of the person's tenants and of the operator, with the retired ones, newest first."""
    theirs = SigningKey.objects.filter(tenant__in=tenants_of(user=user)).select_related("tenant")
    keys = [*theirs.order_by("tenant__slug", "-id"), *SigningKey.objects.filter(tenant=None)]
    return [
        {
            "key": key,
            "whose": key.tenant.name if key.tenant else "the operator",
            "keyid": language.key_id(key.public),
        }
        for key in keys
    ]


def key_file(*, user: User, agreement: Agreement | None = None) -> dict[str, str]:
    """`{party: public key}` for `vpms verify --keys`: the parties that the person may know, with the keys in use now,
    or with those that were in use when the agreement was made. Read from here, not from the envelope itself."""
    vms = VirtualMachine.objects.all()  # deleted ones too: what they signed is still to be verified
    if not user.sees_site:
        vms = vms.filter(tenant__slug__in=user.tenant_slugs)
    keys = _public_keys(agreement)
    found = {name: keys.get(tenant, "") for name, tenant in vms.order_by().values_list("name", "tenant_id")}
    found[OPERATOR] = keys.get(None, "")  # a key is made when it first signs; before that there is none to tell
    return {party: key for party, key in sorted(found.items()) if key}


def _public_keys(agreement: Agreement | None) -> dict[int | None, str]:
    """Each owner's newest key of those in use now, or when the agreement was made."""
    keys = SigningKey.objects.order_by("id")
    if agreement is None:
        keys = keys.filter(retired_at__isnull=True)
    else:
        at = agreement.created_at
        keys = keys.filter(Q(retired_at__isnull=True) | Q(retired_at__gt=at), created_at__lte=at)
    return dict(keys.values_list("tenant_id", "public"))


@transaction.atomic
def key_rotate(*, by: User, tenant: Tenant | None) -> SigningKey:
    """A new key from now on; the old private part is destroyed, its public part stays for what it has signed. Not while
    a negotiation is open that the old key is to sign."""
    if tenant is not None:
        expect_own(by=by, tenant=tenant.slug)
    elif not by.sees_site:
        raise missing()
    else:
        must(by, "act", tenant=None)
    old = SigningKey.objects.select_for_update().get(pk=key_of(tenant).pk)
    awaited = Negotiation.objects.filter(state__in=Negotiation.OPEN)
    if tenant is not None:
        awaited = awaited.filter(Q(seats__vm__tenant=tenant) | Q(requester__tenant=tenant))
    if awaited.exists():
        message = "A negotiation is open that this key is to sign. When it has ended the key can be replaced."
        raise VpmsError("key_in_use", 409, message=message)
    SigningKey.objects.filter(pk=old.pk).update(sealed_seed=b"", retired_at=timezone.now())
    new = key_make(tenant)
    audit.record(
        by=by,
        type="key.replaced",
        subject=f"tenant:{tenant.slug}" if tenant else OPERATOR,
        data={"old": language.key_id(old.public), "new": language.key_id(new.public)},
        audience=[tenant.slug] if tenant else [],
    )
    return new
