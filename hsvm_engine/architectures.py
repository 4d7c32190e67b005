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
    }
    return MappingProxyType(common | changed)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row: which checks the hardware makes. The names of checks are those of refusals and of option `skip`."""

    name: str
    title: str
    source: str
    protected_region: bool  # tables, contexts and the ownership table lie in frames that only H-SVM reaches
    handles_reused: bool  # a VM's handle is its slot alone
    owner_check: bool  # page_map, claim and release ask the ownership table
    slot_check: bool  # page_map refuses an occupied guest page
    protected_check: bool  # protected frames are never mapped, claimed or released
    hv_access_check: bool  # the hypervisor's loads and stores ask the ownership table
    context_protection: bool  # saved registers are out of the hypervisor's reach
    npt_protection: bool  # nested tables are changed by H-SVM only
    npt_root_protection: bool  # a root that the hypervisor chose is never loaded
    dma_check: bool  # device accesses ask the ownership table
    zero_on_release: bool  # a frame is wiped before it is free
    tlb_shootdown: bool  # an unmap shoots down every core's entries
    costs: Mapping[str, Cost] = field(default_factory=_costs)

    def checks(self) -> tuple[str, ...]:
        """Names of the checks that this row makes."""
        return tuple(f.name for f in fields(self) if f.name in CHECKS and getattr(self, f.name))


CHECKS = (
    "owner_check",
    "slot_check",
    "protected_check",
    "hv_access_check",
    "context_protection",
    "npt_protection",
    "npt_root_protection",
    "dma_check",
    "zero_on_release",
    "tlb_shootdown",
)

SKIPPABLE = ("owner_check", "zero_on_release", "tlb_shootdown", "context_protection", "dma_check", "hv_access_check")
"""Checks that option `skip` may switch off. (engine.md section 7)"""

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "nested": Architecture(
            name="nested",
            title="Nested paging (AMD-V): the hypervisor owns tables, contexts and memory",
            source="paper, 2.1",
            protected_region=False,
            handles_reused=True,
            owner_check=False,
            slot_check=False,
            protected_check=False,
            hv_access_check=False,
            context_protection=False,
            npt_protection=False,
            npt_root_protection=False,
            dma_check=False,
            zero_on_release=False,
            tlb_shootdown=False,
        ),
        "hsvm": Architecture(
            name="hsvm",
            title="H-SVM in microcode: the processor owns tables and contexts and checks every mapping",
            source="paper, 3 and 3.2",
            protected_region=True,
            handles_reused=False,
            owner_check=True,
            slot_check=True,
            protected_check=True,
            hv_access_check=True,
            context_protection=True,
            npt_protection=True,
            npt_root_protection=True,
            dma_check=True,
            zero_on_release=True,
            tlb_shootdown=True,
            costs=_costs(owner_check=Cost(60, f"{MODEL}: one entry of the ownership table read by microcode")),
        ),
    }
)
