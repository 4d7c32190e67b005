"""The slow twin of recognition: section 6 of the design over the bare documents, row by row, with nothing clever.

It shares the vocabulary with the library and nothing else; feasibility is plain trying, given up where it lasts.
"""

from itertools import combinations

from webapp.vpms.vocabulary import FACTS, SWITCHES

NAMES = {name: list(switch.names) for name, switch in SWITCHES.items()}
SCOPE = {name: switch.scope for name, switch in SWITCHES.items()}
RESOURCES = [  # name, switch, values that take it, amount, capacity, code
    ("cores", "cpu_pinning", ["dedicated"], lambda size: size["vcpus"], "cores", "C12"),
    ("key_slots", "memory_protection", ["snp_tdx", "sev"], lambda size: 1, "key_slots", "C13"),
    ("cache_ways", "cache_partition", ["exclusive"], lambda size: size.get("cache_ways", 1), "cache_ways", "C11"),
    ("bandwidth_pct", "mem_bandwidth", ["reserved"], lambda s: s.get("bandwidth_pct", 10), "bandwidth_pct", "C11"),
    ("hugepage_mib", "hugepages", ["1g", "2m"], lambda size: size["memory_mib"], "hugepage_mib", "C18"),
    ("locked_mib", "swap", ["never"], lambda size: size["memory_mib"], "memory_mib", "C18"),
]  # fmt: skip
ACTIONS = {
    "reclaim": ("C19", "balloon", ["none"]),
    "introspect": ("C20", "introspection", ["none"]),
    "core_dump": ("C21", "core_dump", ["never"]),
    "snapshot": ("C23", "snapshot", ["never"]),
    "live_migrate": ("C22", "live_migration", ["never"]),
    "ksm_scan": ("C17", "page_sharing", ["off"]),
    "protection_off": ("C25", "memory_protection", ["hsvm", "snp_tdx", "sev"]),
}
O_CODES = {"overcommit": "C18", "balloon": "C19", "introspection": "C20", "core_dump": "C21",
           "live_migration": "C22", "snapshot": "C23"}  # fmt: skip
V_CODES = {"page_sharing": "C06", "smt": "C07", "mitigations": "C08", "nested_virt": "C10", "pmu": "C10",
           "co_residence": "C14", "overcommit": "C18"}  # fmt: skip
KINDS = ["veto", "rule", "reservation", "label", "class"]


