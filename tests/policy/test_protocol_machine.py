"""Every path of the protocol: messages doubled, late, out of order, forged or broken, and a clock that runs on."""

import copy
import json

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.policy.cast import NOW, ORACLES, a_db, b_web, h1, vm
from tests.policy.test_enforcement import terms
from tests.policy.test_protocol import KEYS, SEEDS
from webapp.errors import VpmsError
from webapp.vpms import agreement, protocol
from webapp.vpms.vocabulary import SWITCHES

C_SMALL = vm("c-small", "gamma", {"smt": (600, {"off": 0, "core_scheduling": 900, "shared": 1000}),
                                  "swap": (400, {"never": 0, "encrypted": 1000, "plain": 500})})  # fmt: skip
ALL_KEYS = {**KEYS, "c-small": agreement.public_key(b"\x07" * 32)}
ALL_SEEDS = {**SEEDS, "c-small": b"\x07" * 32}
NONCES = {"a-db": "aa" * 32, "b-web": "bb" * 32, "c-small": "cc" * 32}
PARTIES = ["a-db", "b-web", "c-small", "operator", "mediator", "mallory"]
delegates = st.one_of(
    st.just({"mode": "auto"}),
    st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["human", "human", "auto"]),
            "floor": st.sampled_from([0, 300, 640, 661, 900]),
            "deadline_s": st.sampled_from([1, 600, 7200]),
            "onTimeout": st.sampled_from(["reject", "accept-if-above-floor"]),
        }
    ),
)
# (state before, message) -> states after, as the table of the design has them; None: the clock
ENDS = {"NO_AGREEMENT"}
MOVES = {
    ("DRAFT", "check"): {"DETECTED", "PROPOSED", "ACCEPTED_ALL"} | ENDS,
    ("DETECTED", "invite"): {"INVITED"},
    ("INVITED", "commit"): {"INVITED", "COMMITTED"},
    ("COMMITTED", "reveal"): {"COMMITTED", "PROPOSED", "ACCEPTED_ALL"} | ENDS,
    ("PROPOSED", "accept"): {"PROPOSED", "ACCEPTED_ALL"},
    ("PROPOSED", "human_ok"): {"PROPOSED"},
    ("PROPOSED", "reject"): {"PROPOSED", "ACCEPTED_ALL"} | ENDS,
    ("PROPOSED", "counter"): {"PROPOSED", "ACCEPTED_ALL"} | ENDS,
    ("ACCEPTED_ALL", "sign"): {"ACCEPTED_ALL", "SIGNED"},
    ("SIGNED", "enforced"): {"ENFORCED"},
    ("ENFORCED", "breach"): {"BREACHED"},
    ("ENFORCED", "superseded"): {"SUPERSEDED"},
    ("BREACHED", "superseded"): {"SUPERSEDED"},
    ("BREACHED", "keep"): {"ENFORCED"},
}
BY_CLOCK = {"INVITED": ENDS, "COMMITTED": ENDS, "PROPOSED": {"ACCEPTED_ALL"} | ENDS, "ACCEPTED_ALL": ENDS}
junk = st.sampled_from([None, True, 0, 3, -1, "", "x", [], {}, {"switch": []}, [[]]])


