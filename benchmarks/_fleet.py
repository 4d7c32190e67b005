"""The fleet of the policy bench: 100,000 VMs of 2,000 policies on 5,000 hosts."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.fleet import Compiled, Fleet, bit_of
from webapp.vpms.vocabulary import SWITCHES

HOST: dict[str, Any] = {
    "format": "vpms-host/1",
    "host": "h",
    "zone": "z",
    "attested": True,
    "capacity": dict.fromkeys(
        ("cores", "memory_mib", "hugepage_mib", "cache_ways", "bandwidth_pct", "key_slots"), 1 << 20
    ),
    "operator": {},
}


def policy(source: random.Random, number: int) -> dict[str, Any]:
    """A few switches with a veto now and then, labels of 120, classes of 40, 300 tenants."""
    names = source.sample(list(SWITCHES), 6)
    switches = {}
    for place, name in enumerate(names):
        values: dict[str, Any] = {value: source.randint(0, 1000) for value in SWITCHES[name].names}
        if source.random() < 0.3:
            values[source.choice(SWITCHES[name].names)] = "veto"
        switches[name] = {"weight": 0 if place else 1000, "values": values}
    labels = source.sample([f"l{n}" for n in range(120)], 4)
    return {
        "format": "vpms-policy/1",
        "vm": f"vm{number}",
        "tenant": f"t{source.randrange(300)}",
        "version": 1,
        "size": {"vcpus": 1, "memory_mib": 512},
        "labels": {
            "exhibits": labels[:3],
            "refuses": labels[3:] if source.random() < 0.05 else [],
            "conflictClass": [f"c{source.randrange(40)}"] if source.random() < 0.05 else [],
        },
        "switches": switches,
        "disagreement": {"kind": "do-not-start", "utility": 0},
        "delegate": {"mode": "auto"},
    }


def fleet(hosts: int, vms: int, templates: int) -> Fleet:
    source = random.Random(2016)
    policies = [read_policy(policy(source, number)) for number in range(templates)]
    return Fleet(
        read_host(HOST), policies, [[source.randrange(templates) for _ in range(vms // hosts)] for _ in range(hosts)]
    )


def figures(rounds: int, quick: bool) -> dict[str, Any]:
    """`event_ms`: a VM leaves a host, another starts, and those whom a changed value touches are found."""
    hosts, vms, templates = (50, 1000, 40) if quick else (5000, 100_000, 2000)
    compiled = Compiled(fleet(hosts, vms, templates))
    source = random.Random(1)
    took: dict[str, list[float]] = {"fleet_full_ms": [], "fleet_admit_ms": [], "event_ms": []}
    for _ in range(rounds):
        host, new, old = source.randrange(hosts), source.randrange(templates), compiled.fleet.hosts[0][0]
        compiled.bits.add(host, old)
        for name, what in (
            ("fleet_full_ms", compiled.bits.recompute),
            ("fleet_admit_ms", lambda new=new: compiled.bits.admit(new)),
            (
                "event_ms",
                lambda host=host, new=new, old=old: (
                    compiled.bits.remove(host, old),
                    compiled.bits.add(host, new),
                    compiled.bits.watching(host, bit_of("smt", "shared")),
                    compiled.bits.flags(host),
                ),
            ),
        ):
            before = time.process_time()
            what()
            took[name].append((time.process_time() - before) * 1000)
    report: dict[str, Any] = {}
    for name, values in took.items():
        report[name] = round(statistics.median(values), 4)
        report[f"{name}_p95"] = round(sorted(values)[int(0.95 * (len(values) - 1))], 4)
    return report | {"fleet_hosts": hosts, "fleet_vms": vms, "fleet_flagged": len(compiled.bits.flagged())}
