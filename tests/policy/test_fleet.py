"""The fleet in bits says exactly what the slow rules of conflicts.py say, host by host, also after changes."""

import json
import random
from dataclasses import replace

import pytest

from tests.policy.cast import NOW, a_db, b_web, h1, vm
from webapp.errors import BadInput
from webapp.solver.fleet import Fleet as Bits
from webapp.vpms import cli
from webapp.vpms.conflicts import at_start
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.fleet import Compiled, Fleet, bit_of, mask_of, read_fleet
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

SHARED = [name for name, switch in SWITCHES.items() if switch.shared_by_nature]


def random_policy(rng, number, labels=6, classes=4):
    """Vetoes on a few switches, sometimes on all values of one; a rule; labels and classes from small pools."""
    switches = {}
    for name in rng.sample(list(SWITCHES), rng.randint(1, 6)):
        values = SWITCHES[name].names
        refused = rng.sample(values, rng.choice([0, 0, 1, 1, len(values) - 1]))
        switches[name] = [0, {value: "veto" if value in refused else rng.randint(0, 1000) for value in values}]
    next(iter(switches.values()))[0] = 1000
    shown = rng.sample([f"label{n}" for n in range(labels)], rng.randint(0, 2))
    refuses = [label for label in (f"label{n}" for n in range(labels)) if label not in shown and rng.random() < 0.05]
    held = [name for name in (f"class{n}" for n in range(classes)) if rng.random() < 0.1]
    when, then = rng.sample(SHARED, 2)
    rule = {
        "when": {"switch": when, "in": rng.sample(SWITCHES[when].names, 1)},
        "then": {"switch": then, "in": rng.sample(SWITCHES[then].names, 1)},
    }
    return vm(
        f"vm{number}",
        f"tenant{rng.randint(0, 3)}",
        {name: tuple(row) for name, row in switches.items()},
        labels={"conflictClass": held[:16], "exhibits": shown, "refuses": refuses[:16]},
        rules=[rule] if rng.random() < 0.3 else [],
    )


def random_host(rng):
    offers = {}
    for name in rng.sample(SHARED, 2):
        offers[name] = rng.sample(SWITCHES[name].names, rng.randint(1, len(SWITCHES[name].names)))
    host = h1()
    host["operator"]["offers"] = offers
    if rng.random() < 0.3:
        host["per_vm"] = []
    return host


def slowly(fleet, host):
    """Flags of one host by the rules of conflicts.py over its VMs, without the population rules."""
    policies = [replace(fleet.templates[at], vm=f"{n}-{at}") for n, at in enumerate(fleet.hosts[host])]
    situation = Situation(policies, fleet.host, NOW).without("population", "capacity:memory")
    hard = [finding for finding in at_start(situation) if finding.severity == "hard"]
    return {
        "switches": [s for s in SHARED if any(f.switch == s and len(f.parties) > 1 for f in hard)],
        "labels": sorted({f.text.split(":")[0] for f in hard if f.code == "C10" and f.switch is None}),
        "classes": sorted({f.text.split(":")[0] for f in hard if f.code == "C09"}),
    }


def random_fleet(rng, **pools):
    templates = [read_policy(random_policy(rng, n, **pools)) for n in range(rng.randint(1, 25))]
    most = rng.choice([2, 4, 8])
    hosts = [[rng.randrange(len(templates)) for _ in range(rng.randint(0, most))] for _ in range(8)]
    return Fleet(read_host(random_host(rng)), templates, hosts)


@pytest.mark.parametrize("pools", [{}, {"labels": 140, "classes": 90}], ids=["one_word", "more_words"])
def test_flags_equal_the_slow_rules(pools):
    rng = random.Random(3)
    kinds = set()
    for _ in range(60):
        fleet = random_fleet(rng, **pools)
        compiled = Compiled(fleet)
        flagged = compiled.flagged()
        for host in range(len(fleet.hosts)):
            expected = slowly(fleet, host)
            assert compiled.flags(host) == expected
            assert (host in flagged) == any(expected.values())
            kinds |= {kind for kind, names in expected.items() if names}
    assert kinds == {"switches", "labels", "classes"}


def test_admission_equals_adding_by_the_slow_rules():
    rng = random.Random(4)
    answers = set()
    for _ in range(40):
        fleet = random_fleet(rng)
        compiled = Compiled(fleet)
        template = rng.randrange(len(fleet.templates))
        admitting = compiled.admitting(template)
        for host, row in enumerate(fleet.hosts):
            more = Fleet(fleet.host, fleet.templates, [[*row, template]])
            same = slowly(fleet, host) == slowly(more, 0)
            assert (host in admitting) == same
            answers.add(same)
    assert answers == {True, False}


