"""The technical terms of the pages: one sentence each, and the section of the paper that it comes from.

A term with an empty section is not in the paper; the pages say so. A new term is one entry here.
"""
# ruff: noqa: E501 - tables of sentences: one row, one line

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext_lazy as _

PAPER: Final = "https://doi.org/10.17148/IJARCCE.2016.5125"


class Section(NamedTuple):
    """A part of the paper: how it is cited, its heading there, and what it says in one sentence."""

    number: str
    heading: str
    says: Any


class Term(NamedTuple):
    name: str
    word: Any
    says: Any
    section: str  # a number of SECTIONS, or "" where the paper does not give it


_SECTIONS: Final = (
    Section("0", "Abstract", _("Tenants of one platform have different wishes that may conflict, and one tenant's conduct may harm the reputation of another.")),
    Section("1", "Introduction", _("Hypervisors are too large to be trusted; guarding memory can be taken from them and given to the hardware.")),
    Section("2.1", "Hardware-Assisted Virtualization", _("How guest addresses become machine addresses, and why whoever writes the tables owns the memory.")),
    Section("2.2", "Threat Model", _("The attacker may control the hypervisor from afar; attacks on the hardware itself are excluded.")),
    Section("3", "Architecture", _("H-SVM keeps the tables and the owner of every page in memory that only it can reach.")),
    Section("3.2", "H-SVM Interfaces and Implementation", _("The requests that a hypervisor may make: create, delete, map, unmap, save and restore.")),
    Section("4", "Proposed System", _("VPMS: consumers say what they want, conflicts are recognised, and a negotiation settles them.")),
    Section("5", "Conclusion", _("Conflicts are static or dynamic, and a prototype in system management mode shows that H-SVM is feasible.")),
)  # fmt: skip

