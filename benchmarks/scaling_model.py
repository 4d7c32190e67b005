"""How large the site can get on how many machines: a capacity model from unit costs, and a simulation that checks it.

`python -m benchmarks.scaling_model [--costs bench.json] [--hosts 5000 --vms 100000 --viewers 10000 --slower 16]`
prints one JSON object: what every station would need, which one is full first, and what the simulation saw. Costs come
from `make bench-scaling` (its JSON) or, without it, from what is noted here. docs/scaling.md tells what it means.

A host that runs asks for `4 / slower` slices a second. A slice passes the keeper (one loop: one core at most), a worker
and the database; its frames pass Redis (one thread) and the web processes. Each station is busy for its cost times the
rate.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

SLICES_A_SECOND: Final = 4  # webapp.runs.engine, of a host at its pace
FULL: Final = 0.7  # of a station's capacity: beyond it waits grow without a good limit
DATABASE_CORES: Final = 16
KEPT_MIB: Final = 48  # of checkpoints, of each run: webapp.runs.services.CHECKPOINT_BYTES
CONNECTIONS_A_PROCESS: Final = 3


@dataclass(frozen=True)
class Costs:
    """Processor milliseconds of one thing, unless the name says otherwise."""

    slice_worker: float  # of a host with two VMs, hot
    slice_cold: float  # more, when the worker has to open the checkpoint first
    slice_vm: float  # more, for each further VM
    slice_keeper: float
    slice_database: float
    slice_redis: float
    frame_web: float  # to one viewer
    checkpoint_kib: float
    worker_mib: float  # a worker process
    web_mib: float  # a web process without viewers
    socket_kib: float  # more, for each viewer


@dataclass(frozen=True)
class Size:
    """What the site is to carry, and on what."""

    hosts: int = 5_000
    vms: int = 100_000
    viewers: int = 10_000
    slower: float = 16.0  # HSVM_SLOWER: how much slower than its pace a host runs
    worker_processes: int = 64
    web_processes: int = 16

    @property
    def slices(self) -> float:
        return self.hosts * SLICES_A_SECOND / self.slower

    @property
    def frames(self) -> float:
        return self.viewers * SLICES_A_SECOND / self.slower


# By `make bench-scaling` on PostgreSQL 15 and Redis 7, two cores, 2026-11-29; memory of web processes and sockets from
# goal V1 with 200 and with 400 viewers.
MEASURED: Final = Costs(
    slice_worker=18.7,
    slice_cold=127.4,
    slice_vm=12.0,
    slice_keeper=1.8,
    slice_database=6.5,
    slice_redis=0.5,
    frame_web=0.17,
    checkpoint_kib=57.8,
    worker_mib=686.0,
    web_mib=207.0,
    socket_kib=55.0,
)


def costs_of(bench: dict[str, Any]) -> Costs:
    """The unit costs in what `make bench-scaling` printed: of PostgreSQL and Redis, if they were measured."""
    told = bench.get("servers") or bench["embedded"]
    few, many, viewers = told["slice"], told["slice_of_many"], told["viewers"]
    more = told["vms"][1] - told["vms"][0]
    return replace(
        MEASURED,
        slice_worker=told["engine"]["hot_ms"],
        slice_cold=told["engine"]["cold_ms"] - told["engine"]["hot_ms"],
        slice_vm=max(0.0, (many["worker_ms"] - few["worker_ms"]) / more),
        slice_keeper=told["keeper"]["message_ms"],
        slice_database=few.get("database_ms", 0.0),
        slice_redis=few["redis_ms"],
        frame_web=viewers["frame_ms_1"],
        checkpoint_kib=few["checkpoint_kb"],
        worker_mib=few["worker_mb"],
    )


def needs(size: Size, costs: Costs) -> dict[str, dict[str, float]]:
    """By station: cores that it would need, cores that it can have, and the share of these."""
    work = costs.slice_worker + costs.slice_vm * max(0.0, size.vms / size.hosts - 2)
    # Any worker may get the next slice of a host, and keeps eight hosts hot: the more processes, the more often cold.
    # Where slices wait each process takes its own first (webapp.runs.affinity); that is not counted on here.
    work += costs.slice_cold * cold_share(size)
    needed = {
        "keeper": (size.slices * costs.slice_keeper / 1000, 1.0),
        "workers": (size.slices * work / 1000, float(size.worker_processes)),
        "database": (size.slices * costs.slice_database / 1000, float(DATABASE_CORES)),
        "redis": (size.slices * costs.slice_redis / 1000, 1.0),
        "web": (size.frames * costs.frame_web / 1000, float(size.web_processes)),
    }
    return {
        name: {"cores": round(cores, 2), "of": limit, "share": round(cores / limit, 3)}
        for name, (cores, limit) in needed.items()
    }


HOT: Final = 8  # webapp.runs.engine.HOT_PLAYERS


def cold_share(size: Size) -> float:
    """How many slices find their host cold: another process had it last, or has let it go since."""
    here = 1 / size.worker_processes
    kept = min(1.0, HOT / max(1.0, size.hosts / size.worker_processes))
    return 1 - here * kept


def verdict(size: Size, costs: Costs) -> dict[str, Any]:
    """Which station is full first, and how many hosts there may be until then (all else in proportion)."""
    stations = needs(size, costs)
    first = max(stations, key=lambda name: stations[name]["share"])
    share = stations[first]["share"]
    return {
        "size": asdict(size),
        "slices_a_second": round(size.slices, 1),
        "frames_a_second": round(size.frames, 1),
        "stations": stations,
        "first_bottleneck": first,
        "fits": share <= FULL,
        "hosts_at_most": int(size.hosts * FULL / share) if share else size.hosts,
        "slower_at_least": round(size.slower * share / FULL, 1),
        "memory_gib": {
            "workers": round(size.worker_processes * costs.worker_mib / 1024, 1),
            "web": round((size.web_processes * costs.web_mib + size.viewers * costs.socket_kib / 1024) / 1024, 1),
        },
        "database_gib": round(size.hosts * KEPT_MIB / 1024, 1),
        "connections": CONNECTIONS_A_PROCESS * (size.worker_processes + size.web_processes + 2),
    }


# -- the simulation


def simulated(size: Size, costs: Costs, *, seconds: float = 8.0, seed: int = 1) -> dict[str, Any]:
    """The way of every slice through its stations, each with as many places as it has cores, first come first served,
    service times exponential around the cost. Nothing of the model above goes in but the unit costs."""
    chance = random.Random(seed)
    period = size.slower / SLICES_A_SECOND
    work = costs.slice_worker + costs.slice_vm * max(0.0, size.vms / size.hosts - 2)
    cold = cold_share(size)
    free: dict[str, list[float]] = {
        "keeper": [0.0],
        "workers": [0.0] * size.worker_processes,
        "database": [0.0] * DATABASE_CORES,
        "redis": [0.0],
    }
    busy = dict.fromkeys(free, 0.0)

    def served(station: str, at: float, mean: float) -> float:
        """When it is through: a place is taken as soon as one is free."""
        begun = max(at, heapq.heappop(free[station]))
        took = chance.expovariate(1 / mean) if mean else 0.0
        heapq.heappush(free[station], begun + took)
        if begun < seconds:
            busy[station] += min(took, seconds - begun)
        return begun + took

    # Events in order of time: (when, number that orders equals, host, its due time, the station that is next).
    events = [(chance.uniform(0, period), host, host, 0) for host in range(size.hosts)]
    due = {host: at for at, _, host, _ in events}
    heapq.heapify(events)
    number, done, late = size.hosts, 0, 0.0
    stations = ("keeper", "workers", "database", "redis")
    while events:
        at, _, host, stage = heapq.heappop(events)
        if at >= seconds:
            continue
        mean = {
            "keeper": costs.slice_keeper,
            "workers": work + (costs.slice_cold if chance.random() < cold else 0.0),
            "database": costs.slice_database,
            "redis": costs.slice_redis,
        }[stations[stage]]
        through = served(stations[stage], at, mean / 1000)
        if stage + 1 < len(stations):
            number += 1
            heapq.heappush(events, (through, number, host, stage + 1))
            continue
        if through < seconds:
            done += 1
            late = max(late, through - due[host] - period)
        due[host] = max(due[host] + period, through)  # a late one is not made up for
        number += 1
        heapq.heappush(events, (due[host], number, host, 0))
    shares = {name: round(busy[name] / seconds / len(free[name]), 3) for name in free}
    return {
        "seconds": seconds,
        "slices_a_second": round(done / seconds, 1),
        "wanted": round(size.slices, 1),
        "shares": shares,
        "fullest": max(shares, key=lambda name: shares[name]),
        "latest_s": round(max(0.0, late), 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--costs", type=Path, help="the JSON that make bench-scaling printed")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    asked = vars(parser.parse_args())
    path = asked.pop("costs")
    try:
        costs = costs_of(json.loads(path.read_text().splitlines()[-1])) if path else MEASURED
    except (OSError, ValueError, KeyError, IndexError) as fault:
        print(f"{path} is not what make bench-scaling prints: {fault}", file=sys.stderr)
        return 2
    size = Size(**asked)
    print(json.dumps({"model": verdict(size, costs), "simulation": simulated(size, costs), "costs": asdict(costs)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
