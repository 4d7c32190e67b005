"""First steps and the tour of each area, as data. What is done is read from what the person really did (selectors)."""
# ruff: noqa: E501 - tables of sentences: one row, one line

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext_lazy as _


class Item(NamedTuple):
    """One of the four first steps. `looked`: nothing is left behind by it, so that opening it from here counts."""

    name: str
    words: Any
    why: Any
    where: str
    looked: bool = False


class Stop(NamedTuple):
    """One stop of the tour: what the first of the selectors in `at` finds is shown; a stop that finds nothing is left out."""

    at: str
    title: Any
    says: Any


FIRST_STEPS: Final[Mapping[str, tuple[Item, ...]]] = {
    "tenant": (
        Item("wishes", _("Declare what a VM needs"), _("Eight plain questions; each answer says what follows from it."), "/tenant/vm/new/"),
        Item("start", _("Start a VM"), _("Clashes with neighbours are found before it runs."), "/tenant/"),
        Item("answer", _("Answer a proposal"), _("When wishes clash, you are asked; until then there is nothing to answer."), "/tenant/conflicts/"),
        Item("tenant-record", _("Verify your record"), _("It proves to an auditor what was agreed and kept."), "/tenant/audit/", True),
    ),
    "operator": (
        Item("run", _("Have a host running"), _("A host's run begins with the first VM that is started on it."), "/operator/"),
        Item("act", _("Ask a VM for memory, or attack one"), _("On a host's page: the machine answers under the agreement."), "/operator/"),
        Item("mark", _("Mark a moment of a run"), _("On the timeline at the foot of a host's page; marks are links to that moment."), "/operator/"),
        Item("operator-record", _("Verify the platform's record"), _("Whoever changed an entry later is found out."), "/operator/audit/", True),
    ),
    "teacher": (
        Item("table", _("Have the attack table executed"), _("Every cell is run on the simulated machine."), "/teach/"),
        Item("what-if", _("Switch a check off"), _("A further column shows what the check is good for."), "/teach/"),
        Item("walk", _("Step through a nested page walk"), _("Twenty-four references, one sentence each."), "/learn/walk/", True),
        Item("class", _("Open the page for students"), _("It needs no sign-in; each cell leads to its replay."), "/learn/", True),
    ),
}  # fmt: skip

HELP: Final = Stop(
    ".topbar-help",
    _("Help is here"),
    _("Every term in one sentence, how to do the usual things, and the keys. The key ? shows the keys on every page."),
)
TOURS: Final[Mapping[str, tuple[Stop, ...]]] = {
    "tenant": (
        Stop(".rail", _("Your pages"), _("My VMs, conflicts, agreements and your record. Nobody outside your organisation sees them.")),
        Stop('.page-header a[href="/tenant/vm/new/"], a[href="/tenant/vm/new/"]', _("Say what a VM needs"), _("Eight questions in plain words. Each answer carries a strength: must, prefer, or do not mind.")),
        Stop('[data-col="protection"], thead th:nth-child(3)', _("What protects it now"), _("Not what you wished for: what was agreed and measured, with the evidence beside it. A drill really attacks a VM under these terms.")),
        Stop('[data-col="state"] .status, [data-col="state"]', _("Start and stop"), _("When wishes clash, the VM is held and a negotiation opens. What already runs is never changed without its owner.")),
        Stop('[data-col="conflicts"], .rail a[href="/tenant/conflicts/"]', _("Where wishes clash"), _("Each conflict with its reason. You are asked here, with a deadline and with what happens if you do not answer.")),
        Stop('.rail a[href="/tenant/audit/"]', _("Your record"), _("Everything that was agreed and done, sealed entry by entry. Verify the chain, or take it away for an auditor.")),
        HELP,
    ),
    "operator": (
        Stop(".rail", _("The operator's pages"), _("Hosts, conflicts, agreements and the platform's record. You see what is agreed, never what a tenant wished.")),
        Stop('td[data-col="host"] a', _("One host, live"), _("Its page shows the owner of every page of memory, the TLB, counters and events, and a timeline that leads to any moment.")),
        Stop('td[data-col="heard"]', _("How old the news is"), _("A host that is silent reads unknown, never healthy.")),
        Stop('td[data-col="wrong"]', _("The number that must be none"), _("Pages that somebody reaches who does not own them. Anything but none is a violation.")),
        HELP,
    ),
    "teacher": (
        Stop("table.matrix thead", _("Kinds of machine"), _("Two whose hypervisor is trusted with the page tables, H-SVM, and the paper's prototype.")),
        Stop("table.matrix tbody td a", _("Each cell was executed"), _("Open it for the step that decided, the check and its inputs, and the replay.")),
        Stop("#what-if-on", _("What a check is good for"), _("Switch one off, and the attacks run again without it.")),
        Stop('a.button[href="/learn/"]', _("The page for students"), _("The same table to read, without signing in.")),
        HELP,
    ),
}  # fmt: skip
LABELS: Final[Mapping[str, Any]] = {"tenant": _("Tenants"), "operator": _("Operators"), "teacher": _("Teachers")}