class Case:
    """Documents, less some demands and background facts."""

    def __init__(self, policies, host, now, dropped=frozenset(), least=None):
        self.policies = {p["vm"]: p for p in sorted(policies, key=lambda p: p["vm"])}
        self.host, self.now, self.dropped = host, now, dropped
        self.operator = host["operator"]
        self.preferences = self.operator.get("preferences")
        self.parties = sorted([*self.policies, *(["operator"] if self.preferences else [])])
        self.least = {p: self.own_least(p) for p in self.parties} if least is None else least

    def less(self, *names):
        return Case(list(self.policies.values()), self.host, self.now, self.dropped | set(names), self.least)

    def on(self, name):
        return name not in self.dropped

    def shared(self, s):
        return SCOPE[s] in "HP" or s not in self.host.get("per_vm", [n for n in NAMES if SCOPE[n] in "VO"])

    def wishes(self, p):
        return self.preferences["switches"] if p == "operator" else self.policies[p]["switches"]

    def vetoes(self, p, s):
        wish = self.wishes(p).get(s)
        return [v for v in NAMES[s] if wish and wish["values"][v] == "veto"] if self.on(f"veto:{p}:{s}") else []

    def rules(self, p):
        rows = [] if p == "operator" else self.policies[p].get("rules", [])
        return [r for index, r in enumerate(rows) if self.on(f"rule:{p}:{index}")]

    def capable(self, s):
        given = self.host.get("capabilities", {}).get(s, ["hsvm", "none"] if s == "memory_protection" else NAMES[s])
        return [v for v in NAMES[s] if v in given or not self.on(f"capability:{s}")]

    def lawful(self, s):
        return [v for v in NAMES[s] if v in self.operator.get("law", {}).get(s, NAMES[s]) or not self.on(f"law:{s}")]

    def offered(self, s):
        offers = self.operator.get("offers", {}).get(s, NAMES[s])
        return [v for v in self.capable(s) if v in self.lawful(s) and (v in offers or not self.on(f"offer:{s}"))]

    def permitted(self, p):
        """A_i for all switches."""
        domains = {s: [v for v in NAMES[s] if v not in self.vetoes(p, s)] for s in NAMES}
        while True:
            gone = set()
            for rule in self.rules(p):
                (s, s_in), (t, t_in) = [(rule[side]["switch"], rule[side]["in"]) for side in ("when", "then")]
                fits = [(v, w) for v in domains[s] for w in domains[t] if v not in s_in or w in t_in]
                if domains[s] and domains[t]:
                    gone |= {(s, v) for v in domains[s] if v not in [pair[0] for pair in fits]}
                    gone |= {(t, w) for w in domains[t] if w not in [pair[1] for pair in fits]}
            if not gone:
                return domains
            domains = {s: [v for v in row if (s, v) not in gone] for s, row in domains.items()}

    def score(self, p, s, v):
        wish = self.wishes(p).get(s)
        return 0 if wish is None or wish["values"][v] == "veto" else wish["weight"] * wish["values"][v]

    def best(self, p, s, values):
        return [v for v in values if self.score(p, s, v) == max(self.score(p, s, w) for w in values)]

    def residence(self):
        policies = list(self.policies.values())
        found = ["any"]
        found += ["dedicated_host"] if len(policies) == 1 else []
        found += ["same_tenant"] if len({p["tenant"] for p in policies}) == 1 else []
        found += ["same_class"] if len({p.get("trustClass", "default") for p in policies}) == 1 else []
        return found if self.on("population") else NAMES["co_residence"]

    def possible(self, p, s):
        """a_i(s)"""
        values = [v for v in self.permitted(p)[s] if v in self.offered(s)]
        return [v for v in values if s != "co_residence" or v in self.residence()]

    def fits(self, overcommit):
        total = sum(p["size"]["memory_mib"] for p in self.policies.values())
        percent = {"none": 100, "x125": 125, "x150": 150}[overcommit]
        return not self.on("capacity:memory") or total * 100 <= self.host["capacity"]["memory_mib"] * percent

    def own_least(self, p):
        if p == "operator":
            return 1000 * self.preferences["utility"]
        delegate = self.policies[p]["delegate"]
        floor = delegate["floor"] if delegate["mode"] == "auto-within-bounds" else 0
        return 1000 * max(self.policies[p]["disagreement"]["utility"], floor)

    def reservation(self, p):
        return self.least[p] if self.on(f"reservation:{p}") else 0

    def links(self, p, place):
        """Facts and own rules of one view; `place` says which issue a switch is there."""
        rows = [(f.switch, f.values, f.then_switch, f.then_values) for f in FACTS if self.on(f.name)]
        rules = [(r["when"], r["then"]) for r in self.rules(p)]
        rows += [(when["switch"], when["in"], then["switch"], then["in"]) for when, then in rules]
        return [(place(s), values, place(t), allowed) for s, values, t, allowed in rows]

    def view_exists(self, p, least=0, best=False):
        """A view of C02: values not vetoed and offered, facts and own rules; before 4.2 and without resources."""
        domains = {s: [v for v in self.offered(s) if v not in self.vetoes(p, s)] for s in NAMES}
        if best:
            domains = {s: self.best(p, s, [v for v in self.permitted(p)[s] if v in row]) for s, row in domains.items()}
        points = {p: {s: {v: self.score(p, s, v) for v in NAMES[s]} for s in NAMES}}
        return exists(domains, self.links(p, lambda s: s), points, {p: least}, [])

    def classes(self, p):
        return [c for c in self.policies[p].get("labels", {}).get("conflictClass", []) if self.on(f"class:{p}:{c}")]

    def class_rows(self):
        for a, b in combinations(self.policies, 2):
            if self.policies[a]["tenant"] != self.policies[b]["tenant"]:
                yield from ((c, (a, b)) for c in self.classes(a) if c in self.classes(b))
        for a in self.policies:
            if a not in self.host.get("running", []) and self.on("departed"):
                for row in self.host.get("departed", []):
                    if row["tenant"] != self.policies[a]["tenant"] and row["until"] > self.now:
                        yield from ((c, (a,)) for c in self.classes(a) if c == row["conflictClass"])

    def label_rows(self):
        for a in self.policies:
            for b in self.policies:
                shown = self.policies[b].get("labels", {}).get("exhibits", [])
                for label in self.policies[a].get("labels", {}).get("refuses", []) if a != b else []:
                    if label in shown and self.on(f"label:{a}:{label}"):
                        yield label, a, b

    def expired(self, p):
        span = self.policies[p].get("validity", {})
        early = span.get("notBefore") is not None and self.now < span["notBefore"]
        late = span.get("notAfter") is not None and self.now >= span["notAfter"]
        return self.on("validity") and (early or late)

    def use(self, resource, p, v):
        return resource[3](self.policies[p]["size"]) if v in resource[2] else 0

    def limit(self, resource):
        return self.host["capacity"][resource[4]] if self.on(f"capacity:{resource[0]}") else 10**18

    def feasible(self):
        """Y is not empty."""
        if list(self.class_rows()) or list(self.label_rows()) or any(map(self.expired, self.policies)):
            return False
        domains = {}
        for s in NAMES:
            for p in [None] if self.shared(s) else self.policies:
                refused = {v for q in (self.parties if p is None else [p]) for v in self.vetoes(q, s)}
                values = [v for v in self.offered(s) if v not in refused]
                values = [v for v in values if s != "co_residence" or v in self.residence()]
                domains[p, s] = [v for v in values if s != "overcommit" or self.fits(v)]
        places = {p: (lambda s, p=p: (None if self.shared(s) else p, s)) for p in self.policies}
        links = [link for p in self.policies for link in self.links(p, places[p])]
        points = {
            q: {(p, s): {v: self.score(q, s, v) if p in (None, q) else 0 for v in NAMES[s]} for p, s in domains}
            for q in self.parties
        }
        uses = []
        for r in RESOURCES:
            users = {issue: [p for p in self.policies if places[p](r[1]) == issue] for issue in domains}
            table = {
                issue: {v: sum(self.use(r, p, v) for p in who) for v in NAMES[issue[1]]} for issue, who in users.items()
            }
            uses.append((table, self.limit(r)))
        return exists(domains, links, points, {q: self.reservation(q) for q in self.parties}, uses)

    def demands(self, parties):
        rows = []
        for p in sorted(set(parties) & set(self.parties)):
            rows += [(p, 0, list(NAMES).index(s), f"veto:{p}:{s}") for s in self.wishes(p) if self.vetoes(p, s)]
            rows.append((p, 2, 0, f"reservation:{p}"))
            if p != "operator":
                document = self.policies[p]
                labels = document.get("labels", {})
                rows += [(p, 1, n, f"rule:{p}:{n}") for n in range(len(document.get("rules", [])))]
                rows += [(p, 3, n, f"label:{p}:{label}") for n, label in enumerate(sorted(labels.get("refuses", [])))]
                rows += [(p, 4, n, f"class:{p}:{c}") for n, c in enumerate(sorted(labels.get("conflictClass", [])))]
        return [row[3] for row in sorted(rows)]

    def behind(self):
        rows = [f"law:{s}" for s in self.operator.get("law", {})] + [
            f"offer:{s}" for s in self.operator.get("offers", {})
        ]
        rows += [f"capability:{s}" for s in {*self.host.get("capabilities", {}), "memory_protection"}]
        rows += [f"capacity:{r[0]}" for r in RESOURCES] + [f.name for f in FACTS]
        return sorted([*rows, "capacity:memory", "population", "departed", "validity"])


