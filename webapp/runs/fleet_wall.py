"""The wall as it is read: hosts x checks, worst first, with the age of everything. Old news reads unknown, never OK."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db.models import Case, Exists, IntegerField, Max, OuterRef, Q, Value, When
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy, ngettext

from webapp.fleet.selectors import hosts_open
from webapp.runs import wall
from webapp.runs.models import HostCheck

if TYPE_CHECKING:
    from webapp.accounts.models import User

MISSED: Final = 3  # intervals without a sign after which a cell is unknown
HOSTS_A_TOPIC: Final = 64
LONGEST_IDENT: Final = 60  # a part of a topic's name may have 63 letters
NUMBER: Final = re.compile("[0-9a-z]{1,12}")
DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
MOST_BAD: Final = 12  # hosts that a folded group names; it counts them all
UNKNOWN: Final = "unknown"
S = HostCheck.State

CHECKS: Final[dict[str, Promise]] = {
    "ownership": gettext_lazy("Ownership consistent"),
    "region": gettext_lazy("Protected region intact"),
    "tlb": gettext_lazy("No stale TLB entry"),
    "swap": gettext_lazy("Swap keys fresh"),
    "engine": gettext_lazy("Engine heartbeat"),
    "queue": gettext_lazy("Worker queue"),
}
# How bad a state is; the worst cell stands for its host, so none is ever averaged away.
RANKS: Final = {S.IDLE: 0, S.NONE: 0, S.OK: 1, S.DEGRADED: 2, UNKNOWN: 3, S.VIOLATION: 4}
WORDS: Final[dict[str, tuple[Promise, str]]] = {  # of a state: the word, and its look
    S.OK: (gettext_lazy("OK"), "ok"),
    S.DEGRADED: (gettext_lazy("Degraded"), "warning"),
    S.VIOLATION: (gettext_lazy("Violation"), "violation"),
    UNKNOWN: (gettext_lazy("Unknown"), "unknown"),
    S.NONE: (gettext_lazy("Not on this machine"), "neutral"),
    S.IDLE: (gettext_lazy("Nothing runs"), "neutral"),
}
BY_RANK: Final = {0: S.IDLE, 1: S.OK, 2: S.DEGRADED, 3: UNKNOWN, 4: S.VIOLATION}
GROUPINGS: Final[dict[str, Promise]] = {
    "zone": gettext_lazy("Zone"),
    "architecture": gettext_lazy("Architecture"),
    "state": gettext_lazy("State"),
}


def why(code: str, data: dict[str, Any]) -> str:
    """The reason of a cell's state in words; the plain states need none."""
    figures = {
        "count": data.get("count", 0),
        "seconds": f"{data.get('ms', 0) / 1000:.1f}",
        "rule": data.get("rule", ""),
    }
    return str(WHY[code]) % figures if code in WHY else ""


# Said once more by the page's script in the reader's language: numbers stand at the end, so no form depends on them.
WHY: Final[dict[str, Promise]] = {
    "ownership_broken": gettext_lazy("Pages that another VM maps, or that are free and not wiped: %(count)s"),
    "region_broken": gettext_lazy("Protected pages that a VM maps: %(count)s"),
    "stale_broken": gettext_lazy("Stale TLB entries: %(count)s"),
    "rule_broken": gettext_lazy("A rule of the machine is broken: %(rule)s"),
    "swap_repeated": gettext_lazy("Swapped pages with the version of another: %(count)s"),
    "pending": gettext_lazy("TLB entries that wait to be dropped: %(count)s"),
    "mended": gettext_lazy("A violation of a short while ago is over"),
    "attempts": gettext_lazy("A worker may have died; tries that were needed: %(count)s"),
    "slice_slow": gettext_lazy("The last slice took %(seconds)s s"),
    "slice_waited": gettext_lazy("The last slice waited %(seconds)s s"),
    "swapped": gettext_lazy("Pages swapped out: %(count)s"),
    "swap_clear": gettext_lazy("This machine does not seal what it swaps out"),
    "no_region": gettext_lazy("This machine has no protected region"),
}


# -- cells


def cutoff(now: dt.datetime) -> dt.datetime:
    """What was measured before is unknown now."""
    return now - MISSED * wall.interval()


