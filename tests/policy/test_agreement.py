"""An agreement holds exactly what was signed: every change of it is found, and so is every change of the log."""

import base64
import hashlib
import json
import random

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW, a_db, b_web
from webapp import strictjson
from webapp.errors import BadInput
from webapp.vpms import agreement, auditlog
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.negotiation import negotiate

SEEDS = {party: bytes([number]) * 32 for number, party in enumerate(("a-db", "b-web", "operator"), start=1)}
KEYS = {party: agreement.public_key(seed) for party, seed in SEEDS.items()}


def signed(policies=(A_DB, B_WEB), seeds=SEEDS):
    read, host = [read_policy(policy) for policy in policies], read_host(H1)
    result = negotiate(read, host, NOW)
    terms = agreement.statement(
        assignment=result["assignment"], certificate=result["certificate"], policies=read, host=host,
        keys={party: agreement.public_key(seed) for party, seed in seeds.items()},
        agreement="h1-1", version=1, previous=None, not_before=NOW,
    )  # fmt: skip
    payload = agreement.payload_of(terms)
    return agreement.envelope(payload, [agreement.sign(payload, seed) for seed in seeds.values()])


def test_a_signed_agreement_is_valid_and_names_its_parties():
    result = agreement.verify(json.dumps(signed()), now=NOW, keys=KEYS, policies=[read_policy(A_DB)])
    assert result == {
        "kind": "agreement", "valid": True, "reason": "ok", "identity": "checked", "agreement": "h1-1", "version": 1,
        "expired": False, "signatures": [{"party": party, "ok": True} for party in ("a-db", "b-web", "operator")],
    }  # fmt: skip
    predicate = agreement.predicate_of(signed())
    assert predicate["notAfter"] == "2026-05-31T12:00:00Z" and "vtpm" in predicate["not_enforced"]
    read_host({**H1, "agreement": predicate})


def test_the_terms_end_with_the_earliest_policy():
    ending = b_web(validity={"notBefore": None, "notAfter": "2026-04-01T00:00:00Z"})
    assert agreement.predicate_of(signed((A_DB, ending)))["notAfter"] == "2026-04-01T00:00:00Z"


def test_two_vms_of_one_tenant_sign_with_one_key():
    shared = {**SEEDS, "b-web": SEEDS["a-db"]}
    assert agreement.verify(signed(seeds=shared), now=NOW)["reason"] == "ok"


def test_every_changed_byte_that_changes_content_is_found():
    text = json.dumps(signed()).encode()
    rng = random.Random(1)
    meant = json.loads(text)
    for at in [*range(0, len(text), 41), *rng.sample(range(len(text)), 150), *range(len(text) - 700, len(text), 3)]:
        changed = bytearray(text)
        changed[at] = rng.choice([b for b in range(32, 127) if b != text[at]])
        try:
            if json.loads(changed) == meant:
                continue
            verdict = agreement.verify(bytes(changed), now=NOW, keys=KEYS)
        except (BadInput, json.JSONDecodeError):
            continue
        assert not verdict["valid"], (at, text[at : at + 1], changed[at : at + 1])


def test_a_changed_byte_of_the_terms_is_told_by_its_reason_as_long_as_they_are_json():
    envelope = signed()
    payload = base64.b64decode(envelope["payload"])
    rng, reasons = random.Random(2), set()
    for at in rng.sample(range(len(payload)), 400):
        byte = rng.choice([b for b in range(33, 127) if b != payload[at]])
        changed = payload[:at] + bytes([byte]) + payload[at + 1 :]
        try:
            meant = json.loads(changed, parse_constant=lambda name: 1 / 0)
        except (json.JSONDecodeError, ZeroDivisionError):
            continue
        if "id" not in str(meant.get("predicate", {}).get("parties")):
            continue
        verdict = agreement.verify({**envelope, "payload": base64.b64encode(changed).decode()}, now=NOW, keys=KEYS)
        spaced_or_turned = strictjson.canonical(meant) != changed
        names = [row.get("id") for row in meant["predicate"]["parties"]]
        keys_changed = b'"key":"' in payload[max(0, at - 52) : at + 7]
        assert not verdict["valid"]
        if spaced_or_turned:
            assert verdict["reason"] == "not_canonical", (at, changed[at - 20 : at + 20])
        elif names == sorted(KEYS) and not keys_changed and verdict["reason"] != "not_canonical":
            assert verdict["reason"] == "bad_signature", (at, changed[at - 20 : at + 20])
        reasons.add(verdict["reason"])
    assert {"bad_signature", "not_canonical"} <= reasons


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda e: e["signatures"][0].update(keyid="zz"), "missing_signature"),
        (lambda e: e["signatures"][0].update(sig="not base64!"), "bad_signature"),
        (lambda e: e["signatures"][0].update(sig=e["signatures"][1]["sig"]), "bad_signature"),
        (lambda e: e["signatures"].append({"keyid": "0" * 64, "sig": ""}), "bad_signature"),
    ],
)
def test_a_changed_signature_is_told_by_its_reason(change, reason):
    envelope = signed()
    change(envelope)
    assert agreement.verify(envelope, now=NOW, keys=KEYS)["reason"] == reason


