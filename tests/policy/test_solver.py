"""The solver equals plain enumeration of every outcome, exactly, on hundreds of small instances."""

import random
from fractions import Fraction
from itertools import product
from math import prod

import pytest

from webapp.vpms.instance import Instance, Limits, feasible, solve


def enumerate_outcomes(instance):
    """The slow twin: section 8 of the design, word for word, over every outcome."""
    outcomes = []
    for chosen in product(*(range(size) for size in instance.issues)):
        if any(chosen[issue] == value for issue, value in instance.forbidden):
            continue
        if any(chosen[q] == v and chosen[other] not in allowed for q, v, other, allowed in instance.facts):
            continue
        if any(sum(row[v] for row, v in zip(use, chosen, strict=True)) > cap for cap, use in instance.capacities):
            continue
        outcomes.append((chosen, [sum(row[v] for row, v in zip(u, chosen, strict=True)) for u in instance.utilities]))
    parties = range(len(instance.reservations))
    d = instance.reservations
    if not outcomes:
        return None, None, None
    ideals = [max(u[i] for _, u in outcomes) for i in parties]
    outcomes = [(chosen, u) for chosen, u in outcomes if all(u[i] >= d[i] for i in parties)]
    if not outcomes:
        return None, ideals, None
    counted = [i for i in parties if ideals[i] > d[i]]
    worst = {
        chosen: min((Fraction(u[i] - d[i], ideals[i] - d[i]) for i in counted), default=Fraction(1))
        for chosen, u in outcomes
    }
    best = max(worst.values())
    final = [(chosen, u) for chosen, u in outcomes if worst[chosen] == best]
    value = {chosen: prod(1000 * (u[i] - d[i]) + ideals[i] - d[i] for i in counted) for chosen, u in final}
    highest = max(value.values())
    return min(chosen for chosen, _ in final if value[chosen] == highest), ideals, best


def random_instance(rng, rich_in_ties):
    issues = [rng.randint(1, 4) for _ in range(rng.randint(1, 6))]
    parties = rng.randint(1, 4)
    top = rng.choice([2, 3]) if rich_in_ties else rng.choice([20, 1000, 10**6, 10**9])
    utilities = [[[rng.randint(0, top) for _ in range(size)] for size in issues] for _ in range(parties)]
    if rich_in_ties and parties > 1 and rng.random() < 0.5:
        utilities[1] = [row[::-1] for row in utilities[0]]
    reservations = [rng.randint(0, sum(max(row) for row in table) * rng.choice([1, 5, 8]) // 10) for table in utilities]
    forbidden = [(q, v) for q, size in enumerate(issues) for v in range(size) if rng.random() < 0.08]
    facts = []
    for _ in range(rng.randint(0, 4) if len(issues) > 1 else 0):
        q, other = rng.sample(range(len(issues)), 2)
        allowed = rng.sample(range(issues[other]), rng.randint(1, issues[other]))
        facts.append((q, rng.randrange(issues[q]), other, allowed))
    capacities = []
    for _ in range(rng.choice([0, 0, 1, 2])):
        use = [[rng.randint(0, 5) for _ in range(size)] for size in issues]
        capacities.append((rng.randint(0, 3 * len(issues)), use))
    return Instance(issues, reservations, utilities, forbidden, facts, capacities)


def dense_instance(rng, parties, switches):
    """Every party has weights and scores for every switch of three values; facts and vetoes at random."""
    utilities = []
    for _ in range(parties):
        weights = [rng.randint(0, 80) for _ in range(switches)]
        utilities.append([[weight * rng.randint(0, 1000) for _ in range(3)] for weight in weights])
    facts = [(q, 0, (q + 5) % switches, [0, 1]) for q in range(0, switches, 3)]
    return Instance([3] * switches, [0] * parties, utilities, [(3, 2), (8, 0)], facts)


@pytest.mark.parametrize("rich_in_ties", [False, True], ids=["scattered", "rich_in_ties"])
def test_the_outcome_equals_enumeration(rich_in_ties):
    rng = random.Random(20160105 + rich_in_ties)
    statuses = set()
    for number in range(1000):
        instance = random_instance(rng, rich_in_ties)
        expected, ideals, worst = enumerate_outcomes(instance)
        found = solve(instance)
        statuses.add(found.status)
        assert found.assignment == expected, number
        assert list(found.ideals) == (ideals or []), number
        assert found.min_gain == worst, number
        assert feasible(instance) is (expected is not None), number
    assert statuses == {"agreed", "no_agreement"}


def test_the_order_of_parties_changes_nothing():
    rng = random.Random(7)
    for number in range(104):
        instance = random_instance(rng, rng.random() < 0.5) if number % 26 else dense_instance(rng, 20, 24)
        order = rng.sample(range(len(instance.reservations)), len(instance.reservations))
        turned = Instance(
            instance.issues,
            [instance.reservations[i] for i in order],
            [instance.utilities[i] for i in order],
            instance.forbidden,
            instance.facts,
            instance.capacities,
        )
        assert solve(turned).assignment == solve(instance).assignment


def test_scaling_one_party_changes_nothing():
    rng = random.Random(8)
    for _ in range(60):
        instance = random_instance(rng, rng.random() < 0.5)
        factor = rng.randint(2, 9)
        utilities = [[[factor * n for n in row] for row in instance.utilities[0]], *instance.utilities[1:]]
        reservations = [factor * instance.reservations[0], *instance.reservations[1:]]
        scaled = Instance(
            instance.issues, reservations, utilities, instance.forbidden, instance.facts, instance.capacities
        )
        assert solve(scaled).assignment == solve(instance).assignment


def opposed_instance(rng, parties, switches):
    """Two parties want only the opposite of each other: half for each, and then the product decides all the rest."""
    dense = dense_instance(rng, parties, switches)
    idle = [[0, 0, 0]] * (switches - 1)
    utilities = [[[2000, 1000, 0], *idle], [[0, 1000, 2000], *idle], *dense.utilities[2:]]
    return Instance(dense.issues, dense.reservations, utilities, [], dense.facts)


@pytest.mark.parametrize(
    ("make", "least", "most", "stage"), [(dense_instance, 400, 1500, 1), (opposed_instance, 320, 480, 2)]
)
def test_a_limit_gives_an_honest_bound(make, least, most, stage):
    rng = random.Random(9)
    cut = 0
    for _ in range(60):
        instance = make(rng, 12, 24)
        exact = solve(instance)
        found = solve(instance, Limits(nodes=rng.randint(least, most)))
        assert found.status in (exact.status, "unknown")
        if found.status != "agreed":
            continue
        assert found.bound["min_gain_upper"] >= float(exact.min_gain) - 1e-9 and found.min_gain <= exact.min_gain
        if not found.bound["proven"]:
            cut += found.bound["stage"] == stage
            if found.bound["stage"] == 2:
                assert found.bound["nash_upper"] >= exact.nash - 1e-9
    assert cut > 5


def test_twenty_parties_and_twenty_four_issues_are_proven_in_seconds():
    rng = random.Random(10)
    found = solve(dense_instance(rng, 20, 24), Limits(seconds=60))
    assert found.bound["proven"] and len(found.counted) == 20


def test_products_that_logarithms_cannot_tell_apart_are_decided_exactly():
    half, most = 5 * 10**8, 10**9
    rows = [(half + 1, half - 1, 0), (half, half, 0), (0, 0, 10), (most, 0, 0), (0, most, 0)]
    instance = Instance([5], [0, 0, 0], [[list(column)] for column in zip(*rows, strict=True)])
    assert solve(instance).assignment == (1,) == enumerate_outcomes(instance)[0]
