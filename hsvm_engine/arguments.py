"""What a machine may be made of: every argument of `Machine` is checked here, and a ValueError names the wrong one.

Only plain Python values are taken, no subclasses: nothing that a value does by itself can get in between.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hsvm_engine.architectures import ARCHITECTURES, SKIPPABLE

PAGE = 4096
ENTRY = 16  # bytes of the ownership table for a frame
U64 = (1 << 64) - 1
MOST_CACHED = 64  # entries of one page-walk cache
LEVELS = {"l1": (16, 4), "l2": (128, 12)}  # sets and ways (engine.md section 6)
POLICIES = ("round-robin", "lru")
RULES = ("strict", "literal")


def integer(name: str, value: object, low: int, high: int) -> int:
    """An integer in [low, high]."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name}: must be an integer from {low} to {high}")
    return value


def table(name: str, value: object, allowed: Collection[str]) -> dict[str, Any]:
    """A dict with no other keys than these."""
    if type(value) is not dict:
        raise ValueError(f"{name}: must be a dict")
    for key in list(value):
        if type(key) is not str or key not in allowed:
            shown = repr(key[:40]) if type(key) is str else "that is no word"
            raise ValueError(f"{name}: unknown key {shown}; known: {', '.join(sorted(allowed))}")
    return value


def word(name: str, value: object, allowed: Collection[str]) -> str:
    if type(value) is not str or value not in allowed:
        raise ValueError(f"{name}: must be one of {', '.join(allowed)}")
    return value


def _hex(name: str, value: object, size: int) -> str:
    if type(value) is not str or len(value) != 2 * size or not set(value) <= set("0123456789abcdef"):
        raise ValueError(f"{name}: must be {2 * size} digits of lower-case hex")
    return value


def _skip(name: str, value: object) -> list[str]:
    if type(value) is not list and type(value) is not tuple:
        raise ValueError(f"{name}: must be a list of check names")
    return sorted({word(name, check, SKIPPABLE) for check in value})


def _fault(name: str, value: object) -> dict[str, int]:
    if set(table(name, value, ("step", "nth"))) != {"step", "nth"}:
        raise ValueError(f"{name}: needs step and nth")
    given = table(name, value, ("step", "nth"))
    return {
        "step": integer(f"{name}.step", given["step"], 1, 4),
        "nth": integer(f"{name}.nth", given["nth"], 1, 1 << 32),
    }


_OPTIONS: dict[str, Callable[[str, object], Any]] = {
    "skip": _skip,
    "fault": _fault,
    "page_map_rule": lambda name, value: word(name, value, RULES),
    "smi_period": lambda name, value: integer(name, value, 1, 1 << 32),
    "machine_id": lambda name, value: _hex(name, value, 16),
    "platform_key": lambda name, value: _hex(name, value, 32),
}


def options(value: object) -> dict[str, Any]:
    """The options in canonical form: without an empty `skip`."""
    given = table("options", value, _OPTIONS)
    found = {name: _OPTIONS[name](f"options.{name}", given[name]) for name in given}
    return {name: option for name, option in found.items() if name != "skip" or option}


def tlb(value: object) -> dict[str, Any]:
    """The geometry in canonical form; what is not given is as in engine.md section 6."""
    shape: dict[str, Any] = {}
    top = table("tlb", value, (*LEVELS, "policy", "walk_cache"))
    for level, (sets, ways) in LEVELS.items():
        given = table(f"tlb.{level}", top.get(level, {}), ("sets", "ways"))
        sets = integer(f"tlb.{level}.sets", given.get("sets", sets), 1, 4096)
        if sets & (sets - 1):
            raise ValueError(f"tlb.{level}.sets: must be a power of two")
        shape[level] = {"sets": sets, "ways": integer(f"tlb.{level}.ways", given.get("ways", ways), 1, 64)}
    shape["policy"] = word("tlb.policy", top.get("policy", "round-robin"), POLICIES)
    given = table("tlb.walk_cache", top.get("walk_cache", {}), ("guest", "nested"))
    shape["walk_cache"] = {
        name: integer(f"tlb.walk_cache.{name}", given.get(name, 0), 0, MOST_CACHED) for name in ("guest", "nested")
    }
    return shape


def costs(value: object, known: Mapping[str, object]) -> dict[str, int]:
    """Cycles by event, over the row's own."""
    given = table("costs", value, list(known))
    return {name: integer(f"costs.{name}", given[name], 0, 1 << 40) for name in given}


def machine(
    frames: object,
    hypervisor_frames: object,
    protected_frames: object,
    cores: object,
    architecture: object,
    seed: object,
    options_given: object,
    tlb_given: object,
    costs_given: object,
) -> dict[str, Any]:
    """All arguments of `Machine` in canonical form. (engine.md section 2)"""
    name = word("architecture", architecture, ARCHITECTURES)
    row = ARCHITECTURES[name]
    count = integer("frames", frames, 256, 1 << 28)
    hypervisor = integer("hypervisor_frames", hypervisor_frames, 1, count - 1)
    protected = integer("protected_frames", protected_frames, 0, count)
    needed = -(-ENTRY * count // PAGE)
    if not row.protected_region and protected:
        raise ValueError(f"protected_frames: must be 0, architecture {name} has no protected region")
    if row.protected_region and protected < needed:
        raise ValueError(f"protected_frames: the ownership table alone needs {needed}")
    if hypervisor + protected >= count:
        raise ValueError("hypervisor_frames, protected_frames: together they must leave one frame free")
    return {
        "frames": count,
        "hypervisor_frames": hypervisor,
        "protected_frames": protected,
        "cores": integer("cores", cores, 1, 256),
        "architecture": name,
        "seed": integer("seed", seed, 0, U64),
        "options": options({} if options_given is None else options_given),
        "tlb": tlb({} if tlb_given is None else tlb_given),
        "costs": costs({} if costs_given is None else costs_given, row.costs),
    }