def test_terms_of_another_form_that_all_have_signed_are_bad_input_with_the_path():
    with pytest.raises(BadInput) as refused:
        agreement.verify(resigned(lambda t: t["predicate"].update(colour="red")), now=NOW)
    assert [fault.path for fault in refused.value.faults] == ["$.payload.predicate.colour"]
    nobody = resigned(lambda t: t["predicate"].update(parties=[]))
    assert agreement.verify(nobody, now=NOW)["reason"] == "missing_signature"


def resigned(change):
    """An envelope whose statement was changed and signed again by all."""
    terms = json.loads(base64.b64decode(signed()["payload"]))
    change(terms)
    payload = agreement.payload_of(terms)
    return agreement.envelope(payload, [agreement.sign(payload, seed) for seed in SEEDS.values()])


def without(envelope, count):
    return {**envelope, "signatures": envelope["signatures"][:count]}


def doubled(envelope):
    return {**envelope, "signatures": [*envelope["signatures"], envelope["signatures"][0]]}


def spaced(envelope):
    payload = json.dumps(json.loads(base64.b64decode(envelope["payload"]))).encode()
    return agreement.envelope(payload, [agreement.sign(payload, seed) for seed in SEEDS.values()])


@pytest.mark.parametrize(
    ("envelope", "options", "reason"),
    [
        (lambda: spaced(signed()), {}, "not_canonical"),
        (lambda: without(signed(), 2), {}, "missing_signature"),
        (lambda: signed(), {"keys": {**KEYS, "a-db": KEYS["b-web"]}}, "unknown_key"),
        (lambda: signed(), {"keys": {"a-db": KEYS["a-db"]}}, "unknown_key"),
        (lambda: doubled(signed()), {}, "bad_signature"),
        (lambda: {**signed(), "payloadType": "text/plain"}, {}, "bad_signature"),
        (lambda: signed(), {"policies": [read_policy(a_db(version=2))]}, "digest_mismatch"),
        (lambda: resigned(lambda t: t["subject"][1]["digest"].update(sha256="0" * 64)), {}, "digest_mismatch"),
        (lambda: signed(), {"now": "2026-01-01T00:00:00Z"}, "not_yet_valid"),
        (lambda: signed(), {"now": "2026-05-31T12:00:00Z"}, "expired"),
    ],
)  # fmt: skip
def test_the_first_reason_that_applies_is_given(envelope, options, reason):
    result = agreement.verify(envelope(), **{"now": NOW, **options})
    assert (result["valid"], result["reason"]) == (False, reason)
    assert result["identity"] == ("checked" if "keys" in options else "unchecked")


@pytest.mark.parametrize("text", ["{}", "[]", "nothing", '{"payload": "!", "payloadType": "x", "signatures": []}'])
def test_what_is_no_envelope_is_bad_input(text):
    with pytest.raises(BadInput):
        agreement.verify(text, now=NOW)


def log_lines(count, checkpoint=None):
    lines, previous = [], auditlog.GENESIS
    for number in range(count):
        body = {
            "seq": number, "at": NOW, "type": "policy.saved", "actor": "alice", "subject": "vm:a-db",
            "data": {"version": number}, "prev": previous,
        }  # fmt: skip
        if number == checkpoint:
            signature = agreement.Ed25519PrivateKey.from_private_bytes(SEEDS["operator"]).sign(bytes.fromhex(previous))
            data = {"head": previous, "keyid": agreement.key_id(KEYS["operator"])}
            body |= {"type": "checkpoint", "data": {**data, "sig": base64.b64encode(signature).decode()}}
        previous = strictjson.digest(body)
        lines.append(strictjson.canonical({**body, "hash": previous}))
    return lines, previous


