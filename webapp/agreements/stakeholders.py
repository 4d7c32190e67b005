"""The stakeholders of a host and where their goals meet or clash, as one person may see them, drawn and as rows.

A tenant sees its own goals in full and of others what a negotiation has disclosed to it, by pseudonym. The operator
sees what binds the host: its own goals, the settings that are contested and the values in force; nobody's wishes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

from webapp.agreements import selectors
from webapp.agreements.inputs import newest_documents
from webapp.agreements.models import Negotiation, Waiver
from webapp.agreements.wording import any_of
from webapp.fleet.selectors import document_of
from webapp.tenants.models import VirtualMachine
from webapp.vpms import disclosure, documents
from webapp.vpms import goals as language
from webapp.vpms.agreement import TIME_FORMAT
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.goals import TEACHER, Goal
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.fleet.models import Host

NAMES: Final = {OPERATOR: "the operator", TEACHER: "the teacher"}
VERDICTS: Final = {"clash": "clash", "meet": "meet", "alone": "nobody else"}
PROPERTIES: Final = {
    "confidentiality": "kept secret",
    "integrity": "kept unchanged",
    "availability": "kept usable",
    "accountability": "kept provable",
}
AGAINST: Final = {
    "co_tenant": "neighbours",
    "operator": "the operator",
    "hypervisor": "the hypervisor",
    "guest_software": "software inside VMs",
    "outsider": "outsiders",
}
STATUSES: Final = {  # words and tone
    "open": ("open", "neutral"),
    "mutual": ("shared", "ok"),
    "conflict": ("clashes", "warning"),
    "agreed": ("agreed", "ok"),
    "waived": ("given up", "neutral"),
}
# Of the drawing, in its own units.
LEFT: Final = 290
COLUMN: Final = 120
TOP: Final = 56
ROW: Final = 34
VERDICT: Final = 100


@dataclass
class Picture:
    """Columns are stakeholders, rows are settings; a node stands where a stakeholder has a goal."""

    host: Host
    goals: list[Goal]
    strengths: dict[tuple[str, str], str] = field(default_factory=dict)  # by owner and switch: must, prefer or law
    told: str = ""
    waivers: dict[str, Waiver] = field(default_factory=dict)  # by goal
    own: frozenset[str] = frozenset()  # the person's own VMs here

    @property
    def stakeholders(self) -> list[str]:
        return list(dict.fromkeys([goal["owner"] for goal in self.goals] + [OPERATOR, TEACHER]))

    @property
    def columns(self) -> list[dict[str, Any]]:
        return [
            {"name": owner, "words": NAMES.get(owner, owner), "x": LEFT + COLUMN // 2 + COLUMN * number}
            for number, owner in enumerate(self.stakeholders)
        ]

    @property
    def width(self) -> int:
        return LEFT + COLUMN * len(self.stakeholders) + VERDICT

    @property
    def height(self) -> int:
        return TOP + ROW * len(self.rows) + 8

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One for each setting that is somebody's goal, in the order of the settings."""
        at = {column["name"]: column["x"] for column in self.columns}
        found = []
        for switch in SWITCHES:
            here = [goal for goal in self.goals if switch in goal["switches"]]
            if not here:
                continue
            nodes = [self.node(goal, switch, at[goal["owner"]]) for goal in here]
            marks = [goal for goal in here if goal["conflicting"]]
            verdict = "clash" if marks else "meet" if any(goal["mutual"] for goal in here) else "alone"
            places = [node["x"] for node in nodes]
            found.append(
                {
                    "switch": switch,
                    "label": SWITCHES[switch].label,
                    "nodes": nodes,
                    "verdict": verdict,
                    "words": VERDICTS[verdict],
                    "from": min(places),
                    "to": max(places),
                    "y": TOP + ROW * len(found) + ROW // 2,
                    "end": LEFT + COLUMN * len(at) + 8,
                }
            )
        return found

    def node(self, goal: Goal, switch: str, x: int) -> dict[str, Any]:
        strength = self.strengths.get((goal["owner"], switch), "prefer")
        wanted = any_of(switch, goal["wanted"]) if goal["wanted"] else "not told"
        return {
            "x": x,
            "owner": NAMES.get(goal["owner"], goal["owner"]),
            "strength": strength,
            "wanted": wanted,
            "waived": goal["status"] == "waived",
        }

    @property
    def table(self) -> list[dict[str, Any]]:
        """Every goal in words: the same as the drawing, and the rest of each record."""
        return [
            {
                "goal": goal,
                "whose": NAMES.get(goal["owner"], goal["owner"]),
                "wanted": any_of(goal["switches"][0], goal["wanted"]) if goal["wanted"] else "not told",
                "setting": SWITCHES[goal["switches"][0]].label,
                "against": ", ".join(AGAINST.get(name, name) for name in goal["against"]),
                "property": PROPERTIES[goal["property"]],
                "mutual": ", ".join(NAMES.get(name, name) for name in goal["mutual"]),
                "conflicting": ", ".join(NAMES.get(name, name) for name in goal["conflicting"]),
                "status": STATUSES[goal["status"]][0],
                "tone": STATUSES[goal["status"]][1],
                "agreement": goal.get("agreement", ""),
                "own": goal["owner"] in self.own,
                "waiver": self.waivers.get(goal["goal"]),
            }
            for goal in self.goals
        ]


