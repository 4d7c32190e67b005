"""The slow twin of the policy lab: settlements, worth and misreports by plain enumeration, written from the design.

Nothing of webapp is used but the names of the settings. It knows settings that no fact of the platform ties on a host
without protected memory, and one scarce resource, the cores.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import yaml

from webapp.vpms.vocabulary import SWITCHES

SHARED = ("page_sharing", "overcommit", "smt", "nested_virt", "mitigations", "pmu")
OWN = ("balloon", "cpu_pinning", "network_isolation", "disk_encryption")


def loaded(text: str) -> dict[str, Any]:
    """The file by another reader."""
    return yaml.load(text, yaml.BaseLoader)


def told(tenant: dict[str, Any]) -> dict[str, Any]:
    """The truth of a tenant of the file: {"wishes": {setting: (value, must, weight)}, "least", "vcpus"}."""
    wishes = {
        s: (w["value"], w.get("strength") == "must", int(w.get("weight", 1))) for s, w in tenant["wishes"].items()
    }
    return {"wishes": wishes, "least": int(tenant.get("least", 0)), "vcpus": int(tenant.get("vcpus", 2))}


def weights(wishes: dict[str, Any]) -> dict[str, int]:
    """1000 points in proportion; the largest remainders get what is left, in the order of the vocabulary."""
    names = [s for s in SWITCHES if s in wishes]
    whole = sum(wishes[s][2] for s in names)
    parts = {s: 1000 * wishes[s][2] // whole for s in names}
    left = 1000 - sum(parts.values())
    for s in sorted(names, key=lambda s: -(1000 * wishes[s][2] % whole))[:left]:
        parts[s] += 1
    return parts


def score(setting: str, wish: tuple[str, bool, int], value: str) -> int | None:
    """0 to 1000; None: vetoed."""
    names = SWITCHES[setting].names
    at, there = names.index(wish[0]), names.index(value)
    return None if wish[1] and there > at else 1000 * (len(names) - 1 - abs(at - there)) // (len(names) - 1)


def table(party: dict[str, Any]) -> dict[str, dict[str, int | None]]:
    """Points of a million for each value of each wish; None: vetoed."""
    parts = weights(party["wishes"])
    scores = {s: {v: score(s, wish, v) for v in SWITCHES[s].names} for s, wish in party["wishes"].items()}
    return {s: {v: None if n is None else parts[s] * n for v, n in row.items()} for s, row in scores.items()}


def utility(party: dict[str, Any], view: dict[str, str]) -> int:
    parts = weights(party["wishes"])
    return sum(parts[s] * (score(s, wish, view[s]) or 0) for s, wish in party["wishes"].items())


def keeps_musts(party: dict[str, Any], view: dict[str, str]) -> bool:
    return all(score(s, wish, view[s]) is not None for s, wish in party["wishes"].items())


def settle(settings: list[str], parties: dict[str, dict[str, Any]], cores: int = 64) -> dict[str, Any] | None:
    """Each party's view of the outcome of section 8, or None: there is none."""
    vms = sorted(parties)
    issues = [("", s) for s in SWITCHES if s in settings and s in SHARED]
    issues += [(vm, s) for vm in vms for s in SWITCHES if s in settings and s in OWN]
    tables = {vm: table(party) for vm, party in parties.items()}
    rows: list[tuple[dict[str, int], dict[str, dict[str, str]]]] = []
    for chosen in product(*(order(parties, vm, s) for vm, s in issues)):
        found = dict(zip(issues, chosen, strict=True))
        views = {vm: {s: value for (whose, s), value in found.items() if whose in ("", vm)} for vm in vms}
        used = sum(parties[vm]["vcpus"] for vm in vms if views[vm].get("cpu_pinning") == "dedicated")
        points = {vm: [row[views[vm][s]] for s, row in tables[vm].items()] for vm in vms}
        if used <= cores and not any(None in row for row in points.values()):
            rows.append(({vm: sum(row) for vm, row in points.items()}, views))  # type: ignore[arg-type]
    least = {vm: 1000 * parties[vm]["least"] for vm in vms}
    ideal = {vm: max((points[vm] for points, _ in rows), default=-1) for vm in vms}
    able = [row for row in rows if all(row[0][vm] >= least[vm] for vm in vms)]
    if not able:
        return None
    counted = [vm for vm in vms if ideal[vm] > least[vm]]

    def worst(points: dict[str, int]) -> Any:
        return min((Fraction(points[vm] - least[vm], ideal[vm] - least[vm]) for vm in counted), default=1)

    def nash(points: dict[str, int]) -> int:
        whole = 1
        for vm in counted:
            whole *= 1000 * (points[vm] - least[vm]) + ideal[vm] - least[vm]
        return whole

    best = max(worst(points) for points, _ in able)
    able = [row for row in able if worst(row[0]) == best]
    top = max(nash(points) for points, _ in able)
    return next(views for points, views in able if nash(points) == top)


def order(parties: dict[str, dict[str, Any]], vm: str, setting: str) -> list[str]:
    """Strict to lax; what is scarce and nobody concerned has asked for comes last."""
    askers = [parties[vm]] if vm else list(parties.values())
    asked = any(setting in party["wishes"] for party in askers)
    scarce = SWITCHES[setting].resource
    return sorted(SWITCHES[setting].names, key=lambda value: not asked and value in scarce)


def worth(party: dict[str, Any], views: dict[str, Any] | None, name: str) -> int:
    """Millionths of the true wishes: without a settlement the least, with a broken must nothing."""
    if views is None:
        return 1000 * party["least"]
    return utility(party, views[name]) if keeps_musts(party, views[name]) else 0


def misreports(settings: list[str], party: dict[str, Any]) -> list[dict[str, Any]]:
    """Every claim that differs from the truth in one setting, or in the least."""
    true, found = party["wishes"], []
    for s in [name for name in SWITCHES if name in settings]:
        rest = {name: wish for name, wish in true.items() if name != s}
        total = sum(wish[2] for wish in rest.values())
        if rest and s in true:
            found.append({**party, "wishes": rest})
        own = true[s][2] if s in true else max(1, total // len(rest))
        for value in SWITCHES[s].names:
            for must in (False, True):
                for weight in dict.fromkeys([own, max(1, min(1000, total))]):
                    said = {**true, s: (value, must, weight)}
                    if document(said) != document(true):
                        found.append({**party, "wishes": said})
    return found + [{**party, "least": least} for least in range(0, 1001, 50) if least != party["least"]]


def document(wishes: dict[str, Any]) -> Any:
    parts = weights(wishes)
    return {s: (parts[s], [score(s, wish, v) for v in SWITCHES[s].names]) for s, wish in wishes.items()}


def best_lie(settings: list[str], parties: dict[str, Any], name: str, cores: int = 64) -> dict[str, int]:
    """How many misreports there are, how many pay, hurt and ruin, and what the best is worth; 0: none pays."""
    honest = worth(parties[name], settle(settings, parties, cores), name)
    row = {"honest": honest, "tried": 0, "paid": 0, "hurt": 0, "ruined": 0, "best": 0}
    for said in misreports(settings, parties[name]):
        views = settle(settings, {**parties, name: said}, cores)
        has = worth(parties[name], views, name)
        row["tried"] += 1
        row["paid"] += has > honest
        row["hurt"] += views is not None and has < honest
        row["ruined"] += views is None
        row["best"] = max(row["best"], has) if has > honest else row["best"]
    return row
