"""Recognition equals the slow twin on thousands of findings: codes, parties, values and cores."""

import random
from collections import Counter
from typing import Any

import pytest

from tests.policy import slow_recognition
from tests.policy.cast import H1, NOW, ORACLES, vm
from webapp.errors import BadInput
from webapp.vpms.conflicts import check
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.vocabulary import SWITCHES

LABELS = ["red", "blue", "loud"]


def some_rule(rng, live):
    when, then = rng.sample(live, 2)
    sides = [
        {"switch": s, "in": rng.sample(SWITCHES[s].names, rng.randint(1, len(SWITCHES[s].names)))} for s in (when, then)
    ]
    return {"when": sides[0], "then": sides[1]}


def some_policy(rng, name, live):
    mentioned = rng.sample(live, rng.randint(1, len(live)))
    cuts = sorted(rng.choice([0, 1000, rng.randint(0, 1000)]) for _ in mentioned[1:])
    switches = {}
    for switch, low, high in zip(mentioned, [0, *cuts], [*cuts, 1000], strict=True):
        scores = {v: rng.choice(["veto", 0, 0, 500, 1000, 1000]) for v in SWITCHES[switch].names}
        if rng.random() < 0.7:
            scores = {v: 0 if score == "veto" else score for v, score in scores.items()}
        switches[switch] = (high - low, scores)
    labels = {key: rng.sample(LABELS, rng.choice([0, 0, 1])) for key in ("conflictClass", "exhibits", "refuses")}
    if set(labels["exhibits"]) & set(labels["refuses"]):
        labels["refuses"] = []
    return vm(
        name, rng.choice(["alpha", "beta"]), switches, labels=labels if rng.random() < 0.3 else {},
        trustClass=rng.choice(["default", "default", "gold"]),
        rules=[some_rule(rng, live) for _ in range(rng.choice([0, 0, 0, 1, 3]))],
        size={"vcpus": rng.randint(1, 3), "memory_mib": rng.choice([512, 2048]), "cache_ways": rng.randint(0, 3)},
        disagreement={"kind": "do-not-start", "utility": rng.choice([0, 0, 0, 0, 200, 700])},
        delegate={"mode": rng.choice(["auto"] * 4 + ["auto-within-bounds"]), "floor": rng.choice([0, 300, 900])},
        validity={"notBefore": None, "notAfter": rng.choice([None] * 40 + [NOW])},
        **({"maintenance": [[0, rng.choice([30, 90])]]} if rng.random() < 0.2 else {}),
    )  # fmt: skip


def some_host(rng, live):
    def lists(share):
        return {
            s: rng.sample(SWITCHES[s].names, rng.randint(1, len(SWITCHES[s].names)))
            for s in live
            if rng.random() < share
        }

    while True:
        document: dict[str, Any] = {**H1, "capacity": dict(H1["capacity"])}
        document["capabilities"] = {**lists(0.2), "memory_protection": rng.choice([["hsvm", "none"], ["sev", "none"]])}
        document["operator"] = {"law": lists(0.1), "offers": lists(0.15), "maintenance_min": rng.choice([0, 0, 60])}
        document["operator"]["actions"] = rng.sample(list(slow_recognition.ACTIONS), rng.choice([0, 3]))
        document["capacity"] |= {
            "memory_mib": rng.choice([1024, 4096, 16384]), "cores": rng.randint(1, 6), "cache_ways": rng.randint(0, 6),
            "bandwidth_pct": rng.choice([0, 15, 100]), "hugepage_mib": rng.choice([0, 2048]),
            "key_slots": rng.randint(0, 1),
        }  # fmt: skip
        if rng.random() < 0.3:
            document["per_vm"] = [s for s, switch in SWITCHES.items() if switch.scope in "VO" and rng.random() < 0.6]
        if rng.random() < 0.2:
            scores = {v: rng.choice([0, 500, 1000]) for v in SWITCHES["mitigations"].names}
            document["operator"]["preferences"] = {
                "switches": {"mitigations": {"weight": 1000, "values": scores}}, "utility": rng.choice([0, 500]),
            }  # fmt: skip
        if rng.random() < 0.1:
            document["departed"] = [{"tenant": "beta", "conflictClass": "red", "until": "2027-01-01T00:00:00Z"}]
        try:
            read_host(document)
            return document
        except BadInput:
            continue  # some switch was left without a value


def rows_of(result):
    keys = ("code", "class", "trigger", "severity", "parties", "switch", "values", "core", "background")
    return sorted((tuple(row[key] for key in keys) for row in result["conflicts"]), key=repr)


def cases(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        kinds = rng.choice(["HPVO", "HP", "V", "O"])  # narrow draws let wishes meet
        live = rng.sample([s for s, switch in SWITCHES.items() if switch.scope in kinds], rng.randint(2, 5))
        policies = [some_policy(rng, name, live) for name in rng.sample(["a", "b", "c", "d"], rng.choice([1, 2, 2, 3]))]
        yield rng, policies, some_host(rng, live), rng.choice(["create", "start", "start", "start", "run"])


@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_equals_the_slow_twin(seed):
    seen, slow = Counter(), 0
    for _, policies, host, trigger in cases(seed, 25 * ORACLES):
        try:
            expected = slow_recognition.recognise(policies, host, NOW, trigger)
        except slow_recognition.TooSlow:
            slow += 1
            continue
        found = rows_of(check(map(read_policy, policies), read_host(host), now=NOW, trigger=trigger))
        assert found == expected, (policies, host, trigger)
        seen.update((row[0], row[3]) for row in found)
    assert slow < 3 * ORACLES
    assert len(seen) > 8, seen


def turned(rng, value):
    """The same document with its keys and labels in another order."""
    if isinstance(value, dict):
        rows = [(key, turned(rng, item)) for key, item in value.items()]
        return dict(rng.sample(rows, len(rows)))
    return rng.sample(value, len(value)) if isinstance(value, list) and all(v in LABELS for v in value) else value


def test_no_order_of_files_keys_labels_or_rules_changes_what_is_found():
    for rng, policies, host, trigger in cases(7, 15 * ORACLES):
        first = check(map(read_policy, policies), read_host(host), now=NOW, trigger=trigger)
        again = [turned(rng, {**policy, "rules": []}) | {"rules": policy["rules"]} for policy in policies]
        other = check(map(read_policy, again[::-1]), read_host(turned(rng, host)), now=NOW, trigger=trigger)
        assert (first["status"], first["conflicts"]) == (other["status"], other["conflicts"])
        ruled = [{**policy, "rules": policy["rules"][::-1]} for policy in policies]
        third = check(map(read_policy, ruled), read_host(host), now=NOW, trigger=trigger)
        rows = [[row[:7] for row in rows_of(result) if row[0] != "C03"] for result in (first, third)]
        assert rows[0] == rows[1] and first["status"] == third["status"]
