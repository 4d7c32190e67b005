"""Append to the log, and prove that nobody changed it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

from django.db import transaction
from django.db.models import Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from webapp import strictjson
from webapp.audit.models import Audience, Entry, Head
from webapp.strictjson import canonical
from webapp.strictjson import digest as digest_of
from webapp.vpms.auditlog import FIELDS, GENESIS

if TYPE_CHECKING:
    from webapp.accounts.models import User

SYSTEM = "vpms"  # the actor of what the service does by itself


class Verdict(TypedDict):
    valid: bool
    reason: str  # ok, chain_broken or truncated
    entries: int
    first_bad: int | None
    head: str


def record(*, by: User | None, type: str, subject: str, data: dict[str, Any], audience: Iterable[str] = ()) -> Entry:
    """Append one entry to the chain, inside the caller's transaction, so that row and record stand or fall together.

    `audience` names the tenants whose people may read it; operators read all. `data` holds no secret.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("audit.record belongs into the transaction of what it records")
    Head.objects.get_or_create(pk=1)
    head = Head.objects.select_for_update().get(pk=1)
    at = timezone.now().replace(microsecond=0)
    body: dict[str, Any] = {
        "seq": head.length,
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": type,
        "actor": by.get_username() if by is not None else SYSTEM,
        "subject": subject,
        "data": data,
        "prev": head.hash,
    }
    strictjson.check(body, max_depth=16, max_array=None, max_string=strictjson.MIB)  # else no reader could verify it
    digest = digest_of(body)
    entry = Entry.objects.create(
        seq=head.length,
        at=at,
        type=type,
        actor=body["actor"],
        subject=subject,
        line=canonical({**body, "hash": digest}).decode(),
        hash=digest,
    )
    Audience.objects.bulk_create([Audience(entry=entry, tenant=slug) for slug in sorted(set(audience))])
    head.length += 1
    head.hash = digest
    head.save(update_fields=["length", "hash"])
    return entry


def intact(entry: Entry, *, seq: int, prev: str) -> bool:
    """Whether this row is the entry `seq` that follows `prev`: canonical, hashed right, its columns as in its line."""
    try:
        body = json.loads(entry.line)
        digest = body.pop("hash")
        same = canonical({**body, "hash": digest}).decode() == entry.line
    except (ValueError, KeyError, AttributeError, TypeError):
        return False
    return (
        same
        and {*body, "hash"} == FIELDS
        and (body["seq"], body["prev"]) == (seq, prev)
        and digest == entry.hash == digest_of(body)
        and (entry.seq, entry.type, entry.actor, entry.subject) == (seq, body["type"], body["actor"], body["subject"])
        and entry.at.strftime("%Y-%m-%dT%H:%M:%SZ") == body["at"]
    )


def verify() -> Verdict:
    """Read the whole chain once. `first_bad` is the number of the first entry that is changed, missing or misplaced.

    No lock is held: what lies before the head that was read first never changes, and entries are compared with the
    head in one statement.
    """
    head = Head.objects.filter(pk=1).first() or Head()
    count, prev = 0, GENESIS
    for entry in Entry.objects.filter(seq__lt=head.length).order_by("seq").iterator(chunk_size=1000):
        if not intact(entry, seq=count, prev=prev):
            return broken("chain_broken", count, prev)
        prev = entry.hash
        count += 1
    if (count, prev) != (head.length, head.hash):
        return broken("truncated", count, prev)
    past = (
        Entry.objects.filter(seq__gte=Coalesce(Subquery(Head.objects.values("length")[:1]), 0)).order_by("seq").first()
    )
    if past is not None:
        return broken("chain_broken", past.seq, prev)
    return {"valid": True, "reason": "ok", "entries": count, "first_bad": None, "head": prev}


def broken(reason: str, first_bad: int, head: str) -> Verdict:
    return {"valid": False, "reason": reason, "entries": Entry.objects.count(), "first_bad": first_bad, "head": head}
