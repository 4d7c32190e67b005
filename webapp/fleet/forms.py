"""The host document as a form: what was typed in, what the page shows, and the document that both stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.http import QueryDict

from webapp.errors import BadInput, Fault
from webapp.fleet.changes import ACTIONS, CAPACITY
from webapp.tenants import forms as wishes
from webapp.vpms.answers import operator_answers, operator_wishes
from webapp.vpms.vocabulary import PER_VM, QUESTIONS, STRENGTHS, SWITCHES

PARTS: Final = ("capabilities", "law", "offers")
LEAST: Final = 333  # of 1000 points, of an operator that does not say
MOST: Final = 2**53 - 1


def blank(name: str) -> dict[str, Any]:
    """The document that a new host begins with: it promises nothing and offers everything that our machine can do."""
    return {
        "format": "vpms-host/1",
        "host": name,
        "zone": "z1",
        "attested": True,
        "capabilities": {"memory_protection": ["hsvm", "none"], "hugepages": ["2m", "4k"]},
        "capacity": {
            "cores": 2,
            "memory_mib": 64,
            "hugepage_mib": 0,
            "cache_ways": 12,
            "bandwidth_pct": 100,
            "key_slots": 0,
        },
        "operator": {"law": {}, "offers": {}, "actions": [], "maintenance_min": 0, "preferences": None, "prices": {}},
        "running": [],
        "departed": [],
        "agreement": None,
    }


# -- what was typed


def document_from_form(post: QueryDict, before: Mapping[str, Any]) -> dict[str, Any]:
    """The document for what was typed, with everything that the form does not show as it was before."""
    typed = _Typed(post)
    document = {**before, "zone": post.get("zone", "").strip(), "attested": post.get("attested") == "yes"}
    if "host" in post:
        document["host"] = post["host"].strip()
    document["capacity"] = {name: typed.count(name, f"$.capacity.{name}") for name in CAPACITY}
    document |= _member("capabilities", typed.lists("capabilities", before.get("capabilities", {})), before)
    own = [name for name in PER_VM if name in post.getlist("per_vm")]
    if set(own) != set(before.get("per_vm", PER_VM)):
        document["per_vm"] = own
    document["operator"] = _operator(typed, before["operator"], document)
    if typed.faults:
        raise BadInput(typed.faults)
    return document


def _operator(typed: _Typed, old: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    operator = dict(old)
    for part in ("law", "offers"):
        operator |= _member(part, typed.lists(part, old.get(part, {})), old)
    actions = [name for name in ACTIONS if name in typed.post.getlist("actions")]
    if set(actions) != set(old.get("actions", ())):
        operator["actions"] = actions
    minutes = typed.count("maintenance_min", "$.operator.maintenance_min")
    operator |= {"maintenance_min": minutes} if minutes != old.get("maintenance_min", 0) else {}
    prices = {
        name: typed.count(f"price-{name}", f"$.operator.prices.{name}")
        for name in ("relocate", "dedicated_host")
        if typed.post.get(f"price-{name}", "").strip()
    }
    operator |= _member("prices", prices, old)
    if typed.post.get("wishes") == "answers":
        operator |= _preferences(typed, old.get("preferences"), document)
    return operator


def _preferences(typed: _Typed, old: Mapping[str, Any] | None, document: Mapping[str, Any]) -> dict[str, Any]:
    """The operator's own wishes: none where no question is answered with must or prefer."""
    answers = wishes.read_answers(typed.post)
    least = typed.count("utility", "$.operator.preferences.utility")
    if not any(STRENGTHS.get(given["strength"], 1) for given in answers.values()):
        return {"preferences": None} if old is not None else {}
    shared = shared_switches(document)
    try:
        switches = operator_wishes(answers, shared, {})
    except BadInput as refused:
        typed.faults += refused.faults
        return {}
    return {"preferences": {"switches": switches, "utility": least}} if switches else {"preferences": None}


