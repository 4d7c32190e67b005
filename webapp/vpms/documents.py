"""Strict reading of policy, host and event documents: refused whole with path and reason, or understood completely."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.strictjson import member
from webapp.vpms.formats import CERTIFICATE, EVENT, FLEET, GOAL, HOST, POLICY, PREDICATE
from webapp.vpms.instance import INSTANCE
from webapp.vpms.shapes import Faults, Shape, in_document_order, is_integer
from webapp.vpms.vocabulary import PER_VM, RESOURCES, SWITCHES

KIB: Final = 1024


@dataclass(frozen=True)
class Rule:
    """If `when` has one of `when_in`, `then` must have one of `then_in`."""

    when: str
    when_in: frozenset[str]
    then: str
    then_in: frozenset[str]


@dataclass(frozen=True)
class Policy:
    """One VM's policy, understood; `document` is what was given and what the digest is over."""

    document: Mapping[str, Any]
    vm: str
    tenant: str
    version: int
    size: Mapping[str, int]
    trust_class: str
    classes: frozenset[str]
    exhibits: frozenset[str]
    refuses: frozenset[str]
    switches: Mapping[str, Mapping[str, Any]]
    rules: tuple[Rule, ...]
    disagreement: Mapping[str, Any]
    delegate: Mapping[str, Any]
    maintenance: tuple[tuple[int, int], ...] | None
    not_before: str | None
    not_after: str | None

    @cached_property
    def sha256(self) -> str:
        return strictjson.digest(self.document)

    def valid_at(self, now: str) -> bool:
        """Inside its validity: notBefore <= now < notAfter. Times of this form compare as strings."""
        return (self.not_before is None or self.not_before <= now) and (self.not_after is None or now < self.not_after)


@dataclass(frozen=True)
class Host:
    """One host and its operator's terms, understood; `document` is what was given and what the digest is over."""

    document: Mapping[str, Any]
    host: str
    zone: str
    attested: bool
    capabilities: Mapping[str, tuple[str, ...]]
    capacity: Mapping[str, int]
    per_vm: frozenset[str]
    law: Mapping[str, tuple[str, ...]]
    offers: Mapping[str, tuple[str, ...]]
    actions: frozenset[str]
    maintenance_min: int
    preferences: Mapping[str, Any] | None
    prices: Mapping[str, int]
    running: frozenset[str]
    departed: tuple[Mapping[str, str], ...]
    agreement: Mapping[str, Any] | None

    @cached_property
    def sha256(self) -> str:
        return strictjson.digest(self.document)

    def is_shared(self, switch: str) -> bool:
        return SWITCHES[switch].shared_by_nature or switch not in self.per_vm

    def offered(self, switch: str) -> tuple[str, ...]:
        """D(s) = capabilities, law and offers together, strict to lax; never empty in a host that was read."""
        return _offered(self.document, switch)


def read_policy(source: bytes | str | Mapping[str, Any]) -> Policy:
    """The policy in this text or decoded object, or BadInput naming every fault (at most 20)."""
    document = _read(source, POLICY, _policy_faults, max_bytes=64 * KIB, max_depth=8)
    labels, validity = document.get("labels", {}), document.get("validity", {})
    windows = document.get("maintenance")
    return Policy(
        document=document,
        vm=document["vm"],
        tenant=document["tenant"],
        version=document["version"],
        size={"cache_ways": 1, "bandwidth_pct": 10, **document["size"]},
        trust_class=document.get("trustClass", "default"),
        classes=frozenset(labels.get("conflictClass", ())),
        exhibits=frozenset(labels.get("exhibits", ())),
        refuses=frozenset(labels.get("refuses", ())),
        switches=document["switches"],
        rules=tuple(_rule(item) for item in document.get("rules", ())),
        disagreement={"budget": 0, **document["disagreement"]},
        delegate={"deadline_s": 86400, "onTimeout": "reject", **document["delegate"]},
        maintenance=None if windows is None else tuple((start, end) for start, end in windows),
        not_before=validity.get("notBefore"),
        not_after=validity.get("notAfter"),
    )


def read_host(source: bytes | str | Mapping[str, Any]) -> Host:
    """The host in this text or decoded object, or BadInput naming every fault (at most 20)."""
    return _host(_read(source, HOST, _host_faults))


