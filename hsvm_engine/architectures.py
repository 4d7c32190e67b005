"""The architectures: one row of flags and costs each. The classroom page is this table. (engine.md section 7)

A mechanism of the engine asks a flag of the row, never the row's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "model parameter"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one event costs, in cycles, and where the figure comes from."""

    cycles: int
    provenance: str


def _costs(**changed: Cost) -> Mapping[str, Cost]:
    """The cost table of a row: order-of-magnitude figures of current server processors, all model parameters."""
    common = {
        "access": Cost(1, f"{MODEL}: a first-level TLB hit overlaps with the cache access"),
        "l2_hit": Cost(7, f"{MODEL}: second-level TLB hit"),
        "walk_reference": Cost(20, f"{MODEL}: a table entry read from a cache of the processor"),
        "map": Cost(500, f"{MODEL}: one page_map without its frame checks"),
        "unmap": Cost(500, f"{MODEL}: one page_unmap without shootdown and zeroing"),
        "zero": Cost(800, f"{MODEL}: 4 KiB at 5 bytes a cycle"),
        "shootdown": Cost(3000, f"{MODEL}: interrupt to every core and its answer"),
        "world_switch": Cost(1000, f"{MODEL}: VMRUN and VMEXIT, each way"),
        "owner_check": Cost(0, f"{MODEL}: the row checks no owner"),
        "seal": Cost(6000, f"{MODEL}: AES-256-GCM of 4 KiB at 0.7 bytes a cycle, each way"),
        "smi": Cost(0, f"{MODEL}: the row has no SMI"),
    }
    return MappingProxyType(common | changed)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row: where things lie, and which checks are made. Names of checks are those of refusals and of `skip`."""

    name: str
    title: str
    source: str
    protected_region: bool = False  # the ownership table lies in frames that only H-SVM reaches
    pool_protected: bool = False  # so do nested tables and contexts; else in the hypervisor's own frames
    handles_reused: bool = True  # a VM's handle is its slot alone
    shadow_tables: bool = False  # guest-virtual addresses are walked in one dimension, in tables of the hypervisor
    smi: bool = False  # every validated call is an SMI that stops all cores; tables are compared at each
    swap_sealed: bool = False  # a page leaves the host encrypted and authenticated
    owner_check: bool = False  # page_map, claim and release ask the ownership table
    slot_check: bool = False  # page_map refuses an occupied guest page
    busy_check: bool = False  # pages that are merged, shared or not yet released are not taken away
    protected_check: bool = False  # protected frames are never mapped, claimed or released
    hv_access_check: bool = False  # the hypervisor's loads and stores ask the ownership table
    smram_lock: bool = False  # the chipset keeps loads, stores and DMA away from protected frames
    context_protection: bool = False  # saved registers are out of the hypervisor's reach
    npt_protection: bool = False  # nested tables are changed by H-SVM only
    npt_root_protection: bool = False  # a root that the hypervisor chose is never loaded
    dma_check: bool = False  # device accesses ask the ownership table
    merge_consent: bool = False  # pages are merged only if both guests agreed and the bytes are equal
    swap_binding: bool = False  # an image is good for its own VM and guest page only
    swap_version: bool = False  # of a page's images only the newest is taken back
    zero_on_release: bool = False  # a frame is wiped before it is free
    zero_on_map: bool = False  # a frame is wiped before a guest gets it
    tlb_shootdown: bool = False  # an unmap shoots down every core's entries
    costs: Mapping[str, Cost] = field(default_factory=_costs)

    def checks(self) -> tuple[str, ...]:
        """Names of the checks that this row makes."""
        return tuple(f.name for f in fields(self) if f.name in CHECKS and getattr(self, f.name))


CHECKS = (
    "owner_check",
    "slot_check",
    "busy_check",
    "protected_check",
    "hv_access_check",
    "smram_lock",
    "context_protection",
    "npt_protection",
    "npt_root_protection",
    "dma_check",
    "merge_consent",
    "swap_binding",
    "swap_version",
    "zero_on_release",
    "zero_on_map",
    "tlb_shootdown",
)

SKIPPABLE = (
    "owner_check",
    "zero_on_release",
    "tlb_shootdown",
    "swap_version",
    "swap_binding",
    "context_protection",
    "dma_check",
    "hv_access_check",
)
"""Checks that option `skip` may switch off. (engine.md section 7)"""

_VALIDATED = {
    "protected_region": True,
    "handles_reused": False,
    "swap_sealed": True,
    "owner_check": True,
    "slot_check": True,
    "busy_check": True,
    "protected_check": True,
    "merge_consent": True,
    "swap_binding": True,
    "swap_version": True,
    "zero_on_release": True,
    "tlb_shootdown": True,
}
"""What H-SVM checks when it is asked to change a table, in microcode or in the SMI handler."""

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "nested": Architecture(
            name="nested",
            title="Nested paging (AMD-V): the hypervisor owns tables, contexts and memory",
            source="paper, 2.1",
        ),
        "shadow": Architecture(
            name="shadow",
            title="Shadow paging: the hypervisor builds the tables that the processor walks",
            source="paper, 2.1",
            shadow_tables=True,
        ),
        "hsvm": Architecture(
            name="hsvm",
            title="H-SVM in microcode: the processor owns tables and contexts and checks every mapping",
            source="paper, 3 and 3.2",
            **_VALIDATED,
            pool_protected=True,
            hv_access_check=True,
            context_protection=True,
            npt_protection=True,
            npt_root_protection=True,
            dma_check=True,
            costs=_costs(owner_check=Cost(60, f"{MODEL}: one entry of the ownership table read by microcode")),
        ),
        "hsvm-smm": Architecture(
            name="hsvm-smm",
            title="The prototype: an SMI handler checks every mapping, the rest is as in nested paging",
            source="paper, 1 and 5; what the handler cannot do is modelled by us",
            **_VALIDATED,
            smi=True,
            smram_lock=True,
            zero_on_map=True,
            costs=_costs(
                owner_check=Cost(60, f"{MODEL}: one entry of the ownership table read by the handler"),
                smi=Cost(45_000, f"{MODEL}: entry and exit, 15 us at 3 GHz (10 us to 1 ms are in use); all cores stop"),
            ),
        ),
    }
)
