"""Explanations: a minimal set of demands that cannot hold together, and the background facts that make it so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from webapp.vpms.situation import Situation, sort_key

Holds = Callable[[Situation], bool | None]


def minimal_core(
    situation: Situation, satisfiable: Holds, demands: Iterable[str], background: Iterable[str]
) -> tuple[list[str], list[str]]:
    """(core, background): unsatisfiable as listed, satisfiable after dropping any one demand of the core.

    Deletion filter in reverse order of the demands, then of the background with the core held; so neither depends on
    the order of arguments. A demand whose test was cut off by a limit stays in.
    """
    kept = sorted(demands, key=sort_key)
    given = situation.without(*(name for name in situation.demands() if name not in kept))
    kept, given = _filter(given, satisfiable, kept)
    behind = sorted(background)
    behind, _ = _filter(given, satisfiable, behind)
    return kept, behind


def _filter(situation: Situation, satisfiable: Holds, names: Sequence[str]) -> tuple[list[str], Situation]:
    kept = list(names)
    for name in reversed(names):
        less = situation.without(name)
        if satisfiable(less) is False:
            kept.remove(name)
            situation = less
    return kept, situation