def test_vms_that_come_and_go_leave_what_a_new_fleet_would_say():
    rng = random.Random(5)
    for _ in range(20):
        fleet = random_fleet(rng)
        compiled, hosts = Compiled(fleet), [list(row) for row in fleet.hosts]
        for _ in range(60):
            host = rng.randrange(len(hosts))
            if hosts[host] and rng.random() < 0.5:
                gone = hosts[host].pop(rng.randrange(len(hosts[host])))
                compiled.bits.remove(host, gone)
            else:
                hosts[host].append(rng.randrange(len(fleet.templates)))
                compiled.bits.add(host, hosts[host][-1])
        anew = Compiled(Fleet(fleet.host, fleet.templates, hosts))
        assert compiled.flagged() == anew.flagged()
        template = rng.randrange(len(fleet.templates))
        assert compiled.admitting(template) == anew.admitting(template)


def test_an_event_touches_only_those_who_cannot_live_with_the_value():
    rng = random.Random(6)
    for _ in range(20):
        fleet = random_fleet(rng)
        compiled = Compiled(fleet)
        for host, row in enumerate(fleet.hosts):
            switch = rng.choice(SHARED)
            value = rng.choice(SWITCHES[switch].names)
            expected = []
            for at in row:
                policy = fleet.templates[at]
                situation = Situation([policy], fleet.host, NOW).without("population")
                possible = situation.possible(policy.vm, switch)
                if possible and value not in possible:
                    expected.append(policy.vm)
            assert sorted(compiled.event(host, switch, value)) == sorted(expected)


def test_a_switch_that_leaves_a_vm_nothing_does_not_make_the_others_conflict():
    host = read_host(h1())
    nothing = read_policy(vm("x", "t", {"smt": (1000, dict.fromkeys(SWITCHES["smt"].names, "veto"))}))
    assert mask_of(nothing, host) >> bit_of("smt", "off") & 15 == 15
    assert Compiled(Fleet(host, [nothing], [[0, 0]])).flagged() == {}


def test_indices_that_do_not_exist_are_refused():
    fleet = Compiled(Fleet(read_host(h1()), [read_policy(a_db())], [[0]])).bits
    for call in (lambda: fleet.admit(1), lambda: fleet.add(1, 0), lambda: fleet.flags(-1), lambda: fleet.add(0, 1)):
        with pytest.raises(IndexError):
            call()
    with pytest.raises(ValueError, match="no VM"):
        [fleet.remove(0, 0) for _ in range(2)]
    with pytest.raises(ValueError, match="fit"):
        Bits(0, 0, b"", bytes(4), bytes(4), b"")


def document(**changes):
    lax = vm("lax", "beta", {"page_sharing": (1000, {"off": "veto", "same_tenant": "veto", "on": 1000})})
    return {
        "format": "vpms-fleet/1",
        "host": h1(),
        "templates": [a_db(), b_web(), lax],
        "hosts": [[0, 1, 1], [0, 2], []],
        **changes,
    }


def test_the_command_names_flagged_hosts_and_those_that_could_take_one_more(tmp_path, capsysbinary):
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps(document()))
    assert cli.main(["fleet", str(path), "--admit", "2"]) == 1
    found = json.loads(capsysbinary.readouterr().out)
    assert found["hosts"] == 3 and found["vms"] == 5 and found["admit"] == [1, 2]
    assert found["flagged"] == {"1": {"switches": ["page_sharing"], "labels": [], "classes": []}}
    assert set(found["elapsed_ms"]) == {"full", "admit"}
    path.write_text(json.dumps(document(hosts=[[0], [2, 2]])))
    assert cli.main(["fleet", str(path)]) == 0
    assert json.loads(capsysbinary.readouterr().out)["admit"] is None
    assert cli.main(["fleet", str(path), "--admit", "3"]) == 2


def test_bad_fleets_are_refused_with_a_path():
    wrong = a_db()
    wrong["switches"]["smt"]["weight"] = 0
    with pytest.raises(BadInput) as refused:
        read_fleet(json.dumps(document(templates=[wrong], hosts=[[0, 1]])))
    assert [fault.path for fault in refused.value.faults] == ["$.templates[0].switches", "$.hosts[0][1]"]
