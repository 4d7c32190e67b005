"""Recognition: which of the 30 kinds of conflict these policies have on this host, each with its reason.

Findings are plain dicts in the result of `check`. Their text names no party, so it can be shown to any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

from webapp.vpms.cores import minimal_core
from webapp.vpms.documents import Host, Policy
from webapp.vpms.findings import NAMES as NAMES
from webapp.vpms.findings import Finding, absent, any_possible, common, status_of
from webapp.vpms.formats import OPERATOR
from webapp.vpms.instance import Limits
from webapp.vpms.reduction import Problem
from webapp.vpms.situation import Situation, Values
from webapp.vpms.vocabulary import RESOURCES, SWITCHES, Resource

TRIGGERS: Final = ("create", "start", "run")
OPERATOR_CODES: Final = {
    "overcommit": "C18", "balloon": "C19", "introspection": "C20", "core_dump": "C21", "live_migration": "C22",
    "snapshot": "C23",
}  # fmt: skip
SHARED_CODES: Final = {
    "page_sharing": "C06", "smt": "C07", "mitigations": "C08", "nested_virt": "C10", "pmu": "C10",
    "co_residence": "C14", "overcommit": "C18",
}  # fmt: skip
RESOURCE_CODES: Final = {
    "cores": "C12", "key_slots": "C13", "cache_ways": "C11", "bandwidth_pct": "C11", "hugepage_mib": "C18",
    "locked_mib": "C18",
}  # fmt: skip
# action: (code, switch, values that deny it)
ACTION_RULES: Final[Mapping[str, tuple[str, str, frozenset[str]]]] = {
    "reclaim": ("C19", "balloon", frozenset({"none"})),
    "introspect": ("C20", "introspection", frozenset({"none"})),
    "core_dump": ("C21", "core_dump", frozenset({"never"})),
    "snapshot": ("C23", "snapshot", frozenset({"never"})),
    "live_migrate": ("C22", "live_migration", frozenset({"never"})),
    "ksm_scan": ("C17", "page_sharing", frozenset({"off"})),
    "protection_off": ("C25", "memory_protection", frozenset({"hsvm", "snp_tdx", "sev"})),
}
ACTION_WORDS: Final[Mapping[str, str]] = {
    "reclaim": "take memory back",
    "introspect": "look into the VM",
    "core_dump": "write its memory to a dump",
    "snapshot": "store its state",
    "live_migrate": "move it to another host",
    "ksm_scan": "look for identical pages",
    "protection_off": "switch its protection off",
}
NEVER_CHECKED: Final = ("vms_not_given", "other_hosts", "future_events", "declared_only_switches")


def check(
    policies: Iterable[Policy],
    host: Host,
    *,
    now: str,
    trigger: str = "start",
    limits: Limits | None = None,
    further: Sequence[Finding] = (),
) -> dict[str, Any]:
    """Every conflict that this trigger reveals, with one of four honest statuses, what was checked and what was not.

    `further` are findings about an event (enforcement.check_event makes them).
    """
    situation = Situation(policies, host, now)
    findings = list(at_create(situation))
    not_checked = list(NEVER_CHECKED)
    if trigger == "create":
        not_checked.append("start_rules")
    else:
        findings += at_start(situation)
        if not any(finding.severity == "hard" for finding in findings):
            joint = Problem(situation).feasible(limits)
            if joint is None:
                not_checked.append("joint_feasibility")
            elif not joint:
                findings.append(joint_finding(*joint_core(situation, limits)))
    if trigger == "run":
        findings += at_run(situation)
    else:
        not_checked.append("run_rules")
    findings += further
    rows = [finding.explained(situation).as_dict(situation) for finding in findings]
    rows.sort(key=lambda row: (row["code"], row["parties"], row["switch"] or "", row["text"]))
    return {
        "status": status_of(rows),
        "conflicts": rows,
        "checked_against": {
            "at": now,
            "host": host.host,
            "host_sha256": host.sha256,
            "policies": {policy.vm: policy.sha256 for policy in situation.policies},
            "trigger": trigger,
        },
        "not_checked": not_checked,
        "event": None,
    }


def at_create(situation: Situation) -> Iterator[Finding]:
    """What one VM's own document, the law, the offers and the operator's plans reveal."""
    for policy in situation.policies:
        yield from _required_and_forbidden(situation, policy.vm)
        yield from _platform(situation, policy.vm)
        yield from _rule_anomalies(situation, policy)
        yield from _plain_dump(situation, policy.vm)
        yield from _operator_settings(situation, policy.vm)
        yield from _operator_actions(situation, policy.vm)
        yield from _law(situation, policy.vm)
    for vm in situation.expired():
        yield Finding(
            "C30", "create", "hard", (vm,), None, "The policy is outside its validity.",
            question=absent(vm, Situation.expired),
        )  # fmt: skip


def at_start(situation: Situation) -> Iterator[Finding]:
    """What shows only when VMs stand beside each other."""
    for name, vms, departed in situation.class_conflicts():
        who = "a tenant that has just left" if departed else "another tenant"
        yield Finding(
            "C09", "start", "hard", vms, None, f"{name}: this conflict class is also held by {who}.",
            question=absent((name, vms, departed), Situation.class_conflicts),
        )  # fmt: skip
    for refusing, label, other in situation.label_conflicts():
        yield Finding(
            "C10", "start", "hard", (refusing, other), None, f"{label}: a neighbour with this label is refused.",
            question=absent((refusing, label, other), Situation.label_conflicts),
        )  # fmt: skip
    for switch in SWITCHES:
        if situation.host.is_shared(switch):
            yield from _shared_values(situation, switch)
    yield from _residence(situation)
    for resource in RESOURCES:
        yield from _resource(situation, resource)
    if not any(situation.memory_fits(value) for value in situation.offered("overcommit")):
        yield Finding(
            "C18", "start", "hard", tuple(situation.vms), "overcommit", "The host may not promise this much memory.",
            question=lambda less: any(less.memory_fits(value) for value in less.offered("overcommit")),
        )  # fmt: skip
    yield from _maintenance(situation)


def at_run(situation: Situation) -> Iterator[Finding]:
    """What only time reveals: terms past their end stay in force until replaced, and their parties are told."""
    agreement = situation.host.agreement
    if agreement is not None and situation.now >= agreement["notAfter"]:
        parties = tuple(row["id"] for row in agreement["parties"])
        yield Finding(
            "C30", "run", "advice", parties, None, "The agreement has expired; its terms stay in force.", True
        )


def _required_and_forbidden(situation: Situation, vm: str) -> Iterator[Finding]:
    empty = [s for s, values in situation.permitted(vm).items() if not values]
    if empty:
        yield Finding(
            "C01", "create", "hard", (vm,), None, f"Vetoes and rules leave no value of {', '.join(empty)}.",
            question=lambda less: all(less.permitted(vm).values()),
        )  # fmt: skip


def _alone(situation: Situation, vm: str) -> Situation:
    """The VM without neighbours and without what neighbours decide: the views of C02."""
    names = [name for name in situation.background() if name.startswith("capacity:")]
    alone = Situation([situation.by_vm[vm]], situation.host, situation.now, situation.dropped, situation.base)
    return alone.without("population", *names, *(f"veto:{OPERATOR}:{s}" for s in SWITCHES))


def _platform(situation: Situation, vm: str) -> Iterator[Finding]:
    permitted = situation.permitted(vm)
    for switch, values in permitted.items():
        capable = set(situation.capable(switch))
        if values and not capable & set(values):
            yield Finding(
                "C02", "create", "hard", (vm,), switch, f"This host can do nothing acceptable for {switch}.",
                question=common(vm, switch, Situation.capable),
            )  # fmt: skip
        elif values and not capable & set(situation.best_permitted(vm, switch)):
            text = f"This host cannot do what is preferred for {switch}."
            yield Finding("C02", "create", "advice", (vm,), switch, text)
    if not all(set(values) & set(situation.offered(s)) for s, values in permitted.items()):
        return
    problem = Problem(_alone(situation, vm))
    best = problem.best_view(vm)
    if best is None:
        yield Finding(
            "C02", "create", "hard", (vm,), None, "The wishes together contradict what the platform can do.",
            question=lambda less: Problem(_alone(less, vm)).view_exists(vm),
        )  # fmt: skip
        return
    alone = problem.situation
    wished = sum(max(alone.score(vm, s, v) for v in alone.best_possible(vm, s)) for s in SWITCHES)
    if best < wished:
        yield Finding("C02", "create", "advice", (vm,), None, "The platform cannot give all preferred values at once.")
    yield from _floor(situation, vm, best)


def _floor(situation: Situation, vm: str, best: int) -> Iterator[Finding]:
    least = situation.least(vm)

    def reachable(less: Situation) -> bool:
        found = Problem(_alone(less, vm)).best_view(vm)
        return found is not None and (found >= least or not less.holds(f"reservation:{vm}"))

    if least > best:
        text = f"At most {best // 1000} of 1000 points can be had here; the least accepted is {least // 1000}."
        yield Finding("C04", "create", "hard", (vm,), None, text, question=reachable)


def _rule_anomalies(situation: Situation, policy: Policy) -> Iterator[Finding]:
    for index, rule in enumerate(policy.rules):
        free = {s: set(SWITCHES[s].names) - situation.vetoed(policy.vm, s) for s in (rule.when, rule.then)}
        earlier = policy.rules[:index]
        if not rule.when_in & free[rule.when]:
            why = "can never apply, because all its conditions are vetoed"
        elif free[rule.then] <= rule.then_in:
            why = "changes nothing, because no other value is permitted"
        elif any(
            (e.when, e.then) == (rule.when, rule.then) and e.when_in >= rule.when_in and e.then_in <= rule.then_in
            for e in earlier
        ):
            why = "is contained in an earlier rule"
        else:
            continue
        yield Finding("C03", "create", "advice", (policy.vm,), None, f"{index}: this rule {why}.")


def _plain_dump(situation: Situation, vm: str) -> Iterator[Finding]:
    plain = situation.best_permitted(vm, "core_dump") == ("allowed",)
    if plain and "none" not in situation.best_permitted(vm, "memory_protection"):
        text = "Plain memory dumps are preferred together with protected memory."
        yield Finding("C05", "create", "advice", (vm,), "core_dump", text)


def _operator_settings(situation: Situation, vm: str) -> Iterator[Finding]:
    """O(s): able and lawful, but not on offer."""
    for switch in SWITCHES:
        code = OPERATOR_CODES.get(switch, "C17")
        able, lawful = set(situation.capable(switch)), set(situation.lawful(switch))
        offered, values = set(situation.offered(switch)), set(situation.permitted(vm)[switch])
        best = set(situation.best_permitted(vm, switch))
        if values & able and values & lawful and not values & offered:
            yield Finding(
                code, "create", "hard", (vm, OPERATOR), switch, f"No acceptable choice for {switch} is offered here.",
                question=common(vm, switch, Situation.offered),
            )  # fmt: skip
        elif best & able and best & lawful and not best & offered:
            text = f"What is preferred for {switch} is not offered here."
            yield Finding(code, "create", "negotiable", (vm, OPERATOR), switch, text)


def _operator_actions(situation: Situation, vm: str) -> Iterator[Finding]:
    """E(x): the operator plans what every preferred value denies."""
    for action, (code, switch, denying) in ACTION_RULES.items():
        best = situation.best_possible(vm, switch)
        if action in situation.host.actions and best and set(best) <= denying:
            text = f"The operator may want to {ACTION_WORDS[action]}; what is preferred for {switch} refuses that."
            yield Finding(code, "create", "possible", (vm, OPERATOR), switch, text)


def _law(situation: Situation, vm: str) -> Iterator[Finding]:
    for switch in SWITCHES:
        values, lawful = situation.permitted(vm)[switch], set(situation.lawful(switch))
        if values and not lawful & set(values):
            yield Finding(
                "C24", "create", "hard", (vm, OPERATOR), switch, f"The law forbids any acceptable {switch}.",
                question=common(vm, switch, Situation.lawful),
            )  # fmt: skip
        elif values and not lawful & set(situation.best_permitted(vm, switch)):
            text = f"A law that binds the operator forbids what is preferred for {switch}."
            yield Finding("C24", "create", "advice", (vm, OPERATOR), switch, text)


def _shared_values(situation: Situation, switch: str) -> Iterator[Finding]:
    """V(s): one value for all, but no common one, or no common preferred one."""
    code = SHARED_CODES.get(switch, "C16")
    allowed = {party: set(situation.possible(party, switch)) for party in situation.parties}
    allowed = {party: values for party, values in allowed.items() if values}
    wished = {party: set(situation.best_possible(party, switch)) for party in allowed}
    if len(allowed) < 2:
        return
    parties = smallest_disjoint(allowed)
    if parties:
        yield Finding(
            code, "start", "hard", parties, switch, f"No choice for {switch} is acceptable to everyone.",
            question=lambda less: bool(set.intersection(*(set(less.possible(p, switch)) for p in parties))),
        )  # fmt: skip
        return
    parties = smallest_disjoint(wished)
    if parties:
        yield Finding(code, "start", "negotiable", parties, switch, f"No choice for {switch} is what everyone prefers.")


def smallest_disjoint(sets: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The smallest set of parties whose values already have nothing in common; ties: the first sorted list of ids.

    Parties with equal values are interchangeable, so only the first of each is tried.
    """
    first: dict[frozenset[str], str] = {}
    for party in sorted(sets):
        first.setdefault(frozenset(sets[party]), party)
    for size in range(2, len(first) + 1):
        found = [
            tuple(sorted(first[values] for values in chosen))
            for chosen in combinations(first, size)
            if not frozenset.intersection(*chosen)
        ]
        if found:
            return min(found)
    return ()


