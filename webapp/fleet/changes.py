"""What a host document would change against the stored one, row by row; nothing that differs is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from webapp.tenants.changes import UNSAID, Change, plain, wish_words
from webapp.vpms.vocabulary import SWITCHES

MEMBERS: Final = {
    "zone": "Zone",
    "attested": "Attested",
    "per_vm": "With a value for each VM",
    "departed": "Departed tenants",
    "running": "Running VMs",
    "agreement": "Agreement",
}
CAPACITY: Final = {
    "cores": "Number of cores",
    "memory_mib": "Memory in MiB",
    "hugepage_mib": "Memory in huge pages, in MiB",
    "cache_ways": "Parts of the cache",
    "bandwidth_pct": "Memory speed to reserve, in percent",
    "key_slots": "Keys for encrypted memory",
}
LISTS: Final = {
    "capabilities": "Can",
    "law": "Law",
    "offers": "Offer",
}
ACTIONS: Final = {
    "reclaim": "Take memory back",
    "introspect": "Look into VMs",
    "core_dump": "Write memory to a dump",
    "snapshot": "Store the state of VMs",
    "live_migrate": "Move VMs to other hosts",
    "ksm_scan": "Look for identical pages",
    "protection_off": "Switch protection off",
}
PRICES: Final = {"relocate": "Price of moving a VM here", "dedicated_host": "Price of the whole host"}
OPERATOR: Final = {"maintenance_min": "Minutes in a row for maintenance"}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Rows for what differs, in the order of the form, then whatever else differs."""
    return list(_rows(before, after))


def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = before["operator"], after["operator"]
    yield from _members(before, after, MEMBERS)
    yield from _members(before["capacity"], after["capacity"], CAPACITY)
    for part, words in LISTS.items():
        was, will = (each.get(part, {}) for each in ((before, after) if part == "capabilities" else (old, new)))
        for name in SWITCHES:
            if was.get(name) != will.get(name):
                label = f"{words}: {SWITCHES[name].label}"
                yield Change(label, values_words(name, was.get(name)), values_words(name, will.get(name)))
    if old.get("actions", []) != new.get("actions", []):
        yield Change("Acts that are planned", *(_actions(each.get("actions", [])) for each in (old, new)))
    yield from _members(old, new, OPERATOR)
    yield from _members(old.get("prices", {}), new.get("prices", {}), PRICES)
    yield from _preferences(old.get("preferences") or {}, new.get("preferences") or {})
    rest = {*before, *after} - {*MEMBERS, "capacity", "capabilities", "operator", "host", "format"}
    yield from _members(before, after, {name: name for name in sorted(rest)})


def _members(old: Mapping[str, Any], new: Mapping[str, Any], words: Mapping[str, str]) -> Iterator[Change]:
    for name, label in words.items():
        if old.get(name) != new.get(name):
            yield Change(label, *(_plain(each[name]) if name in each else UNSAID for each in (old, new)))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(name, str) and name in SWITCHES for name in value):
        return ", ".join(SWITCHES[name].label for name in value) or "none"
    return plain(value)


def _actions(names: list[str]) -> str:
    return ", ".join(ACTIONS[name] for name in names) or "none"


def _preferences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    was, will = old.get("switches", {}), new.get("switches", {})
    for name in SWITCHES:
        if was.get(name) != will.get(name):
            label = f"Wish of the operator: {SWITCHES[name].label}"
            yield Change(label, wish_words(name, was.get(name)), wish_words(name, will.get(name)))
    if old.get("utility") != new.get("utility"):
        words = [UNSAID if each.get("utility") is None else f"{each['utility']} of 1000" for each in (old, new)]
        yield Change("Least that the operator accepts", *words)


def values_words(switch: str, names: list[str] | None) -> str:
    """The choices by their labels."""
    if names is None:
        return UNSAID
    labels = {value.name: value.label for value in SWITCHES[switch].values}
    return ", ".join(f"“{labels[name]}”" for name in names)