class TooSlow(Exception):
    """The enumeration does not end in a time that a test can wait."""


def exists(domains, links, points, needs, uses):
    """Is there any choice that keeps the links, the needs of the parties and the limits? By plain trying."""
    linked = {issue for link in links for issue in (link[0], link[2])}
    scarce = {issue for table, _ in uses for issue, row in table.items() if any(row.values())}
    caring = {issue: [p for p, row in points.items() if any(row[issue].values())] for issue in domains}
    domains = dict(domains)
    for issue, values in domains.items():
        if values and issue not in linked | scarce and len(caring[issue]) <= 1:  # nobody else is concerned
            domains[issue] = [max(values, key=lambda v: max((row[issue][v] for row in points.values()), default=0))]
    order = sorted(domains, key=lambda issue: (len(domains[issue]) != 1, not caring[issue], issue not in linked))
    rest = {p: [0] for p in points}
    for issue in reversed(order):
        for p, row in points.items():
            rest[p].append(rest[p][-1] + max((row[issue][v] for v in domains[issue]), default=0))
    tried = 0

    def search(depth, chosen, have, used):
        nonlocal tried
        tried += 1
        if tried > 20000:
            raise TooSlow
        if any(have[p] + rest[p][len(order) - depth] < needs[p] for p in points):
            return False
        if any(amount > limit for amount, (_, limit) in zip(used, uses, strict=True)):
            return False
        if depth == len(order):
            return True
        issue = order[depth]
        for value in domains[issue]:
            now = {**chosen, issue: value}
            if all(
                now.get(s) not in values or t not in now or now[t] in allowed
                for s, values, t, allowed in links
                if issue in (s, t)
            ) and search(
                depth + 1, now, {p: have[p] + row[issue][value] for p, row in points.items()},
                [amount + table.get(issue, {}).get(value, 0) for amount, (table, _) in zip(used, uses, strict=True)],
            ):  # fmt: skip
                return True
        return False

    return all(domains.values()) and search(0, {}, dict.fromkeys(points, 0), [0] * len(uses))