def _residence(situation: Situation) -> Iterator[Finding]:
    switch, kept = "co_residence", situation.residence()
    for vm in situation.vms:
        values = [v for v in situation.permitted(vm)[switch] if v in situation.offered(switch)]
        if values and not kept & set(values):
            yield Finding(
                "C14", "start", "hard", (vm,), switch, "The neighbours on this host exclude every permitted value.",
                question=any_possible(vm, switch),
            )  # fmt: skip
        elif values and not kept & set(situation.best_of(vm, switch, values)):
            text = "The neighbours on this host exclude the preferred value."
            yield Finding("C14", "start", "negotiable", (vm,), switch, text)


def _resource(situation: Situation, resource: Resource) -> Iterator[Finding]:
    """R(r): more is needed at least, or preferred at least, than there is."""
    code, capacity = RESOURCE_CODES[resource.name], situation.host.capacity[resource.capacity]
    taking = [vm for vm in situation.vms if situation.possible(vm, resource.switch)]

    def least(where: Situation, vm: str, values: Callable[[str, str], Values]) -> int:
        return min((where.use(resource, vm, value) for value in values(vm, resource.switch)), default=0)

    def fits(less: Situation) -> bool:
        limit = less.capacity(resource)
        return limit is None or sum(least(less, vm, less.possible) for vm in taking) <= limit

    needed = {vm: least(situation, vm, situation.possible) for vm in taking}
    wished = {vm: least(situation, vm, situation.best_possible) for vm in taking}
    if sum(needed.values()) > capacity:
        text = f"At least {sum(needed.values())} of {resource.name} are needed; there are {capacity}."
        parties = tuple(vm for vm, amount in needed.items() if amount)
        yield Finding(code, "start", "hard", parties, resource.switch, text, question=fits)
    elif sum(wished.values()) > capacity:
        text = f"{sum(wished.values())} of {resource.name} are preferred; there are {capacity}."
        parties = tuple(vm for vm, amount in wished.items() if amount)
        yield Finding(code, "start", "negotiable", parties, resource.switch, text)


