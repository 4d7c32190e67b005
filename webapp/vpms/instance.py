"""The bare problem of issues, parties and integers, and its exact solution in numbers that anyone can recompute."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypedDict

from webapp.solver import solve as search

EPSILON = Fraction(1, 1000)


@dataclass(frozen=True)
class Limits:
    """How long a search may take. Only the node limit gives the same answer on every machine."""

    seconds: float = 10.0
    nodes: int = 0  # 0: no limit


@dataclass(frozen=True)
class Instance:
    """Issues with their numbers of values; each party's reservation and utility per value; what is impossible."""

    issues: Sequence[int]
    reservations: Sequence[int]
    utilities: Sequence[Sequence[Sequence[int]]]  # party, issue, value
    forbidden: Sequence[tuple[int, int]] = ()
    facts: Sequence[tuple[int, int, int, Sequence[int]]] = ()  # issue, value: other issue has one of these values
    capacities: Sequence[tuple[int, Sequence[Sequence[int]]]] = ()  # capacity and use per issue and value


@dataclass(frozen=True)
class Solution:
    """status agreed, no_agreement or unknown. Lists are by issue or by party."""

    status: str
    assignment: tuple[int, ...] | None = None
    utilities: tuple[int, ...] = ()
    ideals: tuple[int, ...] = ()
    gains: tuple[Fraction, ...] = ()
    multipliers: tuple[int, ...] = ()
    bound: dict[str, Any] | None = None
    counted: tuple[int, ...] = field(default=())  # parties that have something to gain

    @property
    def min_gain(self) -> Fraction | None:
        if self.assignment is None:
            return None
        return min((self.gains[party] for party in self.counted), default=Fraction(1))

    @property
    def nash(self) -> float | None:
        if self.assignment is None:
            return None
        return math.fsum(math.log(self.gains[party] + EPSILON) for party in self.counted)


def solve(instance: Instance, limits: Limits | None = None) -> Solution:
    """The outcome of policy.md section 8, unique; or the best that was found within the limits, with its bound."""
    limits = limits or Limits()
    found = search(**_buffers(instance), time_limit=limits.seconds, node_limit=limits.nodes)
    ideals = tuple(found["ideals"] or ())
    if found["assignment"] is None:
        return Solution(found["status"], ideals=ideals)
    chosen = tuple(found["assignment"])
    utilities = tuple(sum(row[value] for row, value in zip(table, chosen, strict=True)) for table in instance.utilities)
    ranges = [ideal - least for ideal, least in zip(ideals, instance.reservations, strict=True)]
    gains = tuple(
        Fraction(utility - least, spread) if spread else Fraction(1)
        for utility, least, spread in zip(utilities, instance.reservations, ranges, strict=True)
    )
    counted = tuple(party for party, spread in enumerate(ranges) if spread)
    solution = Solution("agreed", chosen, utilities, ideals, gains, tuple(found["multipliers"] or ()), counted=counted)
    bound = _bound(solution, found["stage"], found["min_gain_upper"], found["nash_upper"], found["nodes"])
    return Solution(**{**solution.__dict__, "bound": bound})


def feasible(instance: Instance, limits: Limits | None = None) -> bool | None:
    """Is there any outcome in which every party has its reservation? None if a limit came before the answer."""
    limits = limits or Limits()
    found = search(**_buffers(instance), only_feasible=True, time_limit=limits.seconds, node_limit=limits.nodes)
    return {"agreed": True, "no_agreement": False}.get(found["status"])


def rounded(value: Fraction | float) -> int | float:
    """A decimal of 9 places, as every number is printed; whole numbers without a point."""
    number = round(float(value), 9)
    return int(number) if number == int(number) else number


def rounded_up(value: Fraction | float) -> int | float:
    """The same, never below the value: for upper bounds."""
    return rounded(Fraction(math.ceil(Fraction(value) * 10**9), 10**9))


def _bound(
    solution: Solution, stage: int, gain_upper: float | None, log_upper: float | None, nodes: int
) -> dict[str, Any]:
    least, nash = solution.min_gain, solution.nash
    assert least is not None and nash is not None
    if stage == 1 and gain_upper is not None:
        upper, nash_upper, gap = rounded_up(max(gain_upper, float(least))), None, gain_upper - float(least)
    elif stage == 2 and log_upper is not None:
        upper, nash_upper, gap = rounded(least), rounded_up(max(log_upper, nash)), log_upper - nash
    else:
        upper, nash_upper, gap = rounded(least), rounded(nash), 0.0
    return {
        "proven": stage == 0,
        "stage": stage or None,
        "min_gain_upper": upper,
        "nash_upper": nash_upper,
        "gap": rounded_up(max(gap, 0.0)),
        "nodes": nodes,
    }


def _pack(numbers: Iterable[int]) -> bytes:
    return array("q", numbers).tobytes()


def _flat(table: Sequence[Sequence[int]]) -> list[int]:
    return [number for row in table for number in row]


class _Buffers(TypedDict):
    sizes: bytes
    weights: bytes
    reserve: bytes
    forbidden: bytes
    facts: bytes
    capacity: bytes
    use: bytes


def _buffers(instance: Instance) -> _Buffers:
    facts: list[int] = []
    for issue, value, other, allowed in instance.facts:
        facts += [issue, value, other, len(allowed), *allowed]
    return {
        "sizes": _pack(instance.issues),
        "weights": _pack([number for table in instance.utilities for number in _flat(table)]),
        "reserve": _pack(instance.reservations),
        "forbidden": _pack([number for pair in instance.forbidden for number in pair]),
        "facts": _pack(facts),
        "capacity": _pack([capacity for capacity, _ in instance.capacities]),
        "use": _pack([number for _, table in instance.capacities for number in _flat(table)]),
    }