def state_of(cell: HostCheck, now: dt.datetime) -> str:
    """The state as it reads now: a cell without a sign for three intervals is unknown, whatever it was."""
    if cell.state == S.IDLE:
        return cell.state
    return UNKNOWN if cell.measured_at < cutoff(now) else cell.state


def ms(at: dt.datetime) -> int:
    return int(at.timestamp() * 1000)


def age_words(seconds: float) -> str:
    """`4 s`, `12 min`, `3 h`: as the page's script goes on to say it."""
    whole = max(0, int(seconds))
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


class Said(NamedTuple):
    """The words of the wall in the reader's language, looked up once for hundreds of cells."""

    words: dict[str, str]
    checks: dict[str, str]


def said() -> Said:
    return Said(
        {state: str(word) for state, (word, _look) in WORDS.items()}, {name: str(it) for name, it in CHECKS.items()}
    )


def cell_shown(cell: HostCheck | None, name: str, now: dt.datetime, said: Said) -> dict[str, Any]:
    state: str = S.IDLE if cell is None else state_of(cell, now)
    told = cell is not None and state != S.IDLE
    return {
        "name": name,
        "check": said.checks[name],
        "state": str(state),
        "word": said.words[state],
        "look": WORDS[state][1],
        "was": said.words[cell.state] if cell is not None and state == UNKNOWN else "",
        "measured": str(cell.state) if cell is not None and told else "",
        "why": why(cell.code, cell.data) if cell is not None and told else "",
        "at": ms(cell.measured_at) if cell is not None and told else None,
        "age_words": age_words((now - cell.measured_at).total_seconds()) if cell is not None and told else "",
        "since": cell.since if cell is not None and told else None,
    }


# -- all hosts


class Place(NamedTuple):
    """A host as the whole wall sees it: enough to sort and to group."""

    pk: int
    name: str
    zone: str
    architecture: str
    rank: int


def places(*, user: User, now: dt.datetime, text: str = "") -> list[Place]:
    """Every host with its worst cell, worst first, then by name; two queries."""
    stale = Q(measured_at__lt=cutoff(now)) & ~Q(state=S.IDLE)
    rank = Case(
        When(measured_at__lt=cutoff(now), then=Value(RANKS[UNKNOWN])),
        When(state=S.VIOLATION, then=Value(RANKS[S.VIOLATION])),
        default=Value(RANKS[S.DEGRADED]),
        output_field=IntegerField(),
    )
    bad = HostCheck.objects.filter(stale | Q(state__in=(S.DEGRADED, S.VIOLATION))).order_by()
    worst = dict(bad.values_list("host_id").annotate(worst=Max(rank)))
    runs = HostCheck.objects.filter(host=OuterRef("pk"), name="engine").exclude(state=S.IDLE)
    hosts = hosts_open(user=user).order_by()
    hosts = hosts.filter(name__icontains=text) if text else hosts
    rows = hosts.annotate(live=Exists(runs)).values_list("pk", "name", "zone", "architecture", "live")
    found = [
        Place(pk, name, zone, architecture, worst.get(pk, RANKS[S.OK]) if live else RANKS[S.IDLE])
        for pk, name, zone, architecture, live in rows
    ]
    return sorted(found, key=lambda place: (-place.rank, place.name))


def rows_of(*, shown: Sequence[Place], now: dt.datetime) -> list[dict[str, Any]]:
    """These hosts with all their cells, in the order given."""
    cells: dict[int, dict[str, HostCheck]] = {place.pk: {} for place in shown}
    words = said()
    for cell in HostCheck.objects.filter(host__in=list(cells)):
        cells[cell.host_id][cell.name] = cell
    return [
        {
            "place": place,
            "state": BY_RANK[place.rank],
            "cells": [cell_shown(cells[place.pk].get(name), name, now, words) for name in CHECKS],
        }
        for place in shown
    ]


def in_group(*, found: Sequence[Place], by: str, key: str) -> list[Place]:
    return [place for place in found if _group(place, by) == key]


def _group(place: Place, by: str) -> str:
    return BY_RANK[place.rank] if by == "state" else str(getattr(place, by))


