"""How fast conflicts are found and settlements proven, beside CP-SAT and NegMAS: one JSON object.

The solver and CP-SAT get the same instances in turn, on one thread each; CP-SAT is given the ideals and does only the
first of three stages. Times are processor time, so that other work on the computer weighs less. NegMAS negotiators know
only their own preferences, the mediator knows all: results are compared, not conditions. They run if their own
environment is there (make bench-policy prepares it); else their figures are null.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import _fleet
from webapp import strictjson
from webapp.vpms import agreement, auditlog
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.instance import Instance, Limits, Solution, solve
from webapp.vpms.negotiation import negotiate

HERE = Path(__file__).resolve().parent
NEGMAS_PYTHON = os.environ.get("NEGMAS_PYTHON", "")
NEGOTIATORS = ("MiCRO", "Boulware")
NOW = "2026-03-02T12:00:00Z"
SECONDS = 30.0


def dense(source: random.Random, parties: int, issues: int, facts: int = 8, vetoes: int = 2) -> Instance:
    """Weights of each party over all switches sum to 1000, its best score is 1000; three values; facts and vetoes."""
    utilities = []
    for _ in range(parties):
        parts = [source.random() for _ in range(issues)]
        weights = [int(1000 * part / sum(parts)) for part in parts]
        weights[0] += 1000 - sum(weights)
        table = []
        for weight in weights:
            scores = [source.randint(0, 1000) for _ in range(3)]
            scores[source.randrange(3)] = 1000
            table.append([weight * score for score in scores])
        utilities.append(table)
    links = []
    for _ in range(facts):
        issue, other = source.sample(range(issues), 2)
        links.append((issue, source.randrange(3), other, sorted(source.sample(range(3), 2))))
    forbidden = [(issue, source.randrange(3)) for issue in source.sample(range(issues), vetoes)]
    reserved = [source.randrange(0, 300_001, 1000) for _ in range(parties)]
    return Instance([3] * issues, reserved, utilities, forbidden, links)


def uniform(source: random.Random, parties: int, issues: int) -> Instance:
    """Every value gives every party something between 0 and 1000; nothing is excluded or reserved: the hardest."""
    utilities = [[[source.randint(0, 1000) for _ in range(3)] for _ in range(issues)] for _ in range(parties)]
    return Instance([3] * issues, [0] * parties, utilities)


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = what()
    return (time.process_time() - begun) * 1000, result


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The median under the name itself, and 95 of 100 below."""
    last = sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]
    return {f"{name}_median_ms": round(statistics.median(values), 2), f"{name}_p95_ms": round(last, 2)}


def fairest_by_cpsat(instance: Instance, found: Solution) -> bool | None:
    """Does CP-SAT prove the same least gain? None if it does not finish, or is not installed."""
    from benchmarks import _cpsat

    ranges = [ideal - d for ideal, d in zip(found.ideals, instance.reservations, strict=True)]
    proven, least = _cpsat.fairest(instance, ranges, SECONDS, 1)
    return abs(least - float(found.min_gain or 0)) < 2e-6 if proven else None


