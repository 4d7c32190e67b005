"""Reads of the log: what a person may see of it."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypedDict

from django.contrib.auth import get_user_model
from django.db.models import Q

from webapp.audit.models import Entry, EntryQuerySet

if TYPE_CHECKING:
    from webapp.accounts.models import User

PAGE = 50
ALIAS = re.compile(r"\bp-[0-9a-f]{16}\b")


class Page(TypedDict):
    entries: list[dict[str, Any]]
    before: int | None  # pass it on to see older entries; None when there are none


class Wanted(NamedTuple):
    """What a page shows of the log; what is empty does not narrow it."""

    type: str = ""
    subject: str = ""
    who: str = ""  # a person by name, or vpms for what the service did by itself
    text: str = ""  # anywhere in the entry
    first: dt.date | None = None
    last: dt.date | None = None


def entries_wanted(*, user: User, wanted: Wanted) -> EntryQuerySet:
    """Entries that the person may read and looks for."""
    found = entries_of(user=user, type=wanted.type, subject=wanted.subject)
    if wanted.who:
        found = found.filter(actor=_alias_of(wanted.who) or wanted.who)
    if wanted.text:
        alias = _alias_of(wanted.text)
        found = found.filter(Q(line__icontains=wanted.text) | Q(line__contains=alias or wanted.text))
    if wanted.first:
        found = found.filter(at__gte=dt.datetime.combine(wanted.first, dt.time(), dt.UTC))
    if wanted.last:
        found = found.filter(at__lt=dt.datetime.combine(wanted.last, dt.time(), dt.UTC) + dt.timedelta(days=1))
    return found


NOTHING_SAID: Final = Wanted()


def _alias_of(name: str) -> str:
    """The alias under which the log keeps this person; empty: there is nobody of this name."""
    person = get_user_model()._default_manager.filter(username=name, deleted_at__isnull=True).first()
    return person.alias if person else ""


def entries_of(*, user: User, type: str = "", subject: str = "", since: int = 0) -> EntryQuerySet:
    """Entries that the person may read, optionally of one type or about one subject."""
    found = Entry.objects.visible_to(user).filter(seq__gte=since)
    if type:
        found = found.filter(type=type)
    if subject:
        kind, _, name = subject.partition(":")
        if kind == "user":  # asked for by name, kept by alias
            alias = _alias_of(name)
            subject = f"user:{alias}" if alias else subject
        found = found.filter(subject=subject)
    return found


def page_of(*, user: User, wanted: Wanted = NOTHING_SAID, before: int | None = None, most: int = PAGE) -> Page:
    """The newest entries first, at most so many of them."""
    found = entries_wanted(user=user, wanted=wanted)
    if before is not None:
        found = found.filter(seq__lt=before)
    rows = list(found.order_by("-seq")[: most + 1])
    more = len(rows) > most
    rows = rows[:most]
    return {"entries": shown_all(rows), "before": rows[-1].seq if more else None}


def shown_all(entries: list[Entry]) -> list[dict[str, Any]]:
    """Entries for a page or the API, with people by the names that they have now."""
    names = names_in(entries)
    return [shown(entry, names) for entry in entries]


def names_in(entries: Iterable[Entry]) -> dict[str, str]:
    """The names that the people in these entries have now, by alias. A deleted person has none: the alias is shown."""
    aliases = {alias for entry in entries for alias in ALIAS.findall(entry.line)}
    people = get_user_model()._default_manager.filter(alias__in=aliases, deleted_at__isnull=True) if aliases else []
    return {person.alias: person.get_username() for person in people}


def named(value: Any, names: Mapping[str, str]) -> Any:
    """The same with names in the place of aliases."""
    if isinstance(value, str):
        return ALIAS.sub(lambda found: names.get(found[0], found[0]), value)
    if isinstance(value, dict):
        return {key: named(inner, names) for key, inner in value.items()}
    return [named(inner, names) for inner in value] if isinstance(value, list) else value


def shown(entry: Entry, names: Mapping[str, str]) -> dict[str, Any]:
    """An entry for a page or the API: its line, read, with people by name."""
    try:
        body = json.loads(entry.line)
    except ValueError:
        body = {}
    return {
        "seq": entry.seq,
        "at": entry.at,
        "type": entry.type,
        "actor": named(entry.actor, names),
        "subject": named(entry.subject, names),
        "data": named(body.get("data", {}), names) if isinstance(body, dict) else {},
        "prev": body.get("prev", "") if isinstance(body, dict) else "",
        "hash": entry.hash,
    }


def acts_of(*, user: User) -> list[dict[str, Any]]:
    """What the log says that this person did, oldest first: when, what, about what. The rest is the organisations'."""
    rows = Entry.objects.filter(actor=user.alias).order_by("seq")
    return [{"at": row.at.isoformat(), "what": row.type, "about": row.subject} for row in rows]


def types_of(*, user: User) -> list[str]:
    """The types of entries that the person has, for the filter."""
    return sorted(Entry.objects.visible_to(user).order_by().values_list("type", flat=True).distinct())


def lines_of(*, user: User) -> Iterator[str]:
    """The person's entries as JSON lines. For an operator this is the whole chain, which `vpms verify` can check."""
    for line in entries_of(user=user).order_by("seq").values_list("line", flat=True).iterator(chunk_size=1000):
        yield line + "\n"
