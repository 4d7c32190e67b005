"""The gate in front of the machine: which values are in force, and whether a request of the operator may take effect.

Rows of the table are data plus one small rule each; nothing here acts. A new kind of event is one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from webapp.errors import BadInput, Fault, VpmsError
from webapp.vpms.conflicts import check
from webapp.vpms.documents import Host, Policy, read_host, read_policy
from webapp.vpms.findings import Finding
from webapp.vpms.formats import OPERATOR
from webapp.vpms.instance import Limits
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import DECLARED_ONLY, SWITCHES

Values = Mapping[str, Mapping[str, str]]  # VM -> switch -> value in force, shared switches included
BLOCKING: Final = ("hard", "negotiable")
FLUSH: Final[Mapping[str, str]] = {"full": "always", "default": "vm_change", "off": "tagged"}
DETAIL: Final[Mapping[str, str]] = {"full": "pages", "metadata": "kinds", "none": "refusals"}


@dataclass(frozen=True)
class Decision:
    """The gate's answer: allow, deny, ask (held without effect until the owner consents), advice or breach."""

    decision: str
    code: str | None
    switch: str | None
    value_in_force: str | None
    text: str
    holders: tuple[str, ...] = ()  # VMs that the event does not name and that hold the value concerned


class _Request(NamedTuple):
    """What a rule of the table may look at."""

    event: Mapping[str, Any]
    one_tenant: bool
    protected: bool  # does any VM concerned have guarded memory?
    zone: str | None


class _Row(NamedTuple):
    """Which switch answers, with which code, and which values of it allow the event."""

    switch: str
    code: str
    allows: Callable[[str, _Request], bool]
    refusal: str
    asks: frozenset[str] = frozenset()


def _size_allows(value: str, request: _Request) -> bool:
    sizes = SWITCHES["hugepages"].names  # largest first
    return sizes.index(request.event["size"]) <= sizes.index(value)


def _move_allows(value: str, request: _Request) -> bool:
    event = request.event
    if value == "same_zone_attested":
        return bool(event["mode"] == "precopy" and event["zone"] == request.zone and event["attested"])
    return value == "postcopy" or (value == "precopy" and event["mode"] == "precopy")


def _image_allows(value: str, request: _Request) -> bool:
    return value == "allowed" or (value == "encrypted" and bool(request.event["encrypted"]))


_READS: Final[Mapping[str, _Row]] = {
    "introspect": _Row(
        "introspection", "C20", lambda v, r: v == "full" or (v == "attested_probe" and r.event["probe"]),
        "the contents were not read",
    ),
    "core_dump": _Row("core_dump", "C21", lambda v, r: v == "allowed", "the contents were not read"),
    "snapshot": _Row("snapshot", "C23", lambda v, r: v == "allowed", "the contents were not read"),
    "other": _Row("memory_protection", "C17", lambda v, r: v == "none", "the contents were not read"),
}  # fmt: skip
_ROWS: Final[Mapping[str, _Row]] = {
    "page_merge": _Row(
        "page_sharing", "C17",
        lambda v, r: not r.protected and (v == "on" or (v == "same_tenant" and r.one_tenant)), "the pages stay apart",
    ),
    "reclaim": _Row("balloon", "C19", lambda v, r: v == "on", "no page was taken", frozenset({"ask"})),
    "swap_out": _Row(
        "swap", "C17", lambda v, r: v == "plain" or (v == "encrypted" and r.event["sealed"]), "no image was made",
    ),
    "core_dump": _Row(
        "core_dump", "C21", _image_allows, "no image was made",
    ),
    "snapshot": _Row(
        "snapshot", "C23", _image_allows, "no image was made",
    ),
    "migrate": _Row("live_migration", "C22", _move_allows, "the VM stays where it is"),
    "leaf_size": _Row("hugepages", "C17", _size_allows, "the smaller pages were not mapped"),
    "co_schedule": _Row(
        "smt", "C17", lambda v, r: v == "shared" or (v == "core_scheduling" and r.one_tenant),
        "the other thread stays idle",
    ),
    "place_vcpu": _Row("cpu_pinning", "C17", lambda v, r: v == "shared", "the core keeps the VM that it has"),
    "nested_enter": _Row("nested_virt", "C10", lambda v, r: v == "on", "no VM is started inside"),
    "pmu_read": _Row("pmu", "C10", lambda v, r: v == "on", "the counter reads zero"),
}  # fmt: skip


def gate_switches() -> dict[str, list[str]]:
    """For each switch that the gate asks, the kinds of events before which it does."""
    found: dict[str, list[str]] = {}
    for kind, row in (*_ROWS.items(), *((f"hv_read for {purpose}", row) for purpose, row in _READS.items())):
        found.setdefault(row.switch, []).append(kind)
    return found


