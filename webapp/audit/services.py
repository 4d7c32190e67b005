"""Append to the log, and prove that nobody changed it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from django.db import transaction
from django.db.models import Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from webapp import strictjson
from webapp.audit.models import Audience, Entry, Head
from webapp.strictjson import canonical
from webapp.strictjson import digest as digest_of
from webapp.vpms.auditlog import FIELDS, GENESIS, entries_plain

if TYPE_CHECKING:
    from webapp.accounts.models import User

SYSTEM = "vpms"  # the actor of what the service does by itself
TOGETHER = 1000  # entries written or read at once


class Verdict(TypedDict):
    valid: bool
    reason: str  # ok, chain_broken or truncated
    entries: int
    first_bad: int | None
    why: str  # what is wrong at that place, in words; empty when all is well
    head: str


class Draft(NamedTuple):
    """What an entry will say, and who may read it; its place in the chain is given when it is written."""

    at: dt.datetime
    actor: str
    type: str
    subject: str
    data: dict[str, Any]
    audience: tuple[str, ...] = ()


def record(*, by: User | None, type: str, subject: str, data: dict[str, Any], audience: Iterable[str] = ()) -> Entry:
    """Append one entry to the chain, inside the caller's transaction, so that row and record stand or fall together.

    `audience` names the tenants whose people may read it; operators read all. `data` holds no secret. People stand in
    it by their alias, never by name: an entry is sealed for good, a name must be able to go.
    """
    head = _head()
    actor = by.alias if by is not None else SYSTEM
    entry = _chained(head, Draft(timezone.now(), actor, type, subject, data))
    entry.save(force_insert=True)
    Audience.objects.bulk_create([Audience(entry=entry, tenant=slug) for slug in sorted(set(audience))])
    head.save(update_fields=["length", "hash"])
    return entry


def record_all(drafts: Iterable[Draft]) -> int:
    """Append many entries in this order, as `record` does one by one. For data that is loaded, not for what people do:
    the drafts say themselves when each happened and who did it. How many there were is returned."""
    head, count, rest = _head(), 0, iter(drafts)
    while several := list(itertools.islice(rest, TOGETHER)):
        entries = [_chained(head, draft) for draft in several]
        Entry.objects.bulk_create(entries)
        Audience.objects.bulk_create(
            [
                Audience(entry=entry, tenant=slug)
                for entry, draft in zip(entries, several, strict=True)
                for slug in sorted(set(draft.audience))
            ]
        )
        count += len(entries)
    head.save(update_fields=["length", "hash"])
    return count


def _head() -> Head:
    """The end of the chain, locked until the caller's transaction is over."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("audit.record belongs into the transaction of what it records")
    Head.objects.get_or_create(pk=1)
    return Head.objects.select_for_update().get(pk=1)


def _chained(head: Head, draft: Draft) -> Entry:
    """The entry that follows the head, not yet stored; the head then names it."""
    at = draft.at.replace(microsecond=0)
    body: dict[str, Any] = {
        "seq": head.length,
        "at": at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": draft.type,
        "actor": draft.actor,
        "subject": draft.subject,
        "data": draft.data,
        "prev": head.hash,
    }
    strictjson.check(body, max_depth=16, max_array=None, max_string=strictjson.MIB)  # else no reader could verify it
    digest = digest_of(body)
    entry = Entry(
        seq=head.length,
        at=at,
        type=draft.type,
        actor=draft.actor,
        subject=draft.subject,
        line=canonical({**body, "hash": digest}).decode(),
        hash=digest,
    )
    head.length += 1
    head.hash = digest
    return entry


def fault_of(entry: Entry, *, seq: int, prev: str) -> str:
    """What is wrong with this row as the entry `seq` that follows `prev`; empty: it is canonical, hashed right, and its
    columns are as in its line. Nothing of what the entry says is told."""
    try:
        body = json.loads(entry.line)
        digest = body.pop("hash")
        same = canonical({**body, "hash": digest}).decode() == entry.line
    except (ValueError, KeyError, AttributeError, TypeError):
        return "its line is no entry of a log"
    if not same or {*body, "hash"} != FIELDS:
        return "its line is not in the form in which entries are written"
    if entry.seq != seq:
        return f"entry {seq} is missing; the next one that is there has the number {entry.seq}"
    if body["seq"] != seq:
        return f"what stands there was written as entry {body['seq']}"
    if digest != digest_of(body):
        return "what it says does not have the digest that it carries"
    if body["prev"] != prev:
        return "it does not carry the digest of the entry before it"
    columns = {"type": entry.type, "actor": entry.actor, "subject": entry.subject, "hash": entry.hash}
    columns["at"] = entry.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    differ = [name for name, value in columns.items() if value != {**body, "hash": digest}[name]]
    return f"its column {differ[0]} is not what its line says" if differ else ""


Row = tuple[int, dt.datetime, str, str, str, str, str]  # the columns of an entry in the order of COLUMNS
COLUMNS = ("seq", "at", "type", "actor", "subject", "line", "hash")


def all_right(rows: Sequence[Row], *, first: int, prev: str) -> bool:
    """Whether these rows are plainly the entries that follow `prev`. False: look at them one by one, to find out; what
    this says is right `fault_of` would say too, in several times the time."""
    found = entries_plain([row[5].encode() for row in rows], first, prev)
    return found is not None and all(
        (seq, kind, actor, subject, digest) == (body["seq"], body["type"], body["actor"], body["subject"], body["hash"])
        and f"{at:%Y-%m-%dT%H:%M:%SZ}" == body["at"]
        for (seq, at, kind, actor, subject, _, digest), body in zip(rows, found, strict=True)
    )


def verify() -> Verdict:
    """Read the whole chain once. `first_bad` is the number of the first entry that is changed, missing or misplaced.

    No lock is held: what lies before the head that was read first never changes, and entries are compared with the
    head in one statement.
    """
    head = Head.objects.filter(pk=1).first() or Head()
    count, prev = 0, GENESIS
    # Rows, not entries: of 100,000 most of the time would go into making objects.
    stored = Entry.objects.filter(seq__lt=head.length).order_by("seq").values_list(*COLUMNS)
    rows = stored.iterator(chunk_size=TOGETHER)
    while several := list(itertools.islice(rows, TOGETHER)):
        if all_right(several, first=count, prev=prev):
            count, prev = count + len(several), several[-1][-1]
            continue
        for row in several:
            if why := fault_of(Entry(**dict(zip(COLUMNS, row, strict=True))), seq=count, prev=prev):
                return broken("chain_broken", count, prev, why)
            count, prev = count + 1, row[-1]
    if (count, prev) != (head.length, head.hash):
        return broken("truncated", count, prev, f"the log ends there, and {head.length} entries were written")
    past = (
        Entry.objects.filter(seq__gte=Coalesce(Subquery(Head.objects.values("length")[:1]), 0)).order_by("seq").first()
    )
    if past is not None:
        return broken("chain_broken", past.seq, prev, "it stands behind the end of the log")
    return {"valid": True, "reason": "ok", "entries": count, "first_bad": None, "why": "", "head": prev}


def broken(reason: str, first_bad: int, head: str, why: str) -> Verdict:
    count = Entry.objects.count()
    return {"valid": False, "reason": reason, "entries": count, "first_bad": first_bad, "why": why, "head": head}
