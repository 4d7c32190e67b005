"""What `negotiate` prints equals section 8 of the design by plain enumeration of every outcome on narrow hosts."""

import random
from fractions import Fraction
from itertools import product
from math import log, prod

from tests.policy.cast import NOW, ORACLES
from tests.policy.slow_recognition import NAMES, RESOURCES, Case, TooSlow, core_of
from tests.policy.test_recognition_twin import some_host, some_policy
from webapp.errors import BadInput
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.negotiation import negotiate
from webapp.vpms.vocabulary import SWITCHES

PLAIN = ("memory_protection", "hugepages", "emulator_threads", "cache_partition", "co_residence")


def canonical(case, place, s):
    """Strict to lax, scarce values of a switch that nobody concerned mentions last."""
    askers = [place] if place else list(case.policies)
    asked = any(s in case.policies[p]["switches"] for p in askers)
    return sorted(NAMES[s], key=lambda v: (not asked and v in SWITCHES[s].resource, NAMES[s].index(v)))


def view_of(case, party, assignment):
    own = assignment["vms"].get(party, {})
    view = {s: assignment["host"].get(s) if case.shared(s) else own.get(s) for s in NAMES}
    return {s: v for s, v in view.items() if party != "operator" or case.shared(s)}


def broken_rule(rule, view):
    return view[rule["when"]["switch"]] in rule["when"]["in"] and view[rule["then"]["switch"]] not in rule["then"]["in"]


def worth(case, party, view):
    return sum(case.score(party, s, view[s]) for s in case.wishes(party) if s in view)


def current(case, party):
    """The view in force of a party of the agreement, if it is whole."""
    agreement = case.host.get("agreement")
    if not agreement or party not in [row["id"] for row in agreement["parties"]]:
        return None
    if party != "operator" and party not in case.host.get("running", []):
        return None
    view = view_of(case, party, agreement["assignment"])
    return None if None in view.values() else view


def reservation(case, party):
    view = current(case, party)
    if view is None or any(v in case.vetoes(party, s) for s, v in view.items()):
        return case.own_least(party)
    if any(broken_rule(rule, view) for rule in case.rules(party)):
        return case.own_least(party)
    return max(case.own_least(party), worth(case, party, view))


def outcomes(case):
    """Every assignment of X as (ranks in canonical order, assignment)."""
    if list(case.class_rows()) or list(case.label_rows()) or any(map(case.expired, case.policies)):
        return
    issues = [(None, s) for s in NAMES if case.shared(s)]
    issues += [(p, s) for p in case.policies for s in NAMES if not case.shared(s)]
    domains = []
    for p, s in issues:
        refused = {v for q in (case.parties if p is None else [p]) for v in case.vetoes(q, s)}
        values = [v for v in canonical(case, p, s) if v in case.offered(s) and v not in refused]
        values = [v for v in values if s != "co_residence" or v in case.residence()]
        domains.append([v for v in values if s != "overcommit" or case.fits(v)])
    if prod(len(row) for row in domains) > 4000:
        raise TooSlow
    links = {p: case.links(p, lambda s: s) for p in case.policies}
    for chosen in product(*domains):
        assignment = {"host": {}, "vms": {p: {} for p in case.policies}}
        for (p, s), value in zip(issues, chosen, strict=True):
            (assignment["vms"][p] if p else assignment["host"])[s] = value
        views = {p: view_of(case, p, assignment) for p in case.policies}
        if any(views[p][s] in values and views[p][t] not in ok for p in links for s, values, t, ok in links[p]):
            continue
        if any(sum(case.use(r, p, views[p][r[1]]) for p in views) > case.limit(r) for r in RESOURCES):
            continue
        yield [row.index(v) for row, v in zip(domains, chosen, strict=True)], assignment