def values_in_force(policies: Iterable[Policy], host: Host, now: str) -> dict[str, dict[str, str]]:
    """Each VM's view: the agreement's values; without agreement the strictest value of a_i(s)."""
    situation = Situation(policies, host, now)
    found = {}
    for vm in situation.vms:
        agreed = situation.view(vm, host.agreement["assignment"]) if host.agreement else None
        strictest = {s: (situation.possible(vm, s) or situation.offered(s))[0] for s in SWITCHES}
        found[vm] = agreed or strictest
    return found


def decide(
    *,
    event: Mapping[str, Any],
    values: Values,
    tenants: Mapping[str, str] | None = None,
    zone: str | None = None,
    start_check: Mapping[str, Any] | None = None,
    covered: bool = False,
) -> Decision:
    """May this event take effect? Asked before it has any.

    `values` are those in force (values_in_force, or of the agreement) of the VMs named, or for an event of the platform
    of all that run; `tenants` (VM -> tenant) is needed where two VMs meet, `zone` of the host to migrate, `start_check`
    (conflicts.check with the running VMs) or `covered` (an agreement covers the VM) to start.
    """
    kind = event["kind"]
    if kind == "vm_stop":
        return Decision("allow", None, None, None, "A VM may always be stopped by its owner.")
    if kind == "vm_start":
        return _start(start_check, covered)
    if kind in ("host_mode", "capability_lost"):
        return _platform(event, values)
    row = _READS[event["purpose"]] if kind == "hv_read" else _ROWS.get(kind)
    if row is None:
        raise VpmsError("unknown_event", 422, {"kind": kind}, f"the gate knows no event {kind}")
    concerned = [str(event[field]) for field in ("vm", "other") if field in event]
    missing = [vm for vm in concerned if vm not in values]
    if missing:
        raise VpmsError("unknown_vm", 404, {"vm": missing[0]}, f"no value is in force for {missing[0]}")
    owners = {(tenants or {}).get(vm, vm) for vm in concerned}
    protected = any(values[vm]["memory_protection"] != "none" for vm in concerned)
    request = _Request(event, len(owners) == 1, protected, zone)
    for vm in concerned:  # an event that concerns two VMs needs both values to allow it
        value = values[vm][row.switch]
        if not row.allows(value, request):
            answer = "ask" if value in row.asks else "deny"
            held = "it waits for the owner" if answer == "ask" else row.refusal
            return Decision(answer, row.code, row.switch, value, f"{row.switch} is {value}, so {held}.")
    value = values[concerned[0]][row.switch]
    return Decision("allow", None, row.switch, value, f"{row.switch} is {value}, which allows it.")


def _platform(event: Mapping[str, Any], values: Values) -> Decision:
    """A change of the platform: may those who hold the value concerned be deprived of it, and must they be asked?"""
    mode = event.get("mode")
    switch, value = ("memory_protection", "hsvm") if mode else (str(event["switch"]), str(event["value"]))
    holders = tuple(sorted(vm for vm, view in values.items() if view[switch] == value))
    if mode == "hsvm" or not holders:
        return Decision("allow", None, switch, value if holders else None, "Nobody who runs loses anything by this.")
    if mode is None:
        text = f"{switch} {value} is in force and was lost; its owners choose what follows."
        return Decision("breach", "C26", switch, value, text, holders)
    answer, held = ("ask", "it waits for the owners") if mode == "smm_prototype" else ("deny", "protection stays on")
    return Decision(answer, "C25", switch, value, f"{switch} {value} is in force, so {held}.", holders)


def _start(start_check: Mapping[str, Any] | None, covered: bool) -> Decision:
    if covered:
        return Decision("allow", None, None, None, "An agreement covers this VM.")
    if start_check is None:
        raise VpmsError("check_missing", 500, message="a start is decided on its check")
    for row in start_check["conflicts"]:
        if row["severity"] in BLOCKING:
            text = "Only this start is held; nobody who runs is touched."
            return Decision("deny", row["code"], row["switch"], None, text)
    return Decision("allow", None, None, None, "The check with the running VMs found nothing that holds the start.")


def check_event(
    policies: Sequence[Policy], host: Host, event: Mapping[str, Any], *, now: str, limits: Limits | None = None
) -> dict[str, Any]:
    """The check at run with this event: the gate's answer and the conflict that a refusal is."""
    by_vm = {policy.vm: policy for policy in policies}
    for field in ("vm", "other"):
        if field in event and event[field] not in by_vm:
            raise BadInput([Fault(f"$.{field}", "is not the VM of a given policy")])
    situation = Situation(policies, host, now)
    decision = _decision(situation, event, limits)
    findings = [] if event["kind"] == "vm_start" else list(_refusal(situation, event, decision))
    moved = _target_findings(by_vm[event["vm"]], event["target"], now, limits) if "target" in event else []
    if moved and decision.decision == "allow":
        text = "The VMs at the target would be in conflict with it."
        decision = Decision("deny", "C29", decision.switch, decision.value_in_force, text)
    result = check(policies, host, now=now, trigger="run", limits=limits, further=[*findings, *moved])
    result["event"] = {
        "kind": event["kind"],
        "decision": decision.decision,
        "code": decision.code,
        "value_in_force": decision.value_in_force,
    }
    return result


