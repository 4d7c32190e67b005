"""Other settlements as one party can weigh them: from its own wishes and from what it was told of the others, only.

What others keep in another settlement than the proposal is never shown to anybody, nor whether they could live with it.
So an option is measured by the share of the reader's own wishes, and by which disclosed wishes of others it meets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, Final, NamedTuple

from webapp.agreements.replies import fact_faults
from webapp.vpms.situation import Situation

SHOWN: Final = 5
MOST_TRIED: Final = 512  # settlements tried for a page; beyond that only those that change one setting
Values = Mapping[str, str]  # of contested settings, by switch
Wants = Mapping[str, Mapping[str, Sequence[str]]]  # by pseudonym and switch: the values that would please


class Option(NamedTuple):
    values: Values
    kept: int  # of a million points of the reader's wishes
    met: tuple[int, ...]  # how many of the disclosed wishes of each other party it meets, in the order of pseudonyms

    def beats(self, other: Option) -> bool:
        """At least as good for everybody, as far as the reader can tell, and better for somebody."""
        mine, theirs = (self.kept, *self.met), (other.kept, *other.met)
        return mine != theirs and all(one >= two for one, two in zip(mine, theirs, strict=True))


def option(values: Values, view: Values, wants: Wants, situation: Situation, vm: str) -> Option:
    met = tuple(sum(values[switch] in liked for switch, liked in rows.items()) for _who, rows in sorted(wants.items()))
    return Option(values, situation.utility(vm, {**view, **values}), met)


def alternatives(
    view: Values, choices: Mapping[str, Sequence[str]], wants: Wants, situation: Situation, vm: str
) -> list[Option]:
    """At most five settlements of which none is better than another, or than the proposal, in everything that the
    reader can judge; those that keep most of its wishes first."""
    proposed = option({switch: view[switch] for switch in choices}, view, wants, situation, vm)
    found = [
        option(values, view, wants, situation, vm)
        for values in _tried(proposed.values, choices)
        if values != proposed.values and not fact_faults(situation, {**view, **values}, vm)
    ]
    least = situation.reservation(vm)
    found = [row for row in found if row.kept >= least]
    best: list[Option] = []
    for row in sorted(found, key=lambda row: (-row.kept, -sum(row.met), sorted(row.values.items()))):
        equal = any((row.kept, row.met) == (one.kept, one.met) for one in (proposed, *best))
        if not equal and not any(one.beats(row) for one in (proposed, *best)):
            best.append(row)
    return _spread(best)


def _tried(proposed: Values, choices: Mapping[str, Sequence[str]]) -> Iterator[Values]:
    if prod(len(values) for values in choices.values()) <= MOST_TRIED:
        for values in product(*choices.values()):
            yield dict(zip(choices, values, strict=True))
        return
    for switch, values in choices.items():
        for value in values:
            yield {**proposed, switch: value}


def _spread(rows: list[Option]) -> list[Option]:
    """From the best for the reader to the best for the others, evenly."""
    if len(rows) <= SHOWN:
        return rows
    return [rows[index * (len(rows) - 1) // (SHOWN - 1)] for index in range(SHOWN)]


def wants_of(contested: Sequence[Mapping[str, Any]], switches: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """What others want of these settings, as it was disclosed to the reader."""
    wants: dict[str, dict[str, list[str]]] = {}
    for row in contested:
        for want in row["others_want"] if row["switch"] in switches else []:
            wants.setdefault(want["who"], {})[row["switch"]] = list(want["values"])
    return wants
