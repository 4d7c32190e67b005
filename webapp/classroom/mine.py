"""Run with my policy: the drill executed with what a VM's terms mean for the engine, for its own tenant's eyes only.

Nothing is stored: an execution depends on its options alone, so it is done when it is asked for and kept in the
process. Only the tenant's own terms are read: the agreement that it signed, or its own wishes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from webapp.agreements import selectors as agreed
from webapp.agreements.steps import now_text
from webapp.classroom import replay, services
from webapp.classroom.replay import Execution
from webapp.classroom.selectors import DRILL
from webapp.classroom.wording import EVIDENCE, OUTCOMES
from webapp.fleet.selectors import document_of
from webapp.runs.engine import ENGINE_VERSION
from webapp.tenants.selectors import policy_newest
from webapp.vpms import documents, enforcement

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.fleet.models import Host
    from webapp.tenants.models import VirtualMachine

GUARDED, OPEN = "hsvm", "nested"  # the rows of guarded and of unguarded memory
NO_EFFECT: Final = "No value of your terms changes this answer."


def drill_of(*, user: User, vm: VirtualMachine) -> dict[str, Any]:
    """The drill by the VM's terms: where they come from, the options that follow, and an answer for each attack."""
    host = vm.placement.host if hasattr(vm, "placement") else None
    view, source = _terms(user, vm, host)
    if view is None or host is None:
        return {"vm": vm, "rows": [], "host": host}
    options = enforcement.scenario_options({vm.name: view}, documents.read_host(document_of(host)))
    of_vm = options["vms"][vm.name]
    row = options["architecture"] if of_vm["protected"] else OPEN
    rows = [_row(attack, row) for attack in DRILL]
    words = Counter(each["word"] for each in rows)
    return {
        "vm": vm,
        "host": host,
        "source": source,
        "memory": view["memory_protection"],
        "row": row,
        "guarded_anyway": row != options["architecture"],
        "lacking": "memory_protection" in options["not_enforced"],
        "rows": rows,
        "decided": sum(each["decides"] for each in rows),
        "totals": [(outcome.word, words[outcome.word]) for outcome in OUTCOMES.values() if outcome.word in words],
        "attacks": len(services.ATTACKS),
        "promises": _promises(options, of_vm),
        "engine": ENGINE_VERSION,
        "seed": services.SEED,
    }


def counted(row: str) -> dict[str, Any]:
    """How the attacks of the drill end on a machine of this row; SUCCEEDED is told even where it is none."""
    words = Counter(
        OUTCOMES[replay.summary_of(Execution(attack, row, "", services.SEED)).outcome].word for attack in DRILL
    )
    always = ("BLOCKED", "SUCCEEDED")
    shown = [each.word for each in OUTCOMES.values() if each.word in always or words[each.word]]
    return {
        "attempts": len(DRILL),
        "attacks": len(services.ATTACKS),
        "totals": [(word, words[word]) for word in shown],
        "blocked": words["BLOCKED"],
        "succeeded": words["SUCCEEDED"],
    }


def _terms(user: User, vm: VirtualMachine, host: Host | None) -> tuple[Mapping[str, str] | None, str]:
    """The value of each switch for the VM: as agreed where it is, else the strictest of its own wishes."""
    if host is None:
        return None, ""
    signed = agreed.values_in_force(host=host).get(vm.name)
    if signed is not None:
        return signed, "agreed"
    wishes = policy_newest(user=user, vm=vm)
    if wishes is None:
        return None, ""
    alone = {**document_of(host), "running": [], "agreement": None}
    policy = documents.read_policy(json.loads(wishes.document))
    return enforcement.values_in_force([policy], documents.read_host(alone), now_text())[vm.name], "wished"


def answer_of(attack: str, row: str) -> dict[str, str]:
    """How one attack ends on a machine of this row, in words."""
    outcome = OUTCOMES[replay.summary_of(Execution(attack, row, "", services.SEED)).outcome]
    return {"attack": attack, "title": services.titles()[attack], "word": outcome.word, "look": outcome.look}


def _row(attack: str, row: str) -> dict[str, Any]:
    """The answer by the terms, and what it would be if their memory protection were the other one."""
    mine = Execution(attack, row, "", services.SEED)
    other = Execution(attack, OPEN if row == GUARDED else GUARDED, "", services.SEED)
    here, there = replay.summary_of(mine), replay.summary_of(other)
    decides, effect = _effect(row, here.outcome, there.outcome)
    letter, meaning = EVIDENCE.get(services.evidence(attack, row), ("", ""))
    return {
        "attack": attack,
        "title": services.titles()[attack],
        "word": OUTCOMES[here.outcome].word,
        "look": OUTCOMES[here.outcome].look,
        "evidence": letter,
        "evidence_meaning": meaning,
        "check": here.check,
        "digest": here.digest,
        "decides": decides,
        "effect": effect,
    }


def _effect(row: str, here: str, there: str) -> tuple[bool, str]:
    """Whether memory protection decides the answer, and what the terms do here in words."""
    if "OUT_OF_SCOPE" in (here, there):
        return False, "Nothing in your terms protects here: H-SVM makes no claim about this attack."
    if "NOT_APPLICABLE" in (here, there):
        return False, "Without H-SVM there is no such thing to attack; with it, the attack is refused."
    if here == there:
        return False, NO_EFFECT
    value = "none" if row == GUARDED else "hsvm"
    return True, f"Memory protection decides: with {value} it reads {OUTCOMES[there].word}."


def _promises(options: Mapping[str, Any], of_vm: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else follows from the terms. A hypervisor that was taken over keeps none of it."""
    return [
        ("Flush between VMs", options["flush"].replace("_", " ")),
        ("Memory promised", f"{options['overcommit_percent']} % of what there is"),
        ("Largest page", "4 KiB" if of_vm["page_size"] == 1 else "2 MiB"),
        ("Swap", of_vm["swap"]),
        ("A core of its own", "yes" if of_vm["own_core"] else "no"),
        ("Detail of the log", of_vm["log_detail"]),
    ]