def _decision(situation: Situation, event: Mapping[str, Any], limits: Limits | None) -> Decision:
    """The gate's answer with everything that it needs to know from the documents."""
    host, kind, vm = situation.host, event["kind"], event.get("vm")
    if kind == "policy_changed":
        return _late_change(situation, str(vm))
    if kind == "clock":
        if host.agreement is None or situation.now < host.agreement["notAfter"]:
            return Decision("allow", None, None, None, "No terms have run out.")
        return Decision("advice", "C30", None, None, "The terms have run out; they stay in force until replaced.")
    values = values_in_force(situation.policies, host, situation.now)
    if vm is None:
        values = {name: view for name, view in values.items() if name in host.running}
    agreed = {row["id"] for row in host.agreement["parties"]} if host.agreement else set()
    return decide(
        event=event,
        values=values,
        tenants={policy.vm: policy.tenant for policy in situation.policies},
        zone=host.zone,
        start_check=check(situation.policies, host, now=situation.now, limits=limits) if kind == "vm_start" else None,
        covered=vm in agreed,
    )


def _late_change(situation: Situation, vm: str) -> Decision:
    """C27: a running VM's wishes were changed, and what is in force now breaks a veto or falls below its least."""
    agreement = situation.host.agreement
    rows = agreement["parties"] if agreement and vm in situation.host.running else []
    agreed = next((row["policy_version"] for row in rows if row["id"] == vm), None)
    if agreed is not None and situation.by_vm[vm].version > agreed:
        view = values_in_force(situation.policies, situation.host, situation.now)[vm]
        broken = [switch for switch, value in view.items() if value in situation.vetoed(vm, switch)]
        if broken:
            return Decision("ask", "C27", None, None, f"The changed wishes veto what is in force for {broken[0]}.")
        if situation.utility(vm, view) < situation.least(vm):
            return Decision("ask", "C27", None, None, "What is in force is worth less than the changed wishes accept.")
    return Decision("allow", None, None, None, "What is in force agrees with the changed wishes.")


def _refusal(situation: Situation, event: Mapping[str, Any], decision: Decision) -> Iterable[Finding]:
    """The run-time conflict that a denied, asked or broken event is."""
    severity = {"deny": "hard", "ask": "negotiable", "breach": "hard"}.get(decision.decision)
    if severity is None or decision.code is None:
        return
    parties = {str(event[field]) for field in ("vm", "other") if field in event} | set(decision.holders)
    if decision.code == "C10" and decision.switch:
        parties |= {vm for vm in situation.vms if situation.best_possible(vm, decision.switch) == ("off",)}
    elif decision.code != "C27":
        parties.add(OPERATOR)
    text = f"{event['kind']}: {decision.text}"
    yield Finding(decision.code, "run", severity, tuple(sorted(parties)), decision.switch, text, dynamic=True)


def _target_findings(mover: Policy, target: Mapping[str, Any], now: str, limits: Limits | None) -> list[Finding]:
    """C29: what the start check at the target finds with the mover there; the parties are the VMs concerned."""
    there = [policy for policy in map(read_policy, target["policies"]) if policy.vm != mover.vm]
    found = check([*there, mover], read_host(target["host"]), now=now, limits=limits)
    return [
        Finding(
            "C29",
            "run",
            "hard",
            tuple(party for party in row["parties"] if party != OPERATOR),
            None,
            f"{row['code']}: {row['text']}",
            dynamic=True,
        )  # fmt: skip
        for row in found["conflicts"]
        if row["severity"] in BLOCKING
    ]


def not_enforced(values: Values) -> list[str]:
    """Agreed switches that the simulated machine cannot keep: declared only, and encrypted memory that it lacks."""
    lacking = any(view.get("memory_protection") in ("snp_tdx", "sev") for view in values.values())
    return sorted(DECLARED_ONLY | ({"memory_protection"} if lacking else set()))


def scenario_options(values: Values, host: Host) -> dict[str, Any]:
    """What the machine's run must be given so that these values are kept.

    A host that offers hsvm runs the architecture row `hsvm`, any other the row `nested`. Flushing and the promised
    memory are the host's, because these switches have one value there.
    """
    shared = next(iter(values.values()), {})
    overcommit = shared.get("overcommit", "none")
    return {
        "architecture": "hsvm" if "hsvm" in host.offered("memory_protection") else "nested",
        "flush": FLUSH[shared.get("mitigations", "full")],
        "overcommit_percent": {"none": 100, "x125": 125, "x150": 150}[overcommit],
        "not_enforced": not_enforced(values),
        "vms": {
            vm: {
                "protected": view["memory_protection"] == "hsvm",
                "page_size": 1 if view["hugepages"] == "4k" else 512,
                "swap": view["swap"],
                "own_core": view["cpu_pinning"] == "dedicated",
                "log_detail": DETAIL[view["audit_level"]],
            }
            for vm, view in values.items()
        },
    }
