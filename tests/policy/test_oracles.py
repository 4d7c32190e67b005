"""The solver beside an independent exact solver: OR-Tools CP-SAT finds the same ideals, least gain and product."""

import random
from fractions import Fraction

import pytest

from tests.policy.cast import ORACLES
from tests.policy.test_solver import dense_instance, random_instance
from webapp.vpms.instance import Instance, solve

pytest.importorskip("ortools", reason="the development extra is not installed")
from benchmarks import _cpsat


def agrees(instance):
    """Compare everything but the tie-break, which plain enumeration decides. The status."""
    found, ideals = solve(instance), _cpsat.ideals(instance)
    assert list(found.ideals) == (ideals or [])
    if ideals is None:
        assert found.status == "no_agreement"
        return found.status
    ranges = [ideal - d for ideal, d in zip(ideals, instance.reservations, strict=True)]
    if min(ranges) < 0 or found.status == "no_agreement":
        assert found.status == "no_agreement"
        assert min(ranges) < 0 or not _cpsat.can_do_better(instance, [0] * len(ranges), Fraction(0))
        return found.status
    assert found.bound["proven"]
    if found.counted:
        assert not _cpsat.can_do_better(instance, ranges, found.min_gain)
        if max(ranges) < 3000:
            above = [u - d for u, d in zip(found.utilities, instance.reservations, strict=True)]
            ours = sum(_cpsat.log_table(ranges[i])[above[i]] for i in found.counted)
            assert 0 <= _cpsat.best_log(instance, ranges, found.min_gain) - ours <= len(ranges)
    return found.status


def test_random_instances_agree_with_cp_sat():
    rng = random.Random(1609)
    seen = [agrees(random_instance(rng, number % 2 == 0)) for number in range(200 * ORACLES)]
    assert {"agreed", "no_agreement"} == set(seen) and seen.count("agreed") > 60 * ORACLES


def test_dense_instances_agree_with_cp_sat():
    rng = random.Random(1610)
    for _ in range(3):
        dense = dense_instance(rng, 5, 10)
        small = [[[n // 1000 for n in row] for row in table] for table in dense.utilities]
        assert agrees(Instance(dense.issues, dense.reservations, small, dense.forbidden, dense.facts)) == "agreed"
