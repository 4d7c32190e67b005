"""What one VM keeps to itself shows nowhere else: two runs that differ in its secrets look the same to all others.

Judged is everything but the bytes of sealed images, whose length and order count, and pages that the guest itself
shares or makes mergeable, which hold no secret here (engine.md section 12.8, 12.12).
"""

from typing import Any

import pytest

from hsvm_engine import Machine

from .randomrun import Player, RandomRun, host, is_victim

STEPS = 1500


def seen(op: dict[str, Any], result: dict[str, Any], *, in_secret: bool) -> Any:
    """What of a result anybody but the victim learns."""
    if in_secret:
        return result["status"]
    return {key: len(value) if key == "image" else value for key, value in result.items()}


def view(machine: Machine, since: int) -> dict[str, Any]:
    """The whole host as it looks from outside the victims, and all events after operation `since`."""
    machine.check_invariants()
    dump, owners = machine.dump(), machine.ownership()
    victims = {machine.slot_of(vm) for vm, _ in dump["vms"] if is_victim(vm)}
    dump["nonzero"] = [mfn for mfn in dump["nonzero"] if int(owners[mfn]) not in victims]
    return {
        "dump": dump,
        "owners": owners.tobytes(),
        "dirty": machine.dirty(since).tolist(),
        "tlb": machine.tlb().tobytes(),
        "counters": machine.counters(),
        "events": machine.events(since),
    }


def first_difference(architecture: str, seed: int, **options: Any) -> str | None:
    """Where two runs with different secrets part for those who do not know them, or None."""
    one, other = (
        Player(host(architecture, seed=7, options=options), secret) for secret in (b"red", b"a longer, other secret")
    )
    run = RandomRun(one, seed, secrets=True)
    for number in range(1, STEPS + 1):
        op, result = run.step()
        again = other.do(op)
        in_secret = run.acts_in_secret(op)
        if seen(op, result, in_secret=in_secret) != seen(op, again, in_secret=in_secret):
            return f"result of {op['op']}"
        if number % 100 == 0:
            mine, its = view(one.machine, number - 100), view(other.machine, number - 100)
            for part in mine:
                if mine[part] != its[part]:
                    return part
    return None


def test_the_secrets_are_really_there_and_really_differ() -> None:
    """Else the tests below would hold for the wrong reason."""
    one, other = Player(host(), b"red"), Player(host(), b"blue")
    run = RandomRun(one, 1, secrets=True)
    done = []
    for _ in range(STEPS):
        op, result = run.step()
        other.do(op)
        if result["status"] == "OK" and run.acts_in_secret(op):
            done.append(op["op"])
    assert one.machine.digest() != other.machine.digest()
    assert done.count("guest_write") > 10 and done.count("guest_set_registers") > 3


@pytest.mark.parametrize("seed", range(4))
def test_under_hsvm_nobody_sees_a_guests_secret(seed: int) -> None:
    assert first_difference("hsvm", seed) is None


@pytest.mark.parametrize("rule", ["literal"])
def test_the_papers_own_rule_hides_it_as_well(rule: str) -> None:
    assert first_difference("hsvm", 5, page_map_rule=rule) is None


@pytest.mark.parametrize("architecture", ["nested", "shadow", "hsvm-smm"])
def test_where_the_hypervisor_reads_memory_the_same_runs_differ(architecture: str) -> None:
    assert first_difference(architecture, 0) in {"result of hv_read", "result of dma_read", "result of hv_read_context"}


@pytest.mark.parametrize("check", ["hv_access_check", "dma_check", "zero_on_release", "context_protection"])
def test_without_one_check_the_same_runs_differ(check: str) -> None:
    assert any(first_difference("hsvm", seed, skip=[check]) for seed in range(4))