class Protocol(RuleBasedStateMachine):
    """The clock never runs back; messages come from anybody; what is accepted is compared with the table."""

    @initialize(
        a=delegates, b=delegates, c=st.none() | delegates, held=st.booleans(), marked=st.booleans(),
        requester=st.sampled_from(["b-web", "a-db"]), mediated=st.sampled_from([True, True, True, False]),
    )  # fmt: skip
    def start(self, a, b, c, held, marked, requester, mediated):
        a, b = a_db(delegate=a), b_web(delegate=b)
        if marked:
            b["switches"]["smt"]["approval"] = "human"
        self.policies = {p["vm"]: p for p in (a, b, *([{**C_SMALL, "delegate": c}] if c else []))}
        host = h1(agreement=terms(), running=["a-db", "b-web"]) if held else h1()
        self.state = protocol.draft(
            negotiation="n", requester=requester, host=host, policies=list(self.policies.values()), keys=ALL_KEYS,
            agreement_id="h1", pseudonym_seed="x",
        )  # fmt: skip
        self.now, self.sent, self.consents = NOW, [], set()
        if mediated:
            self.mediate(sorted(self.policies), 9)

    # sending

    def send(self, message):
        before = json.dumps(self.state, sort_keys=True)
        clocked = protocol.expire(self.state, self.now)
        try:
            after = protocol.apply_message(self.state, message, self.now)
        except VpmsError:
            assert json.dumps(self.state, sort_keys=True) == before
            return False
        assert json.dumps(self.state, sort_keys=True) == before  # the given state is never touched
        kind, sender = message["type"], message["sender"]
        assert sender != "mallory" and (kind == "withdraw" or after["state"] in MOVES[clocked["state"], kind])
        if kind == "withdraw":
            assert clocked["state"] in protocol.OPEN
            assert after["state"] == ("WITHDRAWN" if sender == self.state["requester"] else "NO_AGREEMENT")
        if kind in ("accept", "reject", "counter", "human_ok"):
            assert message["k"] == clocked["round"] and not isinstance(message["k"], bool)
        if kind in ("accept", "human_ok") and message.get("user"):
            self.consents.add((sender, clocked["round"], message["user"]))
        if kind == "counter" and after["state"] != "NO_AGREEMENT":
            self.countered(clocked, message, after)
        self.sent.append(message)
        self.state = after
        return True

    def countered(self, before, message, after):
        """A suggestion is the next proposal iff all can keep their terms with it."""
        wanted = copy.deepcopy(before["result"]["assignment"])
        for name, value in message["assignment"].items():
            place, switch = name.split("/")
            assert name in before["result"]["contested"] and place in ("host", message["sender"])
            (wanted["host"] if place == "host" else wanted["vms"][place])[switch] = value
        taken = after["result"]["assignment"] == wanted
        fits = self.kept_by_all(after, wanted)
        assert fits is False if not taken else fits is not False

    def kept_by_all(self, state, assignment):
        """None: this simple test finds nothing against it but does not know capacities."""
        for name, policy in self.policies.items():
            view = {**assignment["host"], **assignment["vms"][name]}
            rejected = state["rejections"].get(name, {"vetoes": {}, "floor": 0})
            if any(view[s] not in SWITCHES[s].names for s in view):
                return False
            if any(wish["values"][view[s]] == "veto" for s, wish in policy["switches"].items()):
                return False
            if any(view[s] in values for s, values in rejected["vetoes"].items()):
                return False
            if self.utility(policy, view) < max(self.least(policy), 1000 * rejected["floor"]):
                return False
            if state["host"]["running"] and self.utility(policy, view) < state["result"]["reservations"][name]:
                return False
        return None

    @staticmethod
    def utility(policy, view):
        scores = [(wish["weight"], wish["values"][view[s]]) for s, wish in policy["switches"].items()]
        return sum(weight * score for weight, score in scores if score != "veto")

    @staticmethod
    def least(policy):
        floor = policy["delegate"]["floor"] if policy["delegate"]["mode"] == "auto-within-bounds" else 0
        return 1000 * max(policy["disagreement"]["utility"], floor)

    # rules: valid messages, then everything else

    @precondition(lambda self: self.state["state"] in ("DRAFT", "DETECTED", "INVITED", "COMMITTED"))
    @rule(order=st.permutations(["a-db", "b-web", "c-small"]), stop=st.integers(0, 9))
    def mediate_rule(self, order, stop):
        self.mediate(order, stop)

    def mediate(self, order, stop):
        steps = [{"type": "check", "sender": "mediator"},
                 {"type": "invite", "sender": "mediator", "deadline": protocol.later(self.now, 60)}]  # fmt: skip
        names = [name for name in order if name in self.policies]
        digests = {n: protocol.commitment(self.policies[n], NONCES[n]) for n in names}
        steps += [{"type": "commit", "sender": n, "digest": digests[n]} for n in names]
        steps += [{"type": "reveal", "sender": n, "policy": self.policies[n], "nonce": NONCES[n]} for n in names]
        for step in steps[: len(steps) - (stop if stop < 3 else 0)]:
            self.send(step)

    @rule(
        sender=st.sampled_from(PARTIES[:3]), person=st.sampled_from(["ann", None]), back=st.sampled_from([0, 0, 0, 1])
    )
    def accept(self, sender, person, back):
        self.send({"type": "accept", "sender": sender, "k": self.state["round"] - back, "user": person})

    @precondition(lambda self: self.state["state"] == "PROPOSED")
    @rule(data=st.data(), sender=st.sampled_from(PARTIES[:4]), counter=st.booleans())
    def reject(self, data, sender, counter):
        result = self.state["result"]
        view = {**result["assignment"]["host"], **result["assignment"]["vms"].get(sender, {})}
        switch = data.draw(st.sampled_from(sorted(view)))
        points = result["utilities"].get(sender, 0) // 1000
        reason = data.draw(
            st.sampled_from(
                [{"veto": {"switch": switch, "value": view[switch]}}] * 3
                + [{"floor": points + 1}, {"floor": points}, {"floor": True}, {"final": True}, {"final": 1}]
            )
        )
        message = {
            "type": "counter" if counter else "reject",
            "sender": sender,
            "k": self.state["round"],
            "reason": reason,
        }
        if counter:
            issue = data.draw(st.sampled_from([*result["contested"], "host/pmu"]))
            values = SWITCHES[issue.split("/")[1]].names
            message["assignment"] = {issue: data.draw(st.sampled_from([*values, "never_heard_of"]))}
        taken = self.send(message)
        assert not (taken and counter and "final" in reason)

    @precondition(lambda self: self.state["state"] == "ACCEPTED_ALL")
    @rule(forged=st.booleans())
    def sign(self, forged):
        payload = agreement.payload_of(self.state["statement"])
        for party in [*self.policies, "operator"]:
            seed = ALL_SEEDS["c-small" if forged else party]
            message = {"type": "sign", "sender": party, "digest": self.state["payload_sha256"]}
            took = self.send({**message, "signature": agreement.sign(payload, seed)})
            assert not (took and forged and party != "c-small")

    @precondition(lambda self: self.state["state"] in ("SIGNED", "ENFORCED", "BREACHED"))
    @rule(kind=st.sampled_from(["enforced", "breach", "keep", "superseded"]), sender=st.sampled_from(PARTIES))
    def later_life(self, kind, sender):
        evidence = {"event": {"kind": "reclaim", "vm": "a-db"}, "evidence": {"op": 1}}
        took = self.send({"type": kind, "sender": sender, **(evidence if kind == "breach" else {})})
        assert not took or sender == ("a-db" if kind == "keep" else "mediator")

    @rule(sender=st.sampled_from(PARTIES), sure=st.integers(0, 5))
    def withdraw(self, sender, sure):
        if not sure:
            self.send({"type": "withdraw", "sender": sender})

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def again(self, data):
        self.send(data.draw(st.sampled_from(self.sent)))

    @rule(
        kind=st.sampled_from(sorted({kind for _, kind in MOVES} | {"withdrew", "propose"})),
        sender=st.sampled_from(PARTIES),
        fields=st.dictionaries(
            st.sampled_from(["k", "user", "reason", "assignment", "digest", "policy", "nonce", "signature", "deadline",
                             "event"]),
            junk, max_size=4,
        ),
    )  # fmt: skip
    def broken(self, kind, sender, fields):
        took = self.send({"type": kind, "sender": sender, **fields})
        assert not took or kind in ("check", "enforced", "superseded", "accept", "keep", "human_ok")

    @rule(seconds=st.sampled_from([1, 59, 600, 3600, 7200]))
    def wait(self, seconds):
        self.now = protocol.later(self.now, seconds)
        before = self.state["state"]
        after = protocol.expire(self.state, self.now)
        assert after["state"] == before or after["state"] in BY_CLOCK[before]
        self.state = after

    # what holds always

    @invariant()
    def proposals_keep_all_terms(self):
        state = self.state
        assert state["round"] == len(state["proposals"]) <= protocol.ROUNDS
        shown = [json.dumps(row["assignment"], sort_keys=True) for row in state["proposals"]]
        assert len(set(shown)) == len(shown)
        if state["state"] in ("PROPOSED", "ACCEPTED_ALL"):
            assert self.kept_by_all(state, state["result"]["assignment"]) is None

    @invariant()
    def nobody_consents_for_another(self):
        state = self.state
        for party, answer in state["answers"].items():
            delegate = self.policies[party]["delegate"]
            if answer["by"] == "delegate":
                assert party not in state["result"]["human"]
            elif answer["by"] == "delegate at timeout":
                least = max(1000 * delegate["floor"], state["result"]["reservations"][party])
                assert delegate["onTimeout"] == "accept-if-above-floor" and state["result"]["utilities"][party] >= least
            else:
                assert (party, state["round"], answer["by"]) in self.consents
        if state["state"] in ("ACCEPTED_ALL", "SIGNED", "ENFORCED", "BREACHED", "SUPERSEDED"):
            assert set(state["answers"]) == set(self.policies)
        if state["state"] in ("SIGNED", "ENFORCED"):
            assert agreement.verify(state["envelope"], now=state["statement"]["predicate"]["notBefore"])["valid"]

    def teardown(self):
        """Left to the clock, it ends: within the invitation, K answers and the signing time."""
        if not hasattr(self, "state"):
            return
        longest = max(p["delegate"].get("deadline_s", 86400) for p in self.policies.values())
        end = protocol.later(self.now, 60 + longest * protocol.ROUNDS + protocol.SIGNING_S)
        while (due := protocol.next_deadline(self.state)) is not None:
            assert due <= end
            changed = protocol.expire(self.state, max(due, self.now))
            assert changed["state"] != self.state["state"] or len(changed["answers"]) > len(self.state["answers"])
            self.state = changed
        assert self.state["state"] in (*protocol.ENDED, "DRAFT", "DETECTED", "SIGNED", "ENFORCED", "BREACHED")


Protocol.TestCase.settings = settings(
    max_examples=20 * ORACLES, stateful_step_count=20, deadline=None, phases=[Phase.explicit, Phase.generate]
)
TestProtocol = Protocol.TestCase