def settled(policies, host):
    """The parts of the result that section 8 and 13 determine."""
    case = Case(policies, host, NOW)
    d = {p: reservation(case, p) for p in case.parties}
    case = Case(policies, host, NOW, least=d)
    X = [(ranks, a, {p: worth(case, p, view_of(case, p, a)) for p in case.parties}) for ranks, a in outcomes(case)]
    ideals = {p: max(u[p] for _, _, u in X) for p in case.parties} if X else {}
    result = {"reservations": d, "ideals": ideals, "assignment": None, "utilities": {}, "gains_exact": {}}
    Y = [row for row in X if all(row[2][p] >= d[p] for p in d)]
    if not Y:
        core, background = core_of(case, case.parties, Case.feasible)
        return {**result, "status": "no_agreement", "core": core, "background": background, "contested": []}
    counted = [p for p in case.parties if ideals[p] > d[p]]

    def gain(u, p):
        return Fraction(u[p] - d[p], ideals[p] - d[p]) if p in counted else Fraction(1)

    best = max(min([gain(u, p) for p in counted], default=Fraction(1)) for _, _, u in Y)
    first = [row for row in Y if min([gain(row[2], p) for p in counted], default=Fraction(1)) == best]
    value = [prod(1000 * (u[p] - d[p]) + ideals[p] - d[p] for p in counted) for _, _, u in first]
    _, a, u = min(row for row, number in zip(first, value, strict=True) if number == max(value))
    contested, human = [], []
    for p, s in [(None, s) for s in a["host"]] + [(p, s) for p, row in a["vms"].items() for s in row]:
        chosen = a["vms"][p][s] if p else a["host"][s]
        for q in case.parties if p is None else [p]:
            if chosen not in case.best(q, s, case.possible(q, s)) and f"{p or 'host'}/{s}" not in contested:
                contested.append(f"{p or 'host'}/{s}")
    for p, document in case.policies.items():
        view = view_of(case, p, a)
        marked = [s for s, wish in document["switches"].items() if wish.get("approval") == "human"]
        asked = any(view[s] not in case.best(p, s, case.possible(p, s)) for s in marked)
        if view != current(case, p) and (document["delegate"]["mode"] == "human" or asked):
            human.append(p)
    gains = {p: gain(u, p) for p in case.parties}
    return {
        **result, "status": "needs_human" if human else "agreed", "assignment": a, "utilities": u,
        "gains_exact": {p: f"{g.numerator}/{g.denominator}" for p, g in gains.items()}, "contested": contested,
        "human": human, "core": [], "background": [], "min_gain": float(best),
        "nash": sum(log(gains[p] + Fraction(1, 1000)) for p in counted),
    }  # fmt: skip


def narrow(rng):
    """Policies and a host that leaves a choice in few switches only; sometimes with an agreement in force."""
    live = rng.sample(list(SWITCHES), rng.randint(3, 5))
    names = rng.sample(["a", "b", "c"], rng.choice([1, 2, 2]))
    policies = [some_policy(rng, name, live) for name in names]
    for policy in policies:
        policy["delegate"]["mode"] = rng.choice(["auto", "auto", "human", policy["delegate"]["mode"]])
        for wish in policy["switches"].values():
            wish["approval"] = rng.choice(["auto", "auto", "human"])
    while True:
        host = some_host(rng, live)
        pinned = {s: [rng.choice(NAMES[s])] for s in NAMES if s not in live}
        pinned |= {s: [NAMES[s][-1]] for s in PLAIN if s not in live}  # so that facts seldom exclude everything
        host["capacity"]["memory_mib"] = max(host["capacity"]["memory_mib"], rng.choice([1024, 8192, 8192]))
        host["operator"]["offers"] = {**host["operator"].get("offers", {}), **pinned}
        try:
            read_host(host)
        except BadInput:
            continue
        return policies, host


def test_the_printed_outcome_equals_plain_enumeration():
    rng, statuses, again = random.Random(42), [], 0
    for _ in range(25 * ORACLES):
        policies, host = narrow(rng)
        for policy in policies:
            policy["validity"] = {"notBefore": None, "notAfter": None}
        for second in (False, True):  # then once more with what was agreed in force and changed wishes
            try:
                expected = settled(policies, host)
            except TooSlow:
                break
            found = negotiate([read_policy(p) for p in policies], read_host(host), NOW)
            for key, value in expected.items():
                if key in ("min_gain", "nash"):
                    assert abs(found[key] - value) < 1e-6
                else:
                    assert found[key] == value, (key, policies, host)
            statuses.append(found["status"])
            again += second
            if second or found["assignment"] is None:
                break
            running = [p["vm"] for p in policies]
            parties = [
                {"id": p, "tenant": "t", "policy_sha256": "0" * 64, "policy_version": 1, "key": "A" * 43 + "="}
                for p in sorted([*running, "operator"])
            ]
            host = {**host, "running": running, "agreement": {
                "format": "vpms-agreement/1", "agreement": "g", "version": 1, "previous": None, "host": host["host"],
                "parties": parties, "assignment": found["assignment"], "not_enforced": [], "notBefore": NOW,
                "notAfter": "2026-05-01T00:00:00Z", "certificate_sha256": "0" * 64,
            }}  # fmt: skip
            if rng.random() < 0.5:
                policies = [p if rng.random() < 0.5 else {**p, "rules": []} for p in policies]
    assert again > 4 * ORACLES and all(
        statuses.count(s) > ORACLES for s in ("no_agreement", "agreed", "needs_human")
    ), statuses