def solver(quick: bool) -> dict[str, Any]:
    source = random.Random(2016)
    ours: dict[str, list[float]] = {"solve_20": [], "solve_20_uniform": [], "solve_50": [], "solve_50_uniform": []}
    theirs, unproven, agree = [], 0, []
    sizes = [("solve_20", 20, dense, 11), ("solve_20_uniform", 20, uniform, 11)]
    sizes += [("solve_50", 50, dense, 40), ("solve_50_uniform", 50, uniform, 11)]
    for name, parties, make, count in sizes:
        for number in range(2 if quick else count):
            instance = make(source, parties // 4 if quick else parties, 8 if quick else 24)
            took, found = timed(lambda instance=instance: solve(instance, Limits(SECONDS)))
            ours[name].append(took)
            unproven += not (found.bound or {}).get("proven")
            if name == "solve_20" and number < 5:
                took, same = timed(lambda instance=instance, found=found: fairest_by_cpsat(instance, found))
                theirs.append(took)
                agree.append(same)
    report: dict[str, Any] = {}
    for name, values in ours.items():
        report |= spread(name, values)
    return report | {
        "solve_unproven": unproven,
        "cpsat_20_median_ms": round(statistics.median(theirs), 1),
        "cpsat_20_unproven": agree.count(None),
        "cpsat_agrees": all(same for same in agree if same is not None),
    }


def gains(instance: Instance, ideals: Sequence[int], chosen: Sequence[int]) -> list[float]:
    return [
        (sum(row[v] for row, v in zip(table, chosen, strict=True)) - d) / (ideal - d)
        for table, d, ideal in zip(instance.utilities, instance.reservations, ideals, strict=True)
        if ideal > d
    ]


def product(values: Sequence[float]) -> float:
    result = 1.0
    for value in values:
        result *= value
    return result


def negmas(quick: bool) -> dict[str, Any]:
    """Each agreement of the negotiators beside ours: the gain of the worst-off party and the product of gains."""
    names = ("negmas_never_better", "negmas_never_fairer", "negmas_greater_products", "negmas_agreements")
    if not NEGMAS_PYTHON:
        return dict.fromkeys(names)
    source = random.Random(2017)
    fairer = greater = agreements = runs = 0
    ratios: dict[str, list[float]] = {name: [] for name in NEGOTIATORS}
    for _ in range(1 if quick else 5):
        for parties, issues in ((3, 4),) if quick else ((2, 6), (4, 6), (4, 8)):
            instance = uniform(source, parties, issues)
            problem = {
                "issues": instance.issues,
                "parties": [{"d": d, "u": u} for d, u in zip(instance.reservations, instance.utilities, strict=True)],
                "negotiators": NEGOTIATORS,
                "seconds": 2 if quick else 10,
            }
            found = solve(instance)
            assert found.assignment is not None
            ours = gains(instance, found.ideals, found.assignment)
            command = [NEGMAS_PYTHON, str(HERE / "_negmas.py")]
            ran = subprocess.run(command, input=json.dumps(problem), capture_output=True, text=True, check=True)
            for name, answer in json.loads(ran.stdout.splitlines()[-1]).items():
                runs += 1
                if answer["agreement"] is not None:
                    agreements += 1
                    peer = gains(instance, found.ideals, answer["agreement"])
                    fairer += min(peer) > min(ours) + 1e-12
                    greater += product(peer) > product(ours) * (1 + 1e-12)
                    ratios[name].append((product(peer) / product(ours)) ** (1 / parties))
    return {
        "negmas_never_better": fairer == 0 and greater == 0,
        "negmas_never_fairer": fairer == 0,
        "negmas_greater_products": greater,
        "negmas_agreements": f"{agreements} of {runs}",
        "negmas_product_ratio": {name: round(statistics.fmean(row), 3) for name, row in ratios.items() if row},
    }


def signatures(rounds: int) -> dict[str, Any]:
    """An agreement of 20 VMs and the operator, signed by all and verified with all keys."""
    policies = []
    for number in range(20):
        scores = {"off": 1000, "core_scheduling": 100 * (number % 10), "shared": 0}
        document = {**_fleet.policy(random.Random(number), number), "vm": f"vm{number:02}"}
        document |= {"labels": {}, "switches": {"smt": {"weight": 1000, "values": scores}}}
        policies.append(read_policy(document))
    host = read_host(_fleet.HOST)
    result = negotiate(policies, host, NOW)
    seeds = {party: hashlib.sha256(party.encode()).digest() for party in [*(p.vm for p in policies), "operator"]}
    keys = {party: agreement.public_key(seed) for party, seed in seeds.items()}
    terms = agreement.statement(
        assignment=result["assignment"], certificate=result["certificate"], policies=policies, host=host, keys=keys,
        agreement="a", version=1, previous=None, not_before=NOW,
    )  # fmt: skip

    def sign() -> bytes:
        payload = agreement.payload_of(terms)
        return strictjson.canonical(
            agreement.envelope(payload, [agreement.sign(payload, seed) for seed in seeds.values()])
        )

    signing, verifying = [], []
    for _ in range(rounds):
        took, signed = timed(sign)
        signing.append(took)
        took, verdict = timed(lambda signed=signed: agreement.verify(signed, now=NOW, keys=keys))
        verifying.append(took)
        assert verdict["valid"], verdict
    return {"sign_ms": round(statistics.median(signing), 2), "verify_ms": round(statistics.median(verifying), 2)}


def audit(entries: int, rounds: int) -> dict[str, Any]:
    lines, previous = [], auditlog.GENESIS
    for number in range(entries):
        entry = {
            "seq": number, "at": NOW, "type": "check", "actor": "alice", "subject": f"vm:vm{number % 997}",
            "data": {"status": "no_static_conflict_now", "version": number, "policy": previous}, "prev": previous,
        }  # fmt: skip
        previous = strictjson.digest(entry)
        lines.append(strictjson.canonical({**entry, "hash": previous}))
    log = b"\n".join(lines)
    took = []
    for _ in range(rounds):
        milliseconds, verdict = timed(lambda: auditlog.verify_log(log, head=previous))
        took.append(milliseconds / 1000)
        assert verdict["valid"]
    return {"audit_100k_s": round(statistics.median(took), 3)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and few: shows that it runs, measures nothing")
    quick = parser.parse_args().quick
    report = {
        "bench": "policy_speed",
        "quick": quick,
        **_fleet.figures(5 if quick else 20, quick),
        **solver(quick),
        **signatures(3 if quick else 20),
        **audit(1000 if quick else 100_000, 1 if quick else 5),
        **negmas(quick),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
