"""A finding: one conflict with its code, parties, severity and, if it is hard, the minimal core that explains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from webapp.vpms.cores import Holds, minimal_core
from webapp.vpms.formats import OPERATOR
from webapp.vpms.situation import Situation, Values

NAMES: Final[Mapping[str, str]] = {
    "C01": "self_required_and_forbidden",
    "C02": "self_platform_implication",
    "C03": "self_rule_anomaly",
    "C04": "self_floor_unreachable",
    "C05": "self_plain_dump_of_protected_memory",
    "C06": "page_sharing_mismatch",
    "C07": "smt_mismatch",
    "C08": "mitigations_mismatch",
    "C09": "conflict_of_interest",
    "C10": "neighbour_refused",
    "C11": "cache_or_bandwidth_exceeded",
    "C12": "cores_exceeded",
    "C13": "key_slots_exhausted",
    "C14": "co_residence_mismatch",
    "C15": "maintenance_windows_disjoint",
    "C16": "uniform_setting_mismatch",
    "C17": "operator_setting_mismatch",
    "C18": "memory_commitment",
    "C19": "balloon_reclaim",
    "C20": "introspection_obligation",
    "C21": "core_dump_refused",
    "C22": "evacuation_refused",
    "C23": "snapshot_refused",
    "C24": "provider_law",
    "C25": "protection_mode_off",
    "C26": "platform_fact_changed",
    "C27": "late_policy_change",
    "C28": "joint_infeasible",
    "C29": "migration_moves_conflict",
    "C30": "agreement_expired",
}
TITLES: Final[Mapping[str, str]] = {
    "C01": "The own wishes leave nothing over",
    "C02": "The host cannot do what is wished",
    "C03": "A rule that never applies",
    "C04": "The minimum is out of reach here",
    "C05": "Plain dumps of protected memory",
    "C06": "Sharing identical pages",
    "C07": "Sharing a core",
    "C08": "Wiping traces against speed",
    "C09": "A competitor on the same host",
    "C10": "What neighbours may do",
    "C11": "More cache or bandwidth wished than there is",
    "C12": "More cores wished than there are",
    "C13": "More encryption keys wished than there are",
    "C14": "Who else is on the host",
    "C15": "No common time for maintenance",
    "C16": "One setting for the whole host",
    "C17": "The operator does not offer it",
    "C18": "More memory promised than there is",
    "C19": "Taking memory back",
    "C20": "Looking into a VM",
    "C21": "Writing memory to a dump",
    "C22": "Moving to another host",
    "C23": "Storing a VM's state",
    "C24": "A law that the operator must keep",
    "C25": "Protection would be switched off",
    "C26": "The platform has changed",
    "C27": "Wishes changed too late",
    "C28": "All together cannot be met",
    "C29": "Moving would bring a conflict along",
    "C30": "The agreement has run out",
}
STATUS_TEXTS: Final[Mapping[str, str]] = {
    "conflict_unresolvable": "Conflict: cannot both be met",
    "conflict_negotiable": "Conflict: negotiable",
    "possible_when_running": "Possible when running",
    "no_static_conflict_now": "No static conflict now",
}


@dataclass(frozen=True)
class Finding:
    """One conflict. `question` says for a changed situation whether this conflict would be gone; hard ones have it."""

    code: str
    trigger: str
    severity: str  # hard, negotiable, possible or advice
    parties: tuple[str, ...]
    switch: str | None
    text: str
    dynamic: bool = False
    core: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    question: Holds | None = None

    def explained(self, situation: Situation) -> Finding:
        """With its minimal core, if it is hard and has a question to ask."""
        if self.severity != "hard" or self.question is None:
            return self
        demands = situation.demands(self.parties)
        core, background = minimal_core(situation, self.question, demands, situation.background())
        return replace(self, core=tuple(core), background=tuple(background))

    def as_dict(self, situation: Situation) -> dict[str, Any]:
        return {
            "code": self.code,
            "name": NAMES[self.code],
            "class": "dynamic" if self.dynamic or self.severity == "possible" else "static",
            "trigger": self.trigger,
            "severity": self.severity,
            "parties": sorted(self.parties),
            "switch": self.switch,
            "values": {}
            if self.switch is None
            else {p: list(values_of(situation, p, self.switch)) for p in self.parties},
            "core": list(self.core),
            "background": list(self.background),
            "text": self.text,
        }


def values_of(situation: Situation, party: str, switch: str) -> Values:
    """What a party asks for: its best possible values; for an operator without preferences what it offers."""
    if party == OPERATOR and situation.host.preferences is None:
        return situation.offered(switch)
    return situation.best_possible(party, switch)


def status_of(rows: Sequence[Mapping[str, Any]]) -> str:
    severities = {row["severity"] for row in rows}
    if "hard" in severities:
        return "conflict_unresolvable"
    if "negotiable" in severities:
        return "conflict_negotiable"
    return "possible_when_running" if "possible" in severities else "no_static_conflict_now"


def absent(row: object, rows: Callable[[Situation], Sequence[object]]) -> Holds:
    """Is this row no longer among those found?"""
    return lambda less: row not in rows(less)


def common(vm: str, switch: str, limit: Callable[[Situation, str], Values]) -> Holds:
    """Is some permitted value also within this limit?"""
    return lambda less: bool(set(less.permitted(vm)[switch]) & set(limit(less, switch)))


def any_possible(vm: str, switch: str) -> Holds:
    return lambda less: bool(less.possible(vm, switch))