def groups_of(*, found: Sequence[Place], by: str) -> list[dict[str, Any]]:
    """The hosts in groups, the group with the worst first; each counts every state and names its bad hosts."""
    members: dict[str, list[Place]] = {}
    for place in found:
        members.setdefault(_group(place, by), []).append(place)
    return [
        {
            "key": key,
            "title": WORDS[key][0] if by == "state" else key,
            "counts": counts_said(rows),
            "look": WORDS[BY_RANK[rows[0].rank]][1],
            "bad": [
                {"name": place.name, "look": WORDS[BY_RANK[place.rank]][1], "word": WORDS[BY_RANK[place.rank]][0]}
                for place in rows[:MOST_BAD]
                if place.rank > RANKS[S.OK]
            ],
            "more": max(0, sum(place.rank > RANKS[S.OK] for place in rows) - MOST_BAD),
        }
        for key, rows in sorted(members.items(), key=lambda item: (-item[1][0].rank, item[0]))
    ]


def counts_said(rows: Sequence[Place]) -> str:
    """`312 hosts: 309 OK, 2 unknown, 1 violation`."""
    counts = Counter(place.rank for place in rows)
    parts = [f"{counts[rank]:,} {COUNTED[rank]}" for rank in sorted(counts)]
    head = ngettext("%(n)s host", "%(n)s hosts", len(rows)) % {"n": f"{len(rows):,}"}
    return f"{head}: {', '.join(parts)}"


COUNTED: Final = {
    0: gettext_lazy("without a run"),
    1: gettext_lazy("OK"),
    2: gettext_lazy("degraded"),
    3: gettext_lazy("unknown"),
    4: gettext_lazy("with a violation"),
}


# -- what goes to the socket


def topics_of(shown: Sequence[Place]) -> list[str]:
    """The topics of these hosts' cells: a socket is sent those of the page that is looked at, nobody else's. A topic
    names its hosts by their numbers, in ranges: `wall-hosts/1-1c.3p` are the first 48 and the 133rd."""
    found: list[list[str]] = [[]]
    count = 0
    for first, last in ranges(sorted(place.pk for place in shown)):
        part = short(first) if first == last else f"{short(first)}-{short(last)}"
        count += last - first + 1
        if len(".".join([*found[-1], part])) > LONGEST_IDENT or count > HOSTS_A_TOPIC:
            found.append([])
            count = last - first + 1
        found[-1].append(part)
    return [wall.CELLS_TOPIC + ".".join(parts) for parts in found if parts]


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers as ranges without a gap, none longer than a topic may be."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1 and number - found[-1][0] < HOSTS_A_TOPIC:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def short(number: int) -> str:
    """A host's number in few letters."""
    text = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text or "0"


def hosts_named(ident: str) -> list[int]:
    """The numbers of the hosts that a topic names; none if it is not one of ours."""
    found: list[int] = []
    for part in ident.split("."):
        first, _, last = part.partition("-")
        if not NUMBER.fullmatch(first) or not NUMBER.fullmatch(last or first):
            return []
        low, high = int(first, len(DIGITS)), int(last or first, len(DIGITS))
        if not low <= high < low + HOSTS_A_TOPIC:
            return []
        found += range(low, high + 1)
    return found[:HOSTS_A_TOPIC]


def cell_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """The cells of the hosts that the topic names, if any was measured since. Each measurement raises the sum of their
    versions, whichever host's slice is committed first, so none is ever passed over."""
    fields = ("version", "host_id", "name", "state", "measured_at", "code", "data", "since")
    rows = list(HostCheck.objects.filter(host__in=hosts_named(ident)).values_list(*fields))
    seq = sum(row[0] for row in rows)
    if last is not None and seq <= last:
        return []
    cells = [
        [host, name, state, ms(at), why(code, data), ms(since)] for _, host, name, state, at, code, data, since in rows
    ]
    data = {"cells": cells, "now": ms(timezone.now())}
    topic = wall.CELLS_TOPIC + ident
    return [{"topic": topic, "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": data}]


def state_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """That some cell of the wall changed its state: the page is fetched anew for its order and its counts."""
    seq = states_at()
    if last is not None and seq <= last:
        return []
    return [{"topic": wall.STATES_TOPIC, "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": {}}]


def states_at() -> int:
    """When a cell changed its state last, in milliseconds."""
    newest = HostCheck.objects.aggregate(at=Max("since"))["at"]
    return ms(newest) if newest else 0
