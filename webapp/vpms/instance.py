"""The bare problem of issues, parties and integers, and its exact solution in numbers that anyone can recompute."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypedDict

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.solver import solve as search
from webapp.vpms.shapes import Array, Faults, Integer, Object, OneOf

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


class _Row:
    """A list of four: issue, value, other issue, allowed values."""

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, list) or len(value) != 4:
            faults.append(Fault(path, "must be [issue, value, other issue, [allowed values]]"))
            return
        for index in range(3):
            _NUMBER.check(value[index], f"{path}[{index}]", faults)
        Array(_NUMBER, most=8, least=1).check(value[3], f"{path}[3]", faults)

    def schema(self) -> dict[str, Any]:
        allowed = Array(_NUMBER, most=8, least=1).schema()
        return {"type": "array", "prefixItems": [_NUMBER.schema()] * 3 + [allowed], "minItems": 4, "maxItems": 4}


_NUMBER = Integer(0, 10**9)
_TABLE = Array(Array(_NUMBER, most=8), most=64)
INSTANCE = Object(
    {
        "format": OneOf(["vpms-instance/1"]),
        "issues": Array(Integer(1, 8), most=64, least=1),
        "parties": Array(Object({"d": _NUMBER, "u": _TABLE}), most=128, least=1),
    },
    {
        "forbidden": Array(Array(_NUMBER, most=2, least=2), most=1024),
        "facts": Array(_Row(), most=1024),
        "capacity": Array(Object({"cap": _NUMBER, "use": _TABLE}), most=16),
    },
)


def read_instance(source: bytes | str) -> Instance:
    """The bare problem in this text, or BadInput naming every fault (at most 20)."""
    document = strictjson.load(source, max_array=1024)
    faults: Faults = []
    INSTANCE.check(document, "$", faults)
    if not faults:
        _fits(document, faults)
    if faults:
        raise BadInput(faults)
    return Instance(
        issues=document["issues"],
        reservations=[party["d"] for party in document["parties"]],
        utilities=[party["u"] for party in document["parties"]],
        forbidden=[(issue, value) for issue, value in document.get("forbidden", ())],
        facts=[(issue, value, other, allowed) for issue, value, other, allowed in document.get("facts", ())],
        capacities=[(row["cap"], row["use"]) for row in document.get("capacity", ())],
    )


def _fits(document: dict[str, Any], faults: Faults) -> None:
    """Tables have one row for each issue and one number for each value; indices name what exists."""
    sizes = document["issues"]

    def known(issue: int, values: Sequence[int], path: str, at: str) -> None:
        if issue >= len(sizes):
            faults.append(Fault(path, f"there is no issue {issue}"))
        elif any(value >= sizes[issue] for value in values):
            faults.append(Fault(at, f"issue {issue} has {sizes[issue]} values, counted from 0"))

    tables = [(f"$.parties[{n}].u", row["u"]) for n, row in enumerate(document["parties"])]
    for index, (issue, value) in enumerate(document.get("forbidden", ())):
        known(issue, [value], f"$.forbidden[{index}][0]", f"$.forbidden[{index}][1]")
    for index, (issue, value, other, allowed) in enumerate(document.get("facts", ())):
        known(issue, [value], f"$.facts[{index}][0]", f"$.facts[{index}][1]")
        known(other, allowed, f"$.facts[{index}][2]", f"$.facts[{index}][3]")
        if issue == other:
            faults.append(Fault(f"$.facts[{index}][2]", "must be another issue"))
    tables += [(f"$.capacity[{n}].use", row["use"]) for n, row in enumerate(document.get("capacity", ()))]
    for path, table in tables:
        if len(table) != len(sizes):
            faults.append(Fault(path, f"must have {len(sizes)} rows, one for each issue"))
            continue
        for index, (row, size) in enumerate(zip(table, sizes, strict=True)):
            if len(row) != size:
                faults.append(Fault(f"{path}[{index}]", f"must have {size} numbers, one for each value"))


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