def core_of(case, parties, holds):
    """The deletion filter, as the page words it."""
    kept = case.demands(parties)
    outside = set(case.demands(case.parties)) - set(kept)
    case = case.less(*outside)
    for name in reversed(kept.copy()):
        if not holds(case.less(name)):
            case = case.less(name)
            kept.remove(name)
    behind = case.behind()
    for name in reversed(behind.copy()):
        if not holds(case.less(name)):
            case = case.less(name)
            behind.remove(name)
    return kept, behind


def smallest_empty(sets):
    for size in range(2, len(sets) + 1):
        found = [c for c in combinations(sorted(sets), size) if not set.intersection(*(set(sets[p]) for p in c))]
        if found:
            return min(found)
    return None


def at_create(case):
    """(code, severity, parties, switch, question or None)"""
    for p in case.policies:
        A = case.permitted(p)
        B = {s: case.best(p, s, A[s]) for s in NAMES}
        if not all(A.values()):
            yield "C01", "hard", [p], None, lambda c, p=p: all(c.permitted(p).values())
        K, L, D = ({s: set(f(s)) for s in NAMES} for f in (case.capable, case.lawful, case.offered))
        for s in NAMES:
            if not A[s]:
                continue
            both, code = [p, "operator"], O_CODES.get(s, "C17")
            if not K[s] & set(A[s]):
                yield "C02", "hard", [p], s, lambda c, p=p, s=s: set(c.permitted(p)[s]) & set(c.capable(s))
            elif not K[s] & set(B[s]):
                yield "C02", "advice", [p], s, None
            if not L[s] & set(A[s]):
                yield "C24", "hard", both, s, lambda c, p=p, s=s: set(c.permitted(p)[s]) & set(c.lawful(s))
            elif not L[s] & set(B[s]):
                yield "C24", "advice", both, s, None
            if K[s] & set(A[s]) and L[s] & set(A[s]) and not D[s] & set(A[s]):
                yield code, "hard", both, s, lambda c, p=p, s=s: set(c.permitted(p)[s]) & set(c.offered(s))
            elif K[s] & set(B[s]) and L[s] & set(B[s]) and not D[s] & set(B[s]):
                yield code, "negotiable", both, s, None
        if all(D[s] & set(A[s]) for s in NAMES):
            if not case.view_exists(p):
                yield "C02", "hard", [p], None, lambda c, p=p: c.view_exists(p)
            else:
                if not case.view_exists(p, best=True):
                    yield "C02", "advice", [p], None, None
                if not case.view_exists(p, case.least[p]):
                    yield "C04", "hard", [p], None, lambda c, p=p: c.view_exists(p, c.reservation(p))
        for n, rule in enumerate(case.policies[p].get("rules", [])):
            (s, s_in), (t, t_in) = [(rule[side]["switch"], set(rule[side]["in"])) for side in ("when", "then")]
            free = {x: set(NAMES[x]) - set(case.vetoes(p, x)) for x in (s, t)}
            wider = any(
                (e["when"]["switch"], e["then"]["switch"]) == (s, t)
                and set(e["when"]["in"]) >= s_in and set(e["then"]["in"]) <= t_in
                for e in case.policies[p]["rules"][:n]
            )  # fmt: skip
            if not s_in & free[s] or free[t] <= t_in or wider:
                yield "C03", "advice", [p], None, None
        if B["core_dump"] == ["allowed"] and "none" not in B["memory_protection"]:
            yield "C05", "advice", [p], "core_dump", None
        for action, (code, s, denying) in ACTIONS.items():
            b = case.best(p, s, case.possible(p, s))
            if action in case.operator.get("actions", []) and b and all(v in denying for v in b):
                yield code, "possible", [p, "operator"], s, None
        if case.expired(p):
            yield "C30", "hard", [p], None, lambda c, p=p: not c.expired(p)


