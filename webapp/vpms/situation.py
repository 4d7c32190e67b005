"""What the given policies permit and prefer on one host: the sets A, B, a, b, D of the conflict rules.

A situation can be asked again with some demands or background facts left out ("veto:a-db:smt", "law:audit_level",
"F08", ...). That is how explanations are found: a core is a set of demands that cannot be met together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from webapp.vpms.documents import Host, Policy, Rule
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.vocabulary import FACTS, ORDER, OVERCOMMIT_PERCENT, RESOURCES, SWITCHES, Fact, Resource

Values = tuple[str, ...]
Domains = dict[str, Values]


class Situation:
    """Policies (ascending VM id) for one host at one time, less what was dropped. Nothing in it ever changes."""

    def __init__(
        self,
        policies: Iterable[Policy],
        host: Host,
        now: str,
        dropped: Iterable[str] = (),
        base: Situation | None = None,
    ) -> None:
        self.policies = tuple(sorted(policies, key=lambda policy: policy.vm))
        self.by_vm = {policy.vm: policy for policy in self.policies}
        self.host, self.now, self.dropped = host, now, frozenset(dropped)
        self.base = base or self
        self._permitted: dict[str, Domains] = {}
        self._offered: Domains = {}
        self._reserved: dict[str, int] = {}

    def without(self, *names: str) -> Situation:
        """The same situation with these demands or background facts left out as well."""
        return Situation(self.policies, self.host, self.now, self.dropped | set(names), self.base)

    def holds(self, name: str) -> bool:
        return name not in self.dropped

    @property
    def vms(self) -> list[str]:
        return [policy.vm for policy in self.policies]

    @property
    def parties(self) -> list[str]:
        """The VMs, and the operator if it has preferences; ascending id."""
        return sorted([*self.vms, *([OPERATOR] if self.host.preferences is not None else [])])

    def wishes(self, party: str) -> Mapping[str, Any]:
        if party == OPERATOR:
            return dict((self.host.preferences or {}).get("switches", {}))
        return self.by_vm[party].switches

    def concerns(self, party: str, switch: str) -> bool:
        """Has this switch one value in the party's view? The operator is a party for shared switches only."""
        return party != OPERATOR or self.host.is_shared(switch)

    def vetoed(self, party: str, switch: str) -> frozenset[str]:
        wish = self.wishes(party).get(switch)
        if wish is None or not self.holds(f"veto:{party}:{switch}"):
            return frozenset()
        return frozenset(name for name, score in wish["values"].items() if score == VETO)

    def score(self, party: str, switch: str, value: str) -> int:
        """Points of this value, 0..1,000,000: weight times score; a vetoed value counts as 0."""
        wish = self.wishes(party).get(switch)
        if wish is None or wish["values"][value] == VETO:
            return 0
        return int(wish["weight"]) * int(wish["values"][value])

    def rules(self, vm: str) -> list[Rule]:
        return [rule for index, rule in enumerate(self.by_vm[vm].rules) if self.holds(f"rule:{vm}:{index}")]

    def facts(self) -> list[Fact]:
        return [fact for fact in FACTS if self.holds(fact.name)]

    def offered(self, switch: str) -> Values:
        """D(s): what capabilities, law and offers leave."""
        if switch not in self._offered:
            host = self.host
            parts = [("capability", host.capabilities), ("law", host.law), ("offer", host.offers)]
            limits = [part[switch] for kind, part in parts if switch in part and self.holds(f"{kind}:{switch}")]
            self._offered[switch] = tuple(v for v in SWITCHES[switch].names if all(v in limit for limit in limits))
        return self._offered[switch]

    def capable(self, switch: str) -> Values:
        """K(s)"""
        if not self.holds(f"capability:{switch}"):
            return SWITCHES[switch].names
        return tuple(self.host.capabilities.get(switch, SWITCHES[switch].names))

    def lawful(self, switch: str) -> Values:
        """L(s)"""
        if not self.holds(f"law:{switch}"):
            return SWITCHES[switch].names
        return tuple(self.host.law.get(switch, SWITCHES[switch].names))

    def residence(self) -> frozenset[str]:
        """Values of co_residence that a host with these VMs can keep (population rules)."""
        possible = {"any"}
        if len({policy.trust_class for policy in self.policies}) <= 1:
            possible.add("same_class")
        if len({policy.tenant for policy in self.policies}) <= 1:
            possible.add("same_tenant")
        if len(self.policies) <= 1:
            possible.add("dedicated_host")
        return frozenset(possible if self.holds("population") else SWITCHES["co_residence"].names)

    def memory_fits(self, overcommit: str) -> bool:
        """May this much memory be promised on the host?"""
        promised = sum(policy.size["memory_mib"] for policy in self.policies) * 100
        limit = self.host.capacity["memory_mib"] * OVERCOMMIT_PERCENT[overcommit]
        return promised <= limit or not self.holds("capacity:memory")

    def permitted(self, party: str) -> Domains:
        """A_i: values without veto, less those that the party's own rules leave without support."""
        if party not in self._permitted:
            domains = {
                name: tuple(v for v in switch.names if v not in self.vetoed(party, name))
                for name, switch in SWITCHES.items()
            }
            self._permitted[party] = domains if party == OPERATOR else consistent(domains, self.rules(party))
        return self._permitted[party]

    def possible(self, party: str, switch: str) -> Values:
        """a_i(s): permitted and offered; for co_residence also possible with these neighbours."""
        values = [v for v in self.permitted(party)[switch] if v in self.offered(switch)]
        if switch == "co_residence":
            values = [v for v in values if v in self.residence()]
        return tuple(values)

    def best_of(self, party: str, switch: str, values: Sequence[str]) -> Values:
        """The highest-scored of these values; all of them if the party does not care about the switch."""
        wish = self.wishes(party).get(switch)
        if wish is None or wish["weight"] == 0 or not values:
            return tuple(values)
        highest = max(self.score(party, switch, v) for v in values)
        return tuple(v for v in values if self.score(party, switch, v) == highest)

    def best_permitted(self, party: str, switch: str) -> Values:
        """B_i(s)"""
        return self.best_of(party, switch, self.permitted(party)[switch])

    def best_possible(self, party: str, switch: str) -> Values:
        """b_i(s)"""
        return self.best_of(party, switch, self.possible(party, switch))

    def canonical(self, switch: str, owner: str | None) -> Values:
        """Values in the order of tie-breaks: strict to lax, but nothing scarce is reserved that nobody asked for."""
        askers = self.policies if owner is None else [self.by_vm[owner]]
        asked = any(switch in policy.document["switches"] for policy in askers)
        scarce = SWITCHES[switch].resource
        return tuple(sorted(SWITCHES[switch].names, key=lambda name: not asked and name in scarce))

    def reservation(self, party: str) -> int:
        """d_i: what the party keeps at least; as computed with all demands, whatever is dropped here."""
        if not self.holds(f"reservation:{party}"):
            return 0
        if party not in self.base._reserved:
            self.base._reserved[party] = self.base._reserve(party)
        return self.base._reserved[party]

    def least(self, party: str) -> int:
        """What the party's document says that it keeps at least, whatever it has now."""
        if party == OPERATOR:
            return 1000 * int((self.host.preferences or {})["utility"])
        policy = self.by_vm[party]
        least = 1000 * int(policy.disagreement["utility"])
        if policy.delegate["mode"] == "auto-within-bounds":
            least = max(least, 1000 * int(policy.delegate["floor"]))
        return least

    def _reserve(self, party: str) -> int:
        least = self.least(party)
        current = self.current_view(party)
        if current is not None and self.keeps_own_terms(party, current):
            least = max(least, self.utility(party, current))
        return least

    def current_view(self, party: str) -> dict[str, str] | None:
        """The values in force for a party of the host's agreement, if it has one for every switch of the view."""
        agreement = self.host.agreement
        if agreement is None or party not in {row["id"] for row in agreement["parties"]}:
            return None
        if party != OPERATOR and party not in self.host.running:
            return None
        return self.view(party, agreement["assignment"])

    def view(self, party: str, assignment: Mapping[str, Mapping[str, Any]]) -> dict[str, str] | None:
        """The party's view of an assignment: the shared values and its own; None if a switch is missing."""
        own = assignment["vms"].get(party, {})
        view = {s: assignment["host"].get(s) if self.host.is_shared(s) else own.get(s) for s in SWITCHES}
        wanted = [s for s in SWITCHES if self.concerns(party, s)]
        return {s: str(view[s]) for s in wanted} if all(view[s] for s in wanted) else None

    def keeps_own_terms(self, party: str, view: Mapping[str, str]) -> bool:
        """No value in the view is vetoed by the party and its own rules hold."""
        if any(value in self.vetoed(party, switch) for switch, value in view.items()):
            return False
        rules = [] if party == OPERATOR else self.rules(party)
        return all(view[rule.when] not in rule.when_in or view[rule.then] in rule.then_in for rule in rules)

    def utility(self, party: str, view: Mapping[str, str]) -> int:
        return sum(self.score(party, switch, view[switch]) for switch in self.wishes(party) if switch in view)

    def demands(self, parties: Iterable[str] | None = None) -> list[str]:
        """Every demand of these parties (all: None), sorted by party, kind and place."""
        wanted = set(self.parties if parties is None else parties)
        found: list[str] = []
        for party in sorted(wanted & set(self.parties)):
            wishes = self.wishes(party)
            found += [f"veto:{party}:{name}" for name in SWITCHES if name in wishes and self.base.vetoed(party, name)]
            if party != OPERATOR:
                found += [f"rule:{party}:{index}" for index in range(len(self.by_vm[party].rules))]
            found.append(f"reservation:{party}")
            if party != OPERATOR:
                found += [f"label:{party}:{label}" for label in sorted(self.by_vm[party].refuses)]
                found += [f"class:{party}:{name}" for name in sorted(self.by_vm[party].classes)]
        return found

    def background(self) -> list[str]:
        """Everything that limits outcomes and is nobody's demand; code point order."""
        host = self.host
        found = [f"law:{s}" for s in host.law] + [f"capability:{s}" for s in host.capabilities]
        found += [f"offer:{s}" for s in host.offers] + [fact.name for fact in FACTS] + ["population", "capacity:memory"]
        found += [f"capacity:{resource.name}" for resource in RESOURCES] + ["departed", "validity"]
        return sorted(found)

    def class_conflicts(self) -> list[tuple[str, tuple[str, ...], bool]]:
        """C09: (class, VMs, departed?) of two tenants, or of a newcomer and a tenant who has just left."""
        found: list[tuple[str, tuple[str, ...], bool]] = []
        for index, one in enumerate(self.policies):
            for other in self.policies[index + 1 :]:
                if one.tenant != other.tenant:
                    for name in sorted(one.classes & other.classes):
                        if self.holds(f"class:{one.vm}:{name}") and self.holds(f"class:{other.vm}:{name}"):
                            found.append((name, (one.vm, other.vm), False))
        for policy in self.policies if self.holds("departed") else ():
            for name in sorted(policy.classes) if policy.vm not in self.host.running else ():
                gone = any(
                    row["conflictClass"] == name and row["tenant"] != policy.tenant and row["until"] > self.now
                    for row in self.host.departed
                )
                if gone and self.holds(f"class:{policy.vm}:{name}"):
                    found.append((name, (policy.vm,), True))
        return found

    def label_conflicts(self) -> list[tuple[str, str, str]]:
        """C10: (refusing VM, label, VM that exhibits it)."""
        return [
            (one.vm, label, other.vm)
            for one in self.policies
            for other in self.policies
            for label in sorted(one.refuses & other.exhibits)
            if one.vm != other.vm and self.holds(f"label:{one.vm}:{label}")
        ]

    def expired(self) -> list[str]:
        """VMs whose policy is outside its validity."""
        return [p.vm for p in self.policies if not p.valid_at(self.now)] if self.holds("validity") else []

    def blocked(self) -> bool:
        """Does something that no setting can change forbid every outcome?"""
        return bool(self.class_conflicts() or self.label_conflicts() or self.expired())

    def use(self, resource: Resource, vm: str, value: str) -> int:
        """How much of a resource this VM takes with this value of the deciding switch."""
        if value not in resource.values:
            return 0
        return 1 if resource.amount is None else int(self.by_vm[vm].size[resource.amount])

    def capacity(self, resource: Resource) -> int | None:
        """How much there is; None: left out."""
        return int(self.host.capacity[resource.capacity]) if self.holds(f"capacity:{resource.name}") else None


def consistent(domains: Domains, rules: Sequence[Rule]) -> Domains:
    """Domains less the values of the two switches of a rule that it leaves without support, to the fixed point.

    Each round tests all rules on the domains at its start and deletes together, so the order of rules does not matter.
    """
    while True:
        gone: dict[str, set[str]] = {}
        for rule in rules:
            when, then = set(domains[rule.when]), set(domains[rule.then])
            if not when or not then:
                continue
            if not then & rule.then_in:
                gone.setdefault(rule.when, set()).update(when & rule.when_in)
            if when <= rule.when_in:
                gone.setdefault(rule.then, set()).update(then - rule.then_in)
        if not any(gone.values()):
            return domains
        domains = {name: tuple(v for v in row if v not in gone.get(name, ())) for name, row in domains.items()}


def sort_key(demand: str) -> tuple[str, int, int, str]:
    """Demands by party, kind, then switch order, index or name."""
    kind, party, *place = demand.split(":", 2)
    name = place[0] if place else ""
    number = ORDER[name] if kind == "veto" else int(name) if kind == "rule" else 0
    return party, ("veto", "rule", "reservation", "label", "class").index(kind), number, name
