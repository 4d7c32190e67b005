"""Wishes in short, as lessons and policy games write them, and the policy documents that they stand for.

A short wish names a setting, the value that is wished for, whether it is a must, and a weight. Rules and solver are
those that tenants meet: only the writing is shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from webapp.errors import Fault
from webapp.strictjson import member
from webapp.vpms.answers import largest_remainder, scores_of
from webapp.vpms.formats import OPERATOR
from webapp.vpms.instance import Limits
from webapp.vpms.shapes import ID_PATTERN, Faults, Integer, Matching, Object, OneOf, Text
from webapp.vpms.vocabulary import ORDER, PER_VM, SWITCHES

NOW: Final = "2026-01-01T00:00:00Z"
LIMITS: Final = Limits(seconds=2, nodes=20_000)  # the nodes come first: every machine answers alike
MOST_WISHES: Final = 8
# A host that can do everything of H-SVM and has room for all: what clashes then are the wishes.
HOST: Final[Mapping[str, Any]] = {
    "format": "vpms-host/1",
    "host": "h1",
    "zone": "z1",
    "attested": True,
    "capacity": {
        "cores": 64,
        "memory_mib": 65536,
        "hugepage_mib": 0,
        "cache_ways": 12,
        "bandwidth_pct": 100,
        "key_slots": 0,
    },
    "operator": {},
}
# What a setting that nobody mentions is left at there, if not at its strictest value: so that it ties no other.
LEFT: Final = {"memory_protection": "none", "hugepages": "4k"} | dict.fromkeys(
    ("emulator_threads", "cache_partition", "mem_bandwidth"), "shared"
)
NAME: Final = Matching(ID_PATTERN, "a name (a-z, 0-9, . _ -)", never=OPERATOR)
WISH: Final = Object({"value": Text()}, {"strength": OneOf(["must", "prefer"]), "weight": Integer(1, 1000)})
SIZE: Final = {"vcpus": 2, "memory_mib": 2048}


def host_for(settings: Collection[str]) -> dict[str, Any]:
    """A host for wishes about these settings. What no party mentions and no rule ties has one value there: the
    settlement of the rest is the same, and found some ten times faster."""
    idle = [name for name in PER_VM if name not in settings]
    return {**HOST, "capabilities": {name: [LEFT.get(name, SWITCHES[name].names[0])] for name in idle}}


def check(wishes: Any, path: str, faults: Faults) -> bool:
    """Whether these are wishes; else a fault for each that is none."""
    if not isinstance(wishes, dict) or not 1 <= len(wishes) <= MOST_WISHES:
        faults.append(Fault(path, f"must name 1 to {MOST_WISHES} settings and what is wished for each"))
        return False
    before = len(faults)
    for setting, wish in wishes.items():
        at = member(path, str(setting))
        if setting not in SWITCHES:
            faults.append(Fault(at, f"is not one of the settings {', '.join(SWITCHES)}"))
            continue
        WISH.check(wish, at, faults)
        if isinstance(wish, dict) and "value" in wish and wish["value"] not in SWITCHES[setting].names:
            known = ", ".join(SWITCHES[setting].names)
            faults.append(Fault(f"{at}.value", f"must be one of {known}; on and off need quotes"))
    return len(faults) == before


def document(wishes: Any, name: str, least: int, path: str, faults: Faults) -> dict[str, Any]:
    """The policy document of short wishes; empty, with a fault for each reason, for what are none."""
    return written(wishes, name, least) if check(wishes, path, faults) else {}


def written(
    wishes: Mapping[str, Mapping[str, Any]], name: str, least: int, size: Mapping[str, int] = SIZE
) -> dict[str, Any]:
    """The document of wishes that are some: weights in proportion make 1000, scores fall with the distance."""
    ordered = sorted(wishes, key=ORDER.__getitem__)
    weights = largest_remainder(1000, [wishes[setting].get("weight", 1) for setting in ordered])
    return {
        "format": "vpms-policy/1",
        "vm": name,
        "tenant": f"of-{name}",
        "version": 1,
        "size": dict(size),
        "switches": {
            setting: {
                "weight": weight,
                "values": scores_of(
                    SWITCHES[setting], wishes[setting]["value"], wishes[setting].get("strength", "prefer")
                ),
            }
            for setting, weight in zip(ordered, weights, strict=True)
        },
        "disagreement": {"kind": "do-not-start", "utility": least},
        "delegate": {"mode": "auto"},
    }
