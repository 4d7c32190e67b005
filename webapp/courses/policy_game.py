"""A policy game as a file: who plays what with which secret wishes, how many rounds, and what it is worth.

Read strictly: a faulty text is refused whole, each fault with line and column. Wishes are those of the policy language
in short (webapp/courses/wishes.py); a game is one host, on which the settings that it names are negotiated about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from webapp.courses import wishes
from webapp.courses.texts import Text as Yaml
from webapp.errors import Fault
from webapp.strictjson import member
from webapp.vpms import documents
from webapp.vpms.documents import Host, Policy
from webapp.vpms.reduction import Outcome, Problem
from webapp.vpms.shapes import Anything, Array, Faults, Integer, Object, OneOf, Text
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

SCHEMA: Final = "hsvm/policy-1"
SHIPPED: Final = Path(__file__).parent / "policies"
MOST_ROUNDS: Final = 8
MOST_SETTINGS: Final = 6  # what a misreport can be about: all of them are solved


class Reached(NamedTuple):
    """What a player reached, in points of 1000 of its true wishes: there, in the solver's settlement, at the least."""

    points: float
    solver: float
    least: float


def _share(reached: Reached) -> float:
    return reached.points / reached.solver if reached.solver else 1.0


def _gain(reached: Reached) -> float:
    way = reached.solver - reached.least
    return (reached.points - reached.least) / way if way > 0 else float(reached.points >= reached.least)


def _kept(reached: Reached) -> float:
    return reached.points / 1000


# What part of an item's points a player has: of the points of the solver's settlement, of the way from the least to
# them, or of all that it wishes.
RULES: Final[Mapping[str, Callable[[Reached], float]]] = {"share": _share, "gain": _gain, "kept": _kept}
WHOLE: Final[Mapping[str, str]] = {
    "share": "of what the solver's settlement on everybody's true wishes would have given",
    "gain": "of the way from the least to what the solver's settlement would have given",
    "kept": "of all true wishes",
}
CAPACITY: Final = ("cores", "memory_mib", "hugepage_mib", "cache_ways", "bandwidth_pct", "key_slots")
COUNT: Final = Integer(0, 10**6)
TENANT: Final = Object(
    {"name": wishes.NAME, "says": Text(1, 1000), "wishes": Anything()},
    {
        "least": Integer(0, 1000),
        "vcpus": Integer(1, 64),
        "memory_mib": Integer(1, 65536),
        "cache_ways": Integer(0, 64),
        "bandwidth_pct": Integer(0, 100),
    },
)
FILE: Final = Object(
    {
        "schema": OneOf([SCHEMA]),
        "title": Text(1, 120),
        "says": Text(1, 2000),
        "settings": Array(OneOf(list(SWITCHES)), least=1, most=MOST_SETTINGS, different=True),
        "tenants": Array(TENANT, least=2, most=6),
        "rounds": Integer(1, MOST_ROUNDS),
        "minutes": Integer(1, 120),
    },
    {
        "points": OneOf(list(RULES)),
        "capacity": Object({}, dict.fromkeys(CAPACITY, COUNT)),
        "offers": Anything(),
    },
    unknown="is no word of a game",
)
Wishes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Tenant:
    """A part in the game. All but the name is for its player alone until the end."""

    name: str
    says: str
    wishes: Wishes
    least: int
    size: Mapping[str, int]


@dataclass(frozen=True)
class Game:
    """A game that was read: `host` is a document, `points` a row of RULES, `minutes` of each round."""

    title: str
    says: str
    settings: tuple[str, ...]
    tenants: tuple[Tenant, ...]
    rounds: int
    minutes: int
    points: str
    host: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        return [tenant.name for tenant in self.tenants]

    def tenant(self, name: str) -> Tenant:
        return next(tenant for tenant in self.tenants if tenant.name == name)

    @cached_property
    def place(self) -> Host:
        return documents.read_host(self.host)

    def policy(self, name: str, said: Wishes | None = None, least: int | None = None) -> Policy:
        """The policy that this tenant hands in: of what it says, or of its true wishes."""
        tenant = self.tenant(name)
        told = tenant.wishes if said is None else said
        floor = tenant.least if least is None else least
        return documents.read_policy(wishes.written(told, name, floor, tenant.size))

    @cached_property
    def truth(self) -> Situation:
        return Situation([self.policy(name) for name in self.names], self.place, wishes.NOW)

    @cached_property
    def solved(self) -> Outcome:
        """The solver's settlement on everybody's true wishes."""
        return Problem(self.truth).solve(wishes.LIMITS)

    def values(self, setting: str) -> tuple[str, ...]:
        """What this setting can be on the game's host, strict to lax."""
        offered = self.truth.offered(setting)
        return tuple(v for v in offered if v in self.truth.residence()) if setting == "co_residence" else offered


