"""What a tenant could gain by lying, found by solving: every misreport of one setting, and every raised minimum.

A misreport changes what the tenant says of one setting (the value, must or not, how much it weighs), or the least that
it says it accepts; all others tell the truth, and the solver settles what it is told. Judged by the liar's true wishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from webapp.courses import policy_game, wishes
from webapp.courses.policy_game import Game, Tenant, Wishes
from webapp.vpms.reduction import Outcome, Problem
from webapp.vpms.situation import Situation

STEP: Final = 50  # points of 1000 between the minimums that are tried
COUNTED: Final = ("tried", "paid", "hurt", "ruined", "open")
Assignment = Mapping[str, Any]


class Misreport(NamedTuple):
    """What is said instead of the truth: of `setting`, or of the least (then `setting` is empty)."""

    setting: str
    said: Wishes
    least: int


def misreports(game: Game, tenant: Tenant) -> Iterator[Misreport]:
    """All that differ from the truth in one setting or in the least, in a fixed order.

    A setting is left out, or said to be wished for with each value that the host offers, as a wish and as a must, at
    its true weight (an average one, where it has none) and at as much as all the others together.
    """
    for setting in game.settings:
        rest = {name: wish for name, wish in tenant.wishes.items() if name != setting}
        if rest and setting in tenant.wishes:
            yield Misreport(setting, rest, tenant.least)
        for value in game.values(setting):
            for strength in ("prefer", "must"):
                for weight in _weights(tenant, setting, rest):
                    wish = {"value": value, "strength": strength, "weight": weight}
                    said = {**tenant.wishes, setting: wish}
                    if game.policy(tenant.name, said).switches != game.policy(tenant.name).switches:
                        yield Misreport(setting, said, tenant.least)
    for least in range(0, 1001, STEP):
        if least != tenant.least:
            yield Misreport("", tenant.wishes, least)


def _weights(tenant: Tenant, setting: str, rest: Wishes) -> list[int]:
    weights = [wish.get("weight", 1) for wish in rest.values()]
    total = sum(weights)
    own = tenant.wishes[setting].get("weight", 1) if setting in tenant.wishes else max(1, total // len(weights))
    return list(dict.fromkeys([own, max(1, min(1000, total))]))


def settled(game: Game, told: Mapping[str, Mapping[str, Any]]) -> Outcome:
    """What the solver settles where these tenants say `said` and `least`, and all others the truth."""
    policies = [game.policy(name, **told.get(name, {})) for name in game.names]
    return Problem(Situation(policies, game.place, wishes.NOW)).solve(wishes.LIMITS)


def proven(outcome: Outcome) -> bool:
    """Is it the outcome, and not only the best that was found within the limits?"""
    return outcome.status == "no_agreement" or bool((outcome.solution.bound or {"proven": False})["proven"])


def breaks_must(game: Game, name: str, assignment: Assignment | None) -> bool:
    """Does the settlement break a must of this tenant's true wishes?"""
    view = None if assignment is None else game.truth.view(name, assignment)
    return view is not None and not game.truth.keeps_own_terms(name, view)


def worth(game: Game, name: str, assignment: Assignment | None) -> int:
    """Millionths of its true wishes that a tenant has of a settlement: without one the least, with a broken must
    nothing."""
    view = None if assignment is None else game.truth.view(name, assignment)
    if view is None:
        return game.truth.reservation(name)
    return game.truth.utility(name, view) if game.truth.keeps_own_terms(name, view) else 0


@lru_cache(maxsize=64)
def of_text(text: str) -> tuple[Mapping[str, Any], ...]:
    """One row a tenant: {"tenant", "honest", one of each of COUNTED, "best": None or {"worth", "setting", "value",
    "strength", "weight", "least"}}. Worth in millionths; the best is the first of those that gain most; `open`: so many
    could not be solved within the limits, and count for nothing."""
    game = policy_game.read(text)
    return tuple(_of(game, tenant) for tenant in game.tenants)


def _of(game: Game, tenant: Tenant) -> dict[str, Any]:
    honest = worth(game, tenant.name, game.solved.assignment)
    row: dict[str, Any] = {"tenant": tenant.name, "honest": honest, **dict.fromkeys(COUNTED, 0), "best": None}
    for lie in misreports(game, tenant):
        outcome = settled(game, {tenant.name: {"said": lie.said, "least": lie.least}})
        row["tried"] += 1
        if not proven(outcome):
            row["open"] += 1
            continue
        has, ruined = worth(game, tenant.name, outcome.assignment), outcome.assignment is None
        row["ruined"] += ruined
        row["paid"] += has > honest
        row["hurt"] += has < honest and not ruined
        if has > max(honest, row["best"]["worth"] if row["best"] else 0):
            wish = {"value": "", "strength": "", "weight": 0, **lie.said.get(lie.setting, {})}
            row["best"] = {"worth": has, "setting": lie.setting, "least": lie.least, **wish}
    return row