def test_a_log_is_checked_entry_by_entry_and_by_its_head():
    lines, head = log_lines(30, checkpoint=20)
    whole = auditlog.verify_log(b"\n".join(lines) + b"\n", head=head, keys=KEYS)
    assert whole == {"kind": "log", "valid": True, "reason": "ok", "entries": 30, "first_bad": None, "head": head}
    cut = auditlog.verify_log(b"\n".join(lines[:-1]), head=head)
    assert (cut["reason"], cut["first_bad"]) == ("truncated", None)
    assert auditlog.verify_log(b"\n".join(lines), keys={"a-db": KEYS["a-db"]})["first_bad"] == 20


@pytest.mark.parametrize("count", [1, 3])
def test_a_log_whose_first_entry_is_damaged_is_still_a_log(count):
    lines, _ = log_lines(count)
    for at in range(len(lines[0])):
        changed = lines[0][:at] + bytes([lines[0][at] ^ 1]) + lines[0][at + 1 :]
        verdict = auditlog.verify_log(b"\n".join([changed, *lines[1:]]))
        assert (verdict["valid"], verdict["reason"], verdict["first_bad"]) == (False, "chain_broken", 0), changed
    for other in (b"", b"{}", json.dumps(signed()).encode(), json.dumps(A_DB).encode()):
        assert not auditlog.looks_like_log(other)


@pytest.mark.parametrize("at", [0, 7, 29])
def test_a_changed_removed_doubled_or_moved_entry_is_found_at_its_place(at):
    lines, _ = log_lines(30)
    changed = [*lines[:at], lines[at].replace(b"alice", b"mally"), *lines[at + 1 :]]
    spaced_out = [*lines[:at], lines[at].replace(b",", b", ", 1), *lines[at + 1 :]]
    doubled_up = [*lines[: at + 1], lines[at], *lines[at + 1 :]]
    for wrong, place in ((changed, at), (spaced_out, at), (doubled_up, at + 1)):
        assert auditlog.verify_log(b"\n".join(wrong))["first_bad"] == place
    if at < 29:
        assert auditlog.verify_log(b"\n".join([*lines[:at], *lines[at + 1 :]]))["first_bad"] == at
        moved = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        assert auditlog.verify_log(b"\n".join(moved))["first_bad"] == at


def hashed(text, previous):
    """A line of this text with the hash that its own bytes have, canonical or not; and that hash."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text.replace(f',"prev":"{previous}"', f',"hash":"{digest}","prev":"{previous}"').encode(), digest


@pytest.mark.parametrize(
    ("data", "good"),
    [
        ('{"a":1}', True),
        ('{"a":"\\u0001"}', False),
        ('{"a":"\\n"}', False),
        ('{"a":"é"}', True),
        ('{"a":"say \\"hash\\""}', True),
        ('{"a":9007199254740991}', True),
        ('{"a":9007199254740992}', False),
        ('{"a":-0}', False),
        ('{"a":1.5}', False),
        ('{"a":1e3}', False),
        ('{"a":NaN}', False),
        ('{"b":1,"a":1}', False),
        ('{"a":1,"a":1}', False),
        ('{"a": 1}', False),
        ("[" * 14 + "]" * 14, True),
        ("[" * 16 + "]" * 16, False),
        ('{"a":"\x7f"}', False),
        ('"],[\\"', False),
    ],
)
def test_whole_pages_of_a_log_are_read_as_strictly_as_single_lines(data, good):
    lines, previous = log_lines(3)
    text = f'{{"actor":"x","at":"{NOW}","data":{data},"prev":"{previous}","seq":3,"subject":"s","type":"t"}}'
    line, digest = hashed(text, previous)
    verdict = auditlog.verify_log(b"\n".join([*lines, line]))
    assert (verdict["valid"], verdict["first_bad"]) == ((True, None) if good else (False, 3))
    assert (auditlog._entry(line, 3, previous) is not None) is good
