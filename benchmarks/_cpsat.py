"""OR-Tools CP-SAT on the solver's problem: an oracle in tests and a peer in the policy bench, never in the product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ortools.sat.python import cp_model

from webapp.vpms.instance import EPSILON, Instance

FINE = 10**6  # parts of a gain that stage 1 tells apart, and parts of a logarithm


class Model:
    """X of policy.md section 8 as a CP-SAT model: one Boolean for each value, one sum for each party."""

    def __init__(self, instance: Instance) -> None:
        self.instance, self.model = instance, cp_model.CpModel()
        model = self.model
        self.has = [[model.new_bool_var("") for _ in range(size)] for size in instance.issues]
        for row in self.has:
            model.add_exactly_one(row)
        for issue, value in instance.forbidden:
            model.add(self.has[issue][value] == 0)
        for issue, value, other, allowed in instance.facts:
            model.add_bool_or([self.has[issue][value].negated(), *(self.has[other][v] for v in allowed)])
        for capacity, use in instance.capacities:
            model.add(self._sum(use) <= capacity)
        self.utilities = [self._sum(table) for table in instance.utilities]

    def _sum(self, table: Sequence[Sequence[int]]) -> Any:
        return sum(
            number * var
            for row, bools in zip(table, self.has, strict=True)
            for number, var in zip(row, bools, strict=True)
        )

    def need(self, party: int, more: int) -> None:
        """From here on this party gets at least its reservation and so much more."""
        self.model.add(self.utilities[party] >= self.instance.reservations[party] + more)

    def solve(self, seconds: float, workers: int) -> tuple[int, cp_model.CpSolver]:
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = 1
        return solver.solve(self.model), solver


def ideals(instance: Instance) -> list[int] | None:
    """The most that each party could get over X; None if X is empty."""
    found = []
    for party in range(len(instance.reservations)):
        model = Model(instance)
        model.model.maximize(model.utilities[party])
        status, solver = model.solve(60, 1)
        if status == cp_model.INFEASIBLE:
            return None
        assert status == cp_model.OPTIMAL
        found.append(round(solver.objective_value))
    return found


def can_do_better(instance: Instance, ranges: Sequence[int], least: Fraction) -> bool:
    """Is there an outcome in which every party that can gain gains more than `least`, and none less than nothing?"""
    model = Model(instance)
    for party, spread in enumerate(ranges):
        model.need(party, math.floor(least * spread) + 1 if spread else 0)
    status, _ = model.solve(60, 1)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE)
    return status != cp_model.INFEASIBLE


def log_table(spread: int) -> list[int]:
    """floor of FINE * ln(gain + epsilon), shifted to be positive, for each utility above the reservation."""
    return [math.floor(FINE * math.log(n / spread + EPSILON) + 7 * FINE) for n in range(spread + 1)]


def best_log(instance: Instance, ranges: Sequence[int], least: Fraction) -> int:
    """The greatest sum of `log_table` over the outcomes in which nobody gains less than `least`. Small ranges only."""
    model = Model(instance)
    logs = []
    for party, spread in enumerate(ranges):
        model.need(party, math.ceil(least * spread) if spread else 0)
        if spread:
            above = model.model.new_int_var(0, spread, "")
            model.model.add(model.utilities[party] - instance.reservations[party] == above)
            logs.append(model.model.new_int_var(0, 8 * FINE, ""))
            model.model.add_element(above, log_table(spread), logs[-1])
    model.model.maximize(sum(logs))
    status, solver = model.solve(60, 1)
    assert status == cp_model.OPTIMAL
    return round(solver.objective_value)


def fairest(instance: Instance, ranges: Sequence[int], seconds: float, workers: int) -> tuple[bool, float]:
    """(proven, greatest least gain in parts of FINE): stage 1 alone, with the ideals given."""
    model = Model(instance)
    least = model.model.new_int_var(0, FINE, "")
    for party, spread in enumerate(ranges):
        above = model.utilities[party] - instance.reservations[party]
        model.model.add(above >= 0)
        if spread:
            model.model.add(FINE * above >= spread * least)
    model.model.maximize(least)
    status, solver = model.solve(seconds, workers)
    return status == cp_model.OPTIMAL, solver.objective_value / FINE
