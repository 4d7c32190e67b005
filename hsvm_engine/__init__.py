"""The H-SVM machine: one simulated host under a hypervisor that may be compromised. Its contract: core/machine.pyi.

This is the front door; nothing outside imports `hsvm_engine.core`.
"""

from hsvm_engine.architectures import ARCHITECTURES, Architecture, Cost
from hsvm_engine.core.machine import Machine
from hsvm_engine.core.types import InvariantError, Owner, Status
from hsvm_engine.ports import DevicePort, GuestPort, HypervisorPort, PhysicalPort

__version__ = "3"  # of everything that decides an outcome: a run begun by another version is not continued

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Cost",
    "DevicePort",
    "GuestPort",
    "HypervisorPort",
    "InvariantError",
    "Machine",
    "Owner",
    "PhysicalPort",
    "Status",
]