def read(text: str) -> Game:
    """The game in a text; BadInput with line and column of every fault."""
    return _read(text)


@lru_cache(maxsize=64)
def _read(text: str) -> Game:
    yaml = Yaml(text)
    given = yaml.check(FILE)
    faults: Faults = []
    game = Game(
        title=given["title"],
        says=_flowing(given["says"]),
        settings=tuple(name for name in SWITCHES if name in given["settings"]),
        tenants=tuple(_tenant(row, f"$.tenants[{n}]", given, faults) for n, row in enumerate(given["tenants"])),
        rounds=given["rounds"],
        minutes=given["minutes"],
        points=given.get("points", "share"),
        host=_host(given, faults),
    )
    for number, name in enumerate(game.names):
        if name in game.names[:number]:
            faults.append(Fault(f"$.tenants[{number}].name", f"{name} is the name of two tenants"))
    if not faults:
        _playable(game, faults)
    if faults:
        raise yaml.refused(faults)
    return game


def _flowing(text: str) -> str:
    """Paragraphs as they were meant: a line of the file ends where its line was full."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _tenant(row: Mapping[str, Any], path: str, given: Mapping[str, Any], faults: Faults) -> Tenant:
    if wishes.check(row["wishes"], f"{path}.wishes", faults):
        strange = [name for name in row["wishes"] if name not in given["settings"]]
        faults += [Fault(member(f"{path}.wishes", name), "is not one of the game's settings") for name in strange]
    size = {name: row[name] for name in ("cache_ways", "bandwidth_pct") if name in row}
    size |= {name: row.get(name, wishes.SIZE[name]) for name in wishes.SIZE}
    return Tenant(row["name"], _flowing(row["says"]), row["wishes"], row.get("least", 0), size)


def _host(given: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    """The game's host: what is not negotiated about has one value for each VM, or ties nothing."""
    host = wishes.host_for(given["settings"])
    host["capacity"] = {**host["capacity"], **given.get("capacity", {})}
    offers = given.get("offers", {})
    if not isinstance(offers, dict):
        faults.append(Fault("$.offers", "must name settings and the values that the host offers"))
        return host
    for name, values in offers.items():
        at = member("$.offers", str(name))
        if name not in given["settings"]:
            faults.append(Fault(at, "is not one of the game's settings"))
        else:
            Array(OneOf(list(SWITCHES[name].names)), least=1, different=True).check(values, at, faults)
    return {**host, "capabilities": {**host["capabilities"], **offers}}


def _playable(game: Game, faults: Faults) -> None:
    """Every wish can be had on the host, and on the true wishes there is a settlement, found within the limits."""
    for number, tenant in enumerate(game.tenants):
        for setting, wish in tenant.wishes.items():
            if wish["value"] not in game.values(setting):
                can = ", ".join(game.values(setting))
                place = f"{member(f'$.tenants[{number}].wishes', setting)}.value"
                faults.append(Fault(place, f"cannot be had on this host, which offers {can}"))
    if faults:
        return
    if game.solved.status == "unknown" or not (game.solved.solution.bound or {"proven": True})["proven"]:
        faults.append(Fault("$.tenants", "are too many wishes to solve in time; take fewer tenants or settings"))
    elif game.solved.assignment is None:
        faults.append(Fault("$.tenants", "have no settlement even if all tell the truth; nothing could be compared"))


def shipped(language: str = "en") -> Sequence[tuple[str, str]]:
    """Name and text of each game that comes with the product, in the language where there is one."""
    own = {path.stem: path for path in SHIPPED.glob(f"{language}/*.yaml")} if language.isalpha() else {}
    return [(path.stem, own.get(path.stem, path).read_text()) for path in sorted(SHIPPED.glob("*.yaml"))]