def _maintenance(situation: Situation) -> Iterator[Finding]:
    needed = situation.host.maintenance_min
    common = [(0, 10080)]
    for policy in situation.policies:
        if policy.maintenance is not None:
            windows = _merged(policy.maintenance)
            pairs = [(max(a, c), min(b, d)) for a, b in common for c, d in windows]
            common = [(start, end) for start, end in pairs if start < end]
    if needed and not any(end - start >= needed for start, end in common):
        text = f"No {needed} minutes in a row lie in everybody's maintenance window."
        yield Finding("C15", "start", "possible", tuple(situation.vms), None, text)


def _merged(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Windows that touch or overlap become one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(windows):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def joint_core(situation: Situation, limits: Limits | None = None) -> tuple[list[str], list[str]]:
    """Which demands together leave no feasible outcome at all (C28 and `negotiate`)."""
    return minimal_core(
        situation, lambda less: Problem(less).feasible(limits), situation.demands(), situation.background()
    )


def joint_finding(core: Sequence[str], background: Sequence[str]) -> Finding:
    """C28 for this core."""
    parties = tuple(sorted({demand.split(":")[1] for demand in core}))
    text = "Each demand could be met, but not all together."
    return Finding("C28", "start", "hard", parties, None, text, core=tuple(core), background=tuple(background))