def now_text() -> str:
    return timezone.now().astimezone(dt.UTC).strftime(TIME_FORMAT)


def agreed_by(host: Host, digests: dict[str, str]) -> dict[str, str]:
    """For each VM whose newest wishes the agreement in force was made with: that agreement's name and version."""
    agreement = selectors.agreement_in_force(host=host)
    if agreement is None:
        return {}
    name = f"{agreement.agreement} version {agreement.version}"
    parties = selectors.predicate_of(agreement)["parties"]
    return {row["id"]: name for row in parties if digests.get(row["id"]) == row["policy_sha256"]}


def strengths_of(situation: Situation, goals: Iterable[Goal]) -> dict[tuple[str, str], str]:
    found = {}
    for goal in goals:
        wish = situation.by_vm[goal["owner"]].switches[goal["switches"][0]]
        found[goal["owner"], goal["switches"][0]] = "must" if VETO in wish["values"].values() else "prefer"
    return found


def public_goals(host: documents.Host) -> list[Goal]:
    return [*language.operator_goals(host), *language.teacher_goals()]


def shared_switches(host: documents.Host) -> list[str]:
    return [name for name in SWITCHES if host.is_shared(name)]


def law_marks(goals: Iterable[Goal]) -> dict[tuple[str, str], str]:
    return {(goal["owner"], goal["switches"][0]): "law" for goal in goals if ".law." in goal["goal"]}


def tenant_picture(*, user: User, host: Host) -> Picture:
    """Own goals in full; of others the contested settings that the newest negotiation told this tenant."""
    own = VirtualMachine.objects.visible_to(user).filter(placement__host=host, policies__isnull=False)
    own = own.distinct().order_by("name")
    read = [documents.read_policy(document) for document in newest_documents(list(own)).values()]
    there = documents.read_host({**document_of(host), "running": [], "agreement": None})
    situation = Situation(read, there, now_text())
    mine = [goal for policy in situation.policies for goal in language.vm_goals(situation, policy.vm)]
    agreed = agreed_by(host, {policy.vm: policy.sha256 for policy in read})
    told, negotiation = told_goals(user, host, [policy.vm for policy in read])
    if negotiation is not None and negotiation.state == Negotiation.State.ENFORCED and agreed:
        agreed |= dict.fromkeys((goal["owner"] for goal in told), next(iter(agreed.values())))
    public = public_goals(there)
    waivers = waivers_of(own, mine)
    found = language.related(
        mine, situation, by_value=[*told, *public], shared=shared_switches(there), agreed=agreed, waived=waivers.keys()
    )
    source = f"negotiation {negotiation.pk}" if negotiation is not None and told else ""
    marks = {**strengths_of(situation, mine), **law_marks(public)}
    return Picture(host, found, marks, source, waivers, frozenset(situation.vms))