_TERMS: Final = (
    # What stands between a VM and a stranger.
    Term("hypervisor", _("hypervisor"), _("The program of the host that makes VMs and shares out processor and memory; here it may have been taken over."), "1"),
    Term("h-svm", _("H-SVM"), _("Hardware that alone changes page ownership and page tables, and checks every request of the hypervisor."), "3"),
    Term("smm", _("SMM prototype"), _("The paper's trial of H-SVM in the processor's management mode; much of what a hypervisor does passes it by."), "5"),
    Term("trusted-computing-base", _("trusted computing base"), _("Everything that must work rightly for a promise to hold; with H-SVM the hypervisor is no longer in it."), "2.2"),
    Term("threat-model", _("threat model"), _("Which attackers are thought of: one who controls the hypervisor from afar, but none with hands on the hardware."), "2.2"),
    Term("co-tenant", _("co-tenant"), _("A stranger whose VM runs on the same host as yours."), "1"),
    # Memory and how it is reached.
    Term("page", _("page"), _("One piece of the machine's memory, 4 KiB long, called a machine frame by engineers."), "3"),
    Term("guest-page", _("guest page"), _("A page as the VM counts it; the nested page table says which page of the machine stands behind it."), "2.1"),
    Term("nested-page-table", _("nested page table"), _("The table of one VM that leads from its own page numbers to pages of the machine."), "2.1"),
    Term("shadow-page-table", _("shadow page table"), _("A table that the hypervisor keeps to lead from a program's addresses to the machine's directly."), "2.1"),
    Term("page-walk", _("page walk"), _("The way through the tables that the processor goes when a translation is not at hand."), "2.1"),
    Term("tlb", _("TLB"), _("The processor's small memory of translations that were used lately."), "2.1"),
    Term("world-switch", _("world switch"), _("The change of a core between a VM and the hypervisor, with saving and loading of all registers."), "2.1"),
    Term("ownership-table", _("ownership table"), _("H-SVM's list that says for every page of the machine who owns it: a VM, the hypervisor, H-SVM or nobody."), "3"),
    Term("protected-memory", _("protected memory"), _("The part of memory that only H-SVM can reach; its tables stand there."), "3"),
    Term("page-map", _("page map"), _("The request to give a page to a VM; H-SVM refuses it if another already owns the page."), "3.2"),
    Term("page-unmap", _("page unmap"), _("The request to take a page from a VM; H-SVM wipes the page before it becomes free."), "3.2"),
    Term("context-restore", _("context restore"), _("Putting a VM back on a core; only H-SVM loads the registers and the table that it saved itself."), "3.2"),
    Term("ballooning", _("ballooning"), _("The host asks a VM to give pages back, and the VM chooses which."), "3"),
    Term("swap", _("swapping out"), _("Writing a page to the host's disk to free memory; with H-SVM it is sealed with the VM's own key first."), "3.2"),
    Term("stale", _("STALE"), _("A remembered translation that contradicts the page tables or the ownership table as they are now."), ""),
    Term("shared-pages", _("page sharing"), _("Equal pages of several VMs are kept once; a neighbour can find out by timing what you hold."), ""),
    Term("asid", _("ASID"), _("The number by which the TLB tells the translations of one VM from those of another."), ""),
    Term("violation", _("violation"), _("A page that somebody reaches who does not own it, or a free page that was not wiped."), ""),
    # Wishes and how they are settled.
    Term("vpms", _("VPMS"), _("The platform of this site: tenants declare what their VMs need, and clashes are found and negotiated."), "4"),
    Term("multilateral-security", _("multilateral security"), _("Every party states its own needs and really gets the level it chose, instead of one side deciding for all."), "0"),
    Term("wishes", _("wishes"), _("What you declare for a VM: what must hold, what you would rather have, and what you do not mind."), "4"),
    Term("conflict", _("conflict"), _("Two wishes, or a wish and a host, that cannot both be met."), "4"),
    Term("static-conflict", _("static conflict"), _("A conflict that can be seen in the declared wishes before anything runs."), "5"),
    Term("dynamic-conflict", _("dynamic conflict"), _("A conflict that shows only while VMs run, when something is done against what is agreed."), "5"),
    Term("negotiation", _("negotiation"), _("Those concerned answer a proposal; it holds only if all of them accept."), "4"),
    Term("proposal", _("proposal"), _("One complete settlement that the platform worked out; nothing that anybody said must hold is broken by it."), ""),
    Term("agreement", _("agreement"), _("A settlement that everybody concerned has signed; hosts run under it and nothing else."), ""),
    Term("protection-in-force", _("protection in force"), _("What guards the VM at this moment by agreement and by measurement, not what was wished for."), ""),
    Term("enforced", _("enforced"), _("The simulated machine really acts on this setting; all other settings are recorded only, and marked so."), ""),
    Term("reputation", _("reputation"), _("How others see a tenant; misdeeds of a neighbour on the same host may harm it."), "0"),
    Term("record", _("record"), _("The list of all that was done, each entry sealed to the one before, so that a change shows."), ""),
    Term("digest", _("digest"), _("A short number worked out of a text or a state; if anything in it changes, the number changes."), ""),
    # Attacks and their outcomes.
    Term("drill", _("drill"), _("Twelve of the 25 attacks, executed against your VM's settings; the others stand with the known limits."), ""),
    Term("blocked", _("BLOCKED"), _("Every attacking step was refused or harmless."), ""),
    Term("detected", _("DETECTED"), _("The VM was stopped before its victim used the damage."), ""),
    Term("succeeded", _("SUCCEEDED"), _("The engine observed the harm."), ""),
    Term("out-of-scope", _("OUT OF SCOPE"), _("Excluded by the threat model; it is not a pass."), "2.2"),
    Term("not-applicable", _("NOT APPLICABLE"), _("The thing attacked does not exist on this machine."), ""),
    Term("error", _("ERROR"), _("The run failed; it is never counted as BLOCKED."), ""),
    Term("stale-result", _("STALE RESULT"), _("Engine, attack file or policy changed since the run; the old word stays visible."), ""),
    Term("what-if", _("what-if"), _("The same attack on a machine on which one check is switched off, to see what that check is good for."), ""),
    Term("operation-number", _("op"), _("The number of an operation of the simulated machine; it names one exact moment of a run."), ""),
    Term("seed", _("seed"), _("The number from which all chance of a run comes: with the same seed the run is the same."), ""),
)  # fmt: skip

SECTIONS: Final[Mapping[str, Section]] = {section.number: section for section in _SECTIONS}
TERMS: Final[Mapping[str, Term]] = {term.name: term for term in _TERMS}
