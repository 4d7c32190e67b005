"""Small machines, and a guest that is already on its core."""

from collections.abc import Callable
from typing import Any

import pytest

from hsvm_engine import Machine

FRAMES, HYPERVISOR, PROTECTED = 2048, 64, 64
Make = Callable[..., Machine]


def must(result: dict[str, Any]) -> dict[str, Any]:
    """The result of an operation that has to succeed."""
    assert result["status"] == "OK", result
    return result


@pytest.fixture
def make() -> Make:
    """Builds a small machine of any row; keywords go to the constructor."""

    def build(architecture: str = "hsvm", **more: Any) -> Machine:
        protected = PROTECTED if architecture == "hsvm" else 0
        return Machine(FRAMES, HYPERVISOR, protected, architecture=architecture, **{"cores": 2, **more})

    return build


@pytest.fixture
def guest() -> Callable[..., int]:
    """Creates a VM with `pages` rw pages (gpn i in frame `first` + i) and puts its vcpu 0 on a core."""

    def start(machine: Machine, *, pages: int = 16, first: int = 256, core: int = 0, perm: str = "rw") -> int:
        vm = int(must(machine.hypervisor.create_vm(vcpus=2))["vm"])
        for gpn in range(pages):
            must(machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=first + gpn, perm=perm))
        must(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=core))
        return vm

    return start