def waivers_of(own: Iterable[VirtualMachine], goals: Iterable[Goal]) -> dict[str, Waiver]:
    """The waivers in force of these VMs by the goal that each is about. Nobody but their owner is told of them."""
    rows = Waiver.objects.filter(vm__in=own, ended_at__isnull=True).select_related("vm", "by")
    named = {(row.vm.name, row.switch): row for row in rows}
    pairs = [(goal["goal"], (goal["owner"], goal["switches"][0])) for goal in goals]
    return {name: named[key] for name, key in pairs if key in named}


def told_goals(user: User, host: Host, own: list[str]) -> tuple[list[Goal], Negotiation | None]:
    """What the newest negotiation on the host has disclosed of others to these VMs, by pseudonym."""
    seated = selectors.negotiations_of(user=user).filter(host=host, seats__vm__name__in=own).order_by("-id").first()
    if seated is None or not seated.protocol:
        return [], seated
    names = seated.protocol["pseudonyms"]
    mine = {names[vm] for vm in own if vm in names}
    found: dict[tuple[str, str], Goal] = {}
    for vm in own:
        if vm not in names:
            continue
        for row in disclosure.party_view(seated.protocol, vm, now_text())["contested"]:
            for want in row["others_want"]:
                if want["who"] not in mine:
                    why = f"Told to you in negotiation {seated.pk}, because it is contested there."
                    goal = language.goal(want["who"], row["switch"], rationale=why, wanted=want["values"])
                    found[want["who"], row["switch"]] = goal
    order = sorted(found, key=lambda key: (int(key[0][2:]), list(SWITCHES).index(key[1])))
    return [found[key] for key in order], seated


def operator_picture(*, user: User, host: Host) -> Picture:
    """The operator's and the teacher's goals, the values in force where they matter, and what is contested now."""
    there = documents.read_host({**document_of(host), "running": [], "agreement": None})
    public = public_goals(there)
    values = selectors.values_in_force(host=host)
    running = {vm.name for vm in selectors.running_here(host=host)}
    agreement = selectors.agreement_in_force(host=host)
    name = f"{agreement.agreement} version {agreement.version}" if agreement else ""
    matter = {goal["switches"][0] for goal in public}
    why = f"The value that agreement {name} gives it."
    bound = [
        language.goal(vm, switch, rationale=why, wanted=[values[vm][switch]])
        for vm in sorted(set(values) & running)
        for switch in SWITCHES
        if switch in matter
    ]
    contested, number = contested_now(user, host)
    found = language.related(
        [],
        Situation([], there, now_text()),
        by_value=[*bound, *contested, *public],
        agreed=dict.fromkeys((goal["owner"] for goal in bound), name),
    )
    for row in found:
        if row["owner"] not in (OPERATOR, TEACHER) and not row["wanted"]:
            row["status"] = "conflict"
            row.pop("agreement", None)  # what is contested is no longer settled by it
            row["conflicting"] = sorted({other["owner"] for other in contested if other["switches"] == row["switches"]})
            row["conflicting"].remove(row["owner"])
    return Picture(host, found, law_marks(public), f"negotiation {number}" if number else "")


def contested_now(user: User, host: Host) -> tuple[list[Goal], int | None]:
    """Settings that an open negotiation on the host contests, for each party; what anybody wants is not told."""
    row = selectors.negotiations_of(user=user).filter(host=host, state__in=Negotiation.OPEN).order_by("id").first()
    if row is None or not row.protocol or not user.sees_site:
        return [], None
    seen = disclosure.operator_view(row.protocol, now_text())
    parties = [party["party"] for party in seen["parties"] if party["party"] != OPERATOR]
    why = f"Contested in negotiation {row.pk}. What each wants of it is not told to the operator."
    found = []
    for issue in seen["contested"]:
        place, _, switch = issue.partition("/")
        found += [language.goal(vm, switch, rationale=why) for vm in parties if place in ("host", vm)]
    return found, row.pk