def read_event(source: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The event in this text or decoded object, or BadInput. `migrate` may carry a `target` of host and policies."""
    return dict(_read(source, EVENT, _target_faults))


def read_goal(source: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The goal in this text or decoded object, or BadInput. Who shares or opposes it is computed (goals.relations)."""
    document = dict(_read(source, GOAL, lambda document, root, faults: None, max_depth=8))
    return {**document, "mutual": [], "conflicting": []}


def check_set(policies: Sequence[Policy], host: Host) -> None:
    """1 to 64 policies of different VMs, and one for each VM that runs on the host; otherwise BadInput."""
    names = [policy.vm for policy in policies]
    faults = [
        Fault("$.vm", f"{name} is the VM of two policies") for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if not 1 <= len(policies) <= 64:
        faults.append(Fault("$", "1 to 64 policies are expected"))
    missing = sorted(host.running - set(names))
    faults += [Fault("$.running", f"{name} runs on this host, but its policy is not given") for name in missing]
    if faults:
        raise BadInput(faults)


def offered_values(host: Host, size: Mapping[str, int]) -> dict[str, list[str]]:
    """For each switch the values that this host can give to a VM of this size if alone (plain answers use them)."""
    offered = {name: list(host.offered(name)) for name in SWITCHES}
    for resource in RESOURCES:
        need = 1 if resource.amount is None else {"cache_ways": 1, "bandwidth_pct": 10, **size}[resource.amount]
        if need > host.capacity[resource.capacity]:
            left = [name for name in offered[resource.switch] if name not in resource.values]
            offered[resource.switch] = left or offered[resource.switch]
    return offered


SCHEMAS: Final[Mapping[str, tuple[Shape, str]]] = {
    "policy": (POLICY, "weights sum to 1000; exhibits and refuses differ; maintenance windows end after they start"),
    "host": (HOST, "capabilities, law and offers of a switch have a value in common; preferences: shared switches"),
    "event": (EVENT, "the policies of a target are of different VMs, and those that run there are among them"),
    "goal": (GOAL, "mutual and conflicting are computed and never believed from a document"),
    "instance": (INSTANCE, "tables have a row for each issue and a number for each value; indices name what exists"),
    "fleet": (FLEET, "each number of hosts is the index of a template"),
    "agreement": (PREDICATE, "the predicate of an in-toto Statement"),
    "certificate": (CERTIFICATE, "what an auditor recomputes; printed by `vpms negotiate`"),
}


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a document kind. Rules between members (weights sum to 1000, ...) are said in `$comment`."""
    shape, comment = SCHEMAS[kind]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": comment, **shape.schema()}


def _read(
    source: bytes | str | Mapping[str, Any],
    shape: Shape,
    further: Callable[[Mapping[str, Any], str, Faults], None],
    *,
    max_bytes: int = strictjson.MIB,
    max_depth: int = 16,
) -> Any:
    """The document, if it has this shape and `further` finds nothing; otherwise BadInput with every fault in order."""
    if isinstance(source, bytes | str):
        document, faults = strictjson.parse(source, max_bytes=max_bytes, max_depth=max_depth)
    else:
        strictjson.check(source, max_depth=max_depth)
        document, faults = source, []
    known = {fault.path for fault in faults}
    found: Faults = []
    shape.check(document, "$", found)
    faults += [fault for fault in found if fault.path not in known]
    if isinstance(document, dict):
        further(document, "$", faults)
    if faults:
        raise BadInput(in_document_order(document, faults))
    return document


def _sound(path: str, faults: Faults) -> bool:
    """Is nothing wrong in this part, so that what its members say about each other can be looked at?"""
    return not any(fault.path == path or fault.path.startswith((f"{path}.", f"{path}[")) for fault in faults)


def _rule(item: Mapping[str, Any]) -> Rule:
    when, then = item["when"], item["then"]
    return Rule(when["switch"], frozenset(when["in"]), then["switch"], frozenset(then["in"]))


def _host(document: Mapping[str, Any]) -> Host:
    operator = document["operator"]
    unsaid = {name: switch.unless_said for name, switch in SWITCHES.items() if switch.unless_said}
    return Host(
        document=document,
        host=document["host"],
        zone=document["zone"],
        attested=document["attested"],
        capabilities={**unsaid, **{name: tuple(row) for name, row in document.get("capabilities", {}).items()}},
        capacity=document["capacity"],
        per_vm=frozenset(document.get("per_vm", PER_VM)),
        law={name: tuple(row) for name, row in operator.get("law", {}).items()},
        offers={name: tuple(row) for name, row in operator.get("offers", {}).items()},
        actions=frozenset(operator.get("actions", ())),
        maintenance_min=operator.get("maintenance_min", 0),
        preferences=operator.get("preferences"),
        prices=operator.get("prices", {}),
        running=frozenset(document.get("running", ())),
        departed=tuple(document.get("departed", ())),
        agreement=document.get("agreement"),
    )


def _offered(document: Mapping[str, Any], switch: str) -> tuple[str, ...]:
    """D(s) of a host document whose lists are of the right shape."""
    operator = document["operator"]
    lists = [document.get("capabilities", {}), operator.get("law", {}), operator.get("offers", {})]
    known = SWITCHES[switch]
    allowed = [part.get(switch) for part in lists[1:]]
    allowed.append(lists[0].get(switch, known.unless_said))
    return tuple(name for name in known.names if all(part is None or name in part for part in allowed))


def _weight_fault(switches: Any, path: str, faults: Faults) -> None:
    """A wrong sum is named wherever all weights can be read, whatever else is wrong with the wishes."""
    wishes = list(switches.values()) if isinstance(switches, dict) else []
    given = [wish.get("weight") for wish in wishes if isinstance(wish, dict)]
    weights = [weight for weight in given if isinstance(weight, int) and is_integer(weight) and 0 <= weight <= 1000]
    if len(weights) == len(wishes) > 0 and sum(weights) != 1000:
        faults.append(Fault(path, f"the weights sum to {sum(weights)}; they must sum to exactly 1000"))


def _policy_faults(document: Mapping[str, Any], root: str, faults: Faults) -> None:
    """Faults between members; each part is looked at if its own shape is right."""
    for key, value in document.items():
        path = member(root, key)
        if key == "switches":
            _weight_fault(value, path, faults)
        elif not _sound(path, faults):
            continue
        elif key == "labels":
            both = sorted(set(value.get("exhibits", ())) & set(value.get("refuses", ())))
            faults += [
                Fault(f"{path}.refuses", f"{label} is also among the labels that this VM exhibits") for label in both
            ]
        elif key == "maintenance":
            for index, (start, end) in enumerate(value):
                if start >= end:
                    faults.append(Fault(f"{path}[{index}]", "must end after it starts"))


def _host_faults(document: Mapping[str, Any], root: str, faults: Faults) -> None:
    parts = ("capabilities", "operator.law", "operator.offers")
    operator = document.get("operator")
    if not isinstance(operator, dict):
        return
    if all(_sound(f"{root}.{part}", faults) for part in parts):
        for name in SWITCHES:
            if not _offered(document, name):
                part = next((key for key in ("offers", "law") if name in operator.get(key, {})), None)
                path = f"{root}.operator.{part}.{name}" if part else f"{root}.capabilities.{name}"
                faults.append(Fault(path, "leaves no value that capabilities, law and offers have in common"))
    preferences = operator.get("preferences")
    wishes = preferences.get("switches") if isinstance(preferences, dict) else None
    if isinstance(wishes, dict) and _sound(f"{root}.per_vm", faults):
        path, own = f"{root}.operator.preferences.switches", document.get("per_vm", PER_VM)
        faults += [
            Fault(member(path, name), "is not a shared switch on this host")
            for name in wishes
            if name in SWITCHES and name in own
        ]
        _weight_fault(wishes, path, faults)


def _target_faults(document: Mapping[str, Any], root: str, faults: Faults) -> None:
    """What is wrong between the members of a migration's target, and between its policies and its host."""
    target = document.get("target")
    if not isinstance(target, dict) or document.get("kind") != "migrate":
        return
    path, host, policies = f"{root}.target", target.get("host"), target.get("policies")
    if isinstance(host, dict):
        _host_faults(host, f"{path}.host", faults)
    for index, policy in enumerate(policies if isinstance(policies, list) else ()):
        if isinstance(policy, dict):
            _policy_faults(policy, f"{path}.policies[{index}]", faults)
    if _sound(path, faults) and isinstance(host, dict) and isinstance(policies, list):
        names = [policy["vm"] for policy in policies]
        for index, name in enumerate(names):
            if name in names[:index]:
                faults.append(Fault(f"{path}.policies[{index}].vm", f"{name} is the VM of two policies"))
        for index, name in enumerate(host.get("running", ())):
            if name not in {*names, document.get("vm")}:
                faults.append(Fault(f"{path}.host.running[{index}]", f"the policy of {name} is not given"))