def at_start(case):
    for c, pair in sorted(set(case.class_rows())):
        yield "C09", "hard", list(pair), None, lambda x, c=c, pair=pair: (c, pair) not in list(x.class_rows())
    for row in sorted(set(case.label_rows())):
        yield "C10", "hard", sorted(row[1:]), None, lambda x, row=row: row not in list(x.label_rows())
    for s in NAMES:
        if case.shared(s):
            code = V_CODES.get(s, "C16")
            a = {p: case.possible(p, s) for p in case.parties}
            a = {p: values for p, values in a.items() if values}
            hard = smallest_empty(a)
            soft = smallest_empty({p: case.best(p, s, values) for p, values in a.items()})
            if hard:
                yield (
                    code,
                    "hard",
                    list(hard),
                    s,
                    lambda c, s=s, hard=hard: set.intersection(*(set(c.possible(p, s)) for p in hard)),
                )
            elif soft:
                yield code, "negotiable", list(soft), s, None
    s = "co_residence"
    for p in case.policies:
        values = [v for v in case.permitted(p)[s] if v in case.offered(s)]
        if values and not set(values) & set(case.residence()):
            yield "C14", "hard", [p], s, lambda c, p=p: c.possible(p, "co_residence")
        elif values and not set(case.best(p, s, values)) & set(case.residence()):
            yield "C14", "negotiable", [p], s, None
    for r in RESOURCES:
        a = {p: case.possible(p, r[1]) for p in case.policies if case.possible(p, r[1])}
        most = {p: min(case.use(r, p, v) for v in values) for p, values in a.items()}
        want = {p: min(case.use(r, p, v) for v in case.best(p, r[1], values)) for p, values in a.items()}

        def holds(c, r=r, a=a):
            mine = [c.possible(p, r[1]) for p in a]
            return sum(min(c.use(r, p, v) for v in vs) for p, vs in zip(a, mine, strict=True) if vs) <= c.limit(r)

        if sum(most.values()) > case.limit(r):
            yield r[5], "hard", [p for p in most if most[p]], r[1], holds
        elif sum(want.values()) > case.limit(r):
            yield r[5], "negotiable", [p for p in want if want[p]], r[1], None
    if not any(case.fits(v) for v in case.offered("overcommit")):
        yield "C18", "hard", list(case.policies), "overcommit", lambda c: any(map(c.fits, c.offered("overcommit")))
    need = case.operator.get("maintenance_min", 0)
    free = [
        all("maintenance" not in p or any(a <= m < b for a, b in p["maintenance"]) for p in case.policies.values())
        for m in range(10080 if need else 0)
    ]
    run = longest = 0
    for minute in free:
        run = run + 1 if minute else 0
        longest = max(longest, run)
    if need > longest:
        yield "C15", "possible", list(case.policies), None, None


def recognise(policies, host, now, trigger):
    """Rows (code, class, trigger, severity, parties, switch, values, core, background), sorted."""
    case = Case(policies, host, now)
    rows = [("create", row) for row in at_create(case)]
    if trigger != "create":
        rows += [("start", row) for row in at_start(case)]
        if not any(row[1] == "hard" for _, row in rows) and not case.feasible():
            core, behind = core_of(case, case.parties, Case.feasible)
            rows.append(("start", ("C28", "hard", sorted({d.split(":")[1] for d in core}), None, Case.feasible)))
    if trigger == "run" and host.get("agreement") and now >= host["agreement"]["notAfter"]:
        rows.append(("run", ("C30", "advice", [row["id"] for row in host["agreement"]["parties"]], None, None)))
    found = []
    for at, (code, severity, parties, s, question) in rows:
        asked = {
            p: case.offered(s) if p == "operator" and not case.preferences else None for p in (parties if s else ())
        }
        values = {p: case.best(p, s, case.possible(p, s)) if row is None else row for p, row in asked.items()}
        core = core_of(case, parties if code != "C28" else case.parties, question) if severity == "hard" else ([], [])
        dynamic = severity == "possible" or at == "run"
        found.append((code, "dynamic" if dynamic else "static", at, severity, sorted(parties), s, values, *core))
    return sorted(found, key=repr)