def _member(name: str, value: dict[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """The member, unless it is empty and was not there before: what is not said stays unsaid."""
    return {name: value} if value or name in old else {}


def shared_switches(document: Mapping[str, Any]) -> list[str]:
    own = document.get("per_vm", PER_VM)
    return [name for name, switch in SWITCHES.items() if switch.shared_by_nature or name not in own]


class _Typed:
    """The fields of the form, with what is wrong about them."""

    def __init__(self, post: QueryDict) -> None:
        self.post = post
        self.faults: list[Fault] = []

    def count(self, name: str, path: str) -> int:
        text = self.post.get(name, "").strip()
        if text.isascii() and text.isdecimal() and len(text) < 17:
            return int(text)
        self.faults.append(Fault(path, "must be a whole number, 0 or more"))
        return 0

    def lists(self, part: str, before: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """The ticked choices of each setting. What says the same as before stays as it was written; what allows
        everything and was not said is not said now."""
        found: dict[str, list[str]] = {}
        for name in SWITCHES:
            ticked = [value for value in SWITCHES[name].names if value in self.post.getlist(f"{part}-{name}")]
            if name in before and set(ticked) == set(before[name]):
                found[name] = list(before[name])
            elif name in before or set(ticked) != set(_unsaid(part, name)):
                found[name] = ticked
        return found


def _unsaid(part: str, switch: str) -> tuple[str, ...]:
    """What a list that is not there stands for."""
    found = SWITCHES[switch]
    return found.unless_said or found.names if part == "capabilities" else found.names


# -- what the page shows


def shown(document: Mapping[str, Any], post: QueryDict | None = None, faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """The form of the document, or as it was typed."""
    capacity, operator = document["capacity"], document["operator"]
    prices = operator.get("prices", {})
    preferences = operator.get("preferences")
    answers = operator_answers((preferences or {}).get("switches", {}), shared_switches(document), {})

    def text(name: str, stored: Any) -> str:
        return str(post.get(name, "") if post is not None else "" if stored is None else stored)

    given = wishes.read_answers(post) if post is not None else answers or {}
    asked = {SWITCHES[name].question for name in shared_switches(document)}
    return {
        "host": text("host", document["host"]),
        "zone": text("zone", document["zone"]),
        "attested": post.get("attested") == "yes" if post is not None else document["attested"],
        "capacity": [(name, words, text(name, capacity[name])) for name, words in CAPACITY.items()],
        "groups": [_group(name, document, post) for name in QUESTIONS],
        "actions": [(name, words, name in _ticked(post, "actions", operator)) for name, words in ACTIONS.items()],
        "maintenance_min": text("maintenance_min", operator.get("maintenance_min", 0)),
        "relocate": text("price-relocate", prices.get("relocate")),
        "dedicated_host": text("price-dedicated_host", prices.get("dedicated_host")),
        "expressible": answers is not None,
        "rows": [row for row in wishes.rows(given, faults) if row["name"] in asked],
        "utility": text("utility", (preferences or {"utility": LEAST})["utility"]),
    }


def _ticked(post: QueryDict | None, name: str, operator: Mapping[str, Any]) -> list[str]:
    return list(post.getlist(name) if post is not None else operator.get(name, ()))


def _group(question: str, document: Mapping[str, Any], post: QueryDict | None) -> dict[str, Any]:
    """The settings of one question: for each choice whether the machine can, the law allows and the operator offers."""
    rows = []
    own = post.getlist("per_vm") if post is not None else document.get("per_vm", PER_VM)
    for name, switch in SWITCHES.items():
        if switch.question != question:
            continue
        lists = {part: _list(part, name, document, post) for part in PARTS}
        rows.append(
            {
                "name": name,
                "label": switch.label,
                "may_be_own": not switch.shared_by_nature,
                "own": name in own,
                "values": [
                    {"name": value.name, "label": value.label, **{part: value.name in lists[part] for part in PARTS}}
                    for value in switch.values
                ],
            }
        )
    return {"name": question, "text": QUESTIONS[question].text, "rows": rows}


def _list(part: str, name: str, document: Mapping[str, Any], post: QueryDict | None) -> Sequence[str]:
    if post is not None:
        return post.getlist(f"{part}-{name}")
    source = document if part == "capabilities" else document["operator"]
    found: Sequence[str] = source.get(part, {}).get(name, _unsaid(part, name))
    return found
