"""The API as programs use it: tokens, pages of lists, problems, repeats done once, lost updates refused, limits."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from tests.conftest import CAREFUL, HOST, Cast, wishes
from webapp.accounts import tokens
from webapp.accounts.models import ApiToken, StoredAnswer
from webapp.audit.models import Entry
from webapp.errors import BadInput
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.services import membership_add, vm_create
from webapp.vpms.vocabulary import PROFILES

pytestmark = pytest.mark.django_db


def with_token(user: Any, scope: str = "write", days: int = 7, **more: Any) -> Client:
    """A program that calls with a token of this person, without cookies and without any CSRF token."""
    _, secret = tokens.token_make(by=user, name="test", scope=scope, days=days, **more)
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {secret}"})


def text(version: int = 2, answers: Any = CAREFUL, **more: Any) -> str:
    return json.dumps(wishes(answers, vm="a-db", tenant="alpha", version=version, **more))


def put(client: Client, body: str, **headers: str) -> Any:
    return client.put("/api/vms/a-db/policy", body, content_type="application/json", headers=headers)


# -- tokens


def test_a_token_opens_what_its_scope_allows_and_nothing_more(cast: Cast) -> None:
    reading, writing, managing = (with_token(cast.alice, scope) for scope in ("read", "write", "manage"))
    assert reading.get("/api/vms").json()["items"][0]["name"] == "a-db"
    refused = put(reading, text())
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed") and Policy.objects.count() == 2
    assert put(writing, text()).status_code == 200
    body = {"name": "x", "scope": "read", "days": 1}
    assert writing.post("/api/account/tokens", body, content_type="application/json").status_code == 403
    assert managing.post("/api/account/tokens", body, content_type="application/json").status_code == 201
    assert reading.get("/api/account").json()["scope"] == "read"


def test_only_a_digest_of_a_token_is_kept_and_its_making_and_end_are_recorded(cast: Cast) -> None:
    token, secret = tokens.token_make(by=cast.alice, name="backup", scope="read", days=7)
    assert len(secret) >= 43 and secret not in json.dumps(list(ApiToken.objects.values()), default=str)
    tokens.token_revoke(by=cast.alice, token_id=token.pk)
    tokens.token_revoke(by=cast.alice, token_id=token.pk)
    entries = list(Entry.objects.filter(type__startswith="token.").values_list("type", "line"))
    assert [type for type, _ in entries] == ["token.made", "token.revoked"]
    assert not any(secret in line for _, line in entries)


@pytest.mark.parametrize("how", ["revoked", "ended", "disabled", "wrong"])
def test_a_token_that_does_not_count_opens_nothing_from_that_moment_on(cast: Cast, how: str) -> None:
    client = with_token(cast.alice)
    assert client.get("/api/vms").status_code == 200
    if how == "revoked":
        tokens.token_revoke(by=cast.alice, token_id=ApiToken.objects.get().pk)
    elif how == "ended":
        ApiToken.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    elif how == "disabled":
        type(cast.alice).objects.filter(pk=cast.alice.pk).update(is_active=False)
    else:
        client = Client(headers={"Authorization": "Bearer vpms_" + "A" * 43})
    answer = client.get("/api/vms")
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_token")
    assert "Bearer" in answer["WWW-Authenticate"]


def test_a_token_for_one_organisation_sees_and_does_nothing_of_the_others(cast: Cast) -> None:
    membership_add(by=None, user=cast.alice, role="member", tenant=cast.beta)
    membership_add(by=None, user=cast.alice, role="operator")
    client = with_token(cast.alice, tenant="alpha")
    assert [row["name"] for row in client.get("/api/vms").json()["items"]] == ["a-db"]
    assert client.get("/api/vms/b-web").status_code == client.get("/api/hosts").status_code == 404
    assert client.get("/api/account").json()["organisations"] == ["alpha"]
    assert len(with_token(cast.alice).get("/api/vms").json()["items"]) == 2


def test_a_token_makes_no_token_that_reaches_further_or_lasts_longer(cast: Cast) -> None:
    client = with_token(cast.alice, "manage", tenant="alpha")
    for body, path in (
        ({"name": "x", "scope": "read", "days": 1}, "$.tenant"),
        ({"name": "x", "scope": "read", "days": 30, "organisation": "alpha"}, "$.days"),
        ({"name": "x", "scope": "read", "days": 1, "organisation": "beta"}, "$.tenant"),
    ):
        refused = client.post("/api/account/tokens", body, content_type="application/json")
        assert refused.status_code == 422 and refused.json()["faults"][0]["path"] == path
    reading = ApiToken(scope="read", expires_at=timezone.now() + dt.timedelta(days=9))
    with pytest.raises(BadInput):
        tokens.token_make(by=cast.alice, name="x", scope="write", days=1, through=reading)
    assert ApiToken.objects.count() == 1


def test_a_session_left_open_makes_no_token_that_says_who_belongs_where(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)  # who has not just proved who it is
    asked = {"name": "all", "scope": "manage", "days": "7", "tenant": ""}
    assert client.post("/account/tokens/", asked).headers["Location"] == "/account/confirm/"
    call = {"name": "all", "scope": "manage", "days": 7}
    refused = client.post("/api/account/tokens", json.dumps(call), content_type="application/json")
    assert refused.status_code == 403 and refused.json()["code"] == "confirm_first"
    assert not ApiToken.objects.exists()


def test_foreign_tokens_are_neither_listed_nor_revoked(cast: Cast, client: Client) -> None:
    token, _ = tokens.token_make(by=cast.bob, name="bobs", scope="read", days=1)
    client.force_login(cast.alice)
    assert client.get("/api/account/tokens").json()["items"] == []
    assert client.delete(f"/api/account/tokens/{token.pk}").status_code == 404
    assert client.post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    assert with_token(cast.bob).get("/api/vms").status_code == 200


def test_the_page_shows_a_new_secret_once_and_keeps_what_was_typed_when_it_refuses(cast: Cast, client: Client) -> None:
    client.force_login(cast.alice)
    refused = client.post("/account/tokens/", {"name": "nightly", "scope": "all", "days": "30"})
    assert refused.status_code == 422 and 'value="nightly"' in refused.content.decode()
    made = client.post("/account/tokens/", {"name": "nightly", "scope": "read", "days": "30"}).content.decode()
    secret = made.partition('id="secret">')[2].partition("<")[0]
    assert secret.startswith("vpms_") and secret not in client.get("/account/tokens/").content.decode()
    assert Client(headers={"Authorization": f"Bearer {secret}"}).get("/api/account").json()["username"] == "alice"
    page = client.post(f"/account/tokens/{ApiToken.objects.get().pk}/revoke/", follow=True).content.decode()
    assert "You have no token" in page


# -- lists


def test_pages_of_a_list_lose_and_repeat_nothing_while_rows_come(cast: Cast, client: Client) -> None:
    for number in range(7):
        vm_create(by=cast.alice, tenant=cast.alpha, name=f"m{number}", trace="gzip")
    client.force_login(cast.alice)
    seen, address = [], "/api/vms?limit=3"
    while address:
        answer = client.get(address)
        seen += [row["name"] for row in answer.json()["items"]]
        address = answer.json()["next"]
        assert (f'<{address}>; rel="next"' == answer.get("Link")) if address else "Link" not in answer
        vm_create(by=cast.alice, tenant=cast.alpha, name=f"b{len(seen)}", trace="gzip")  # before what was seen last
    assert [name for name in seen if name[0] != "b"] == ["a-db", *(f"m{number}" for number in range(7))]
    newest = client.get("/api/audit?limit=2").json()
    assert newest["items"][0]["seq"] > newest["items"][1]["seq"]
    after = client.get(newest["next"]).json()["items"]
    assert after[0]["seq"] == newest["items"][1]["seq"] - 1 or after[0]["seq"] < newest["items"][1]["seq"]


@pytest.mark.parametrize("cursor", ["x", "WyItaWQiLDNd", "%00", "W10", "eyJhIjoxfQ", "WyJuYW1lIiwxXQ", "é"])
def test_a_cursor_that_the_list_did_not_give_out_is_a_fault(cast: Cast, client: Client, cursor: str) -> None:
    client.force_login(cast.alice)
    answer = client.get(f"/api/vms?cursor={cursor}")
    assert answer.status_code in (404, 422)
    if answer.status_code == 422:
        assert answer.json()["faults"][0]["path"] == "$.cursor"
    assert client.get("/api/vms?limit=0").json()["faults"][0]["path"] == "$.limit"


# -- problems


def test_every_kind_of_refusal_is_a_problem_of_one_shape(cast: Cast) -> None:
    alice, nobody = with_token(cast.alice), Client()
    answers = {
        401: nobody.get("/api/vms"),
        404: alice.get("/api/nothing"),
        405: alice.delete("/api/vms"),
        412: put(alice, text(), **{"If-Match": '"9-0000000000000000"'}),
        413: put(alice, " " * 1_100_000),
        415: alice.put("/api/vms/a-db/policy", "x", content_type="text/plain"),
        422: put(alice, "{}"),
    }
    for status, answer in answers.items():
        told = answer.json()
        assert answer.status_code == told["status"] == status
        assert answer["Content-Type"] == "application/problem+json"
        assert told["type"] == f"/api/errors#{told['code']}" and told["title"] and told["detail"] == told["message"]
        assert isinstance(told["faults"], list)


# -- repeats


def test_a_repeat_with_the_same_key_is_answered_alike_and_done_once(cast: Cast) -> None:
    client = with_token(cast.alice)
    first, again = (put(client, text(), **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert first.status_code == again.status_code == 200 and first.json() == again.json()
    assert first["ETag"] == again["ETag"] and again["Idempotency-Replayed"] == "true"
    assert cast.a_db.policies.count() == 2
    other = put(client, text(version=3), **{"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused") and cast.a_db.policies.count() == 2
    StoredAnswer.objects.update(at=timezone.now() - dt.timedelta(hours=25))
    assert put(client, text(version=3), **{"Idempotency-Key": "k1"}).status_code == 200


def test_a_refused_call_leaves_neither_act_nor_answer(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    from webapp.agreements import declaring

    client = with_token(cast.alice)
    entries = Entry.objects.count()

    def broken(**_: Any) -> None:
        raise RuntimeError("half-way")

    with monkeypatch.context() as patch:
        patch.setattr(declaring, "record_check", broken)
        assert put(client, text(), **{"Idempotency-Key": "k1"}).status_code == 500
    assert cast.a_db.policies.count() == 1 and Entry.objects.count() == entries
    assert not StoredAnswer.objects.exists()
    assert put(client, text(), **{"Idempotency-Key": "k1"}).status_code == 200


def test_the_secret_of_a_token_is_not_kept_for_repeats(cast: Cast) -> None:
    client = with_token(cast.alice, "manage")
    first, again = (
        client.post(
            "/api/account/tokens",
            {"name": "x", "scope": "read", "days": 1},
            content_type="application/json",
            headers={"Idempotency-Key": "k"},
        )
        for _ in range(2)
    )
    assert first.status_code == again.status_code == 201 and ApiToken.objects.count() == 2
    assert first.json()["secret"] and again.json()["secret"] is None
    assert first.json()["secret"] not in StoredAnswer.objects.get().content


def test_fifty_repeats_at_once_do_the_act_once(live_cast: Cast) -> None:
    _, secret = tokens.token_make(by=live_cast.alice, name="t", scope="write", days=1)
    body = {"name": "a-new", "trace": "gzip", "host": "h1", "profile": PROFILES[0].name, "memory_mib": 8}

    def call(_: int) -> tuple[int, bytes]:
        try:
            client = Client(headers={"Authorization": f"Bearer {secret}", "Idempotency-Key": "once"})
            answer = client.post("/api/vms", body, content_type="application/json")
            return answer.status_code, answer.content
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(call, range(50)))
    assert len(answers) == 1 and next(iter(answers))[0] == 201
    assert VirtualMachine.objects.filter(name="a-new").count() == 1
    assert Entry.objects.filter(type="vm.created", subject="vm:a-new").count() == 1


# -- lost updates


def test_a_save_over_a_version_that_was_not_seen_is_refused_with_the_difference(cast: Cast) -> None:
    client = with_token(cast.alice)
    seen = client.get("/api/vms/a-db/policy")["ETag"]
    fast = {**CAREFUL, "q7": {"answer": "speed", "strength": "prefer"}}
    assert put(client, text(answers=fast), **{"If-Match": seen}).status_code == 200
    refused = put(client, text(version=3), **{"If-Match": seen})
    told = refused.json()
    assert (refused.status_code, told["code"], told["version"]) == (412, "stale", 2)
    assert told["changed"] and told["changed"][0].keys() == {"setting", "now", "then"}
    back = [{"setting": row["setting"], "now": row["then"], "then": row["now"]} for row in told["changed"]]
    assert told["changes"] == back and cast.a_db.policies.count() == 2
    now = client.get("/api/vms/a-db/policy")["ETag"]
    assert put(client, text(version=3), **{"If-Match": now}).status_code == 200
    answers = {"answers": CAREFUL}
    stale = client.put("/api/vms/a-db/answers", answers, content_type="application/json", headers={"If-Match": now})
    assert stale.status_code == 412 and cast.a_db.policies.count() == 3


def test_answers_and_document_are_the_same_wishes(cast: Cast) -> None:
    client = with_token(cast.alice)
    told = client.get("/api/vms/a-db/answers").json()
    assert told["answers"]["q1"] == CAREFUL["q1"] and told["version"] == 1
    saved = client.put("/api/vms/a-db/answers", {"answers": told["answers"]}, content_type="application/json")
    assert saved.status_code == 200
    documents = [json.loads(row.document) for row in cast.a_db.policies.all()]
    assert documents[0]["switches"] == documents[1]["switches"] and documents[0]["version"] == 2
    wrong = client.put(
        "/api/vms/a-db/answers",
        {"answers": {"q1": {"answer": "x", "strength": "must"}}},
        content_type="application/json",
    )
    assert wrong.status_code == 422 and wrong.json()["faults"][0]["path"].startswith("$.answers.q1")
    tried = client.post("/api/vms/a-db/policy/check", text(version=3), content_type="application/json").json()
    assert tried["version"] == 3 and tried["check"]["status"] and cast.a_db.policies.count() == 2
    restored = client.post("/api/vms/a-db/policies/1/restore", content_type="application/json")
    assert restored.json()["version"] == 3


# -- limits


def test_calls_are_limited_by_person_and_token_with_headers(cast: Cast, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE, settings.API_WRITES_PER_MINUTE = 3, 1
    client, other = with_token(cast.alice), with_token(cast.alice)
    found = [client.get("/api/vms") for _ in range(4)]
    if found[-1].status_code == 200:  # a minute ended in between
        found = [client.get("/api/vms") for _ in range(4)]
    assert [answer.status_code for answer in found] == [200, 200, 200, 429]
    assert [answer["RateLimit-Remaining"] for answer in found] == ["2", "1", "0", "0"]
    last = found[-1]
    assert last.json()["code"] == "too_many_calls" and last["Retry-After"] == last["RateLimit-Reset"]
    assert last["RateLimit-Limit"] == "3" and other.get("/api/vms").status_code == 200


def test_exactly_the_allowed_number_of_parallel_calls_is_counted(live_cast: Cast) -> None:
    def call(_: int) -> bool:
        try:
            return tokens.call_counted(key="x", most=7).allowed
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        allowed = sum(pool.map(call, range(20)))
    assert allowed in (7, 14)  # 14: a minute ended in between


def test_calls_go_on_while_they_cannot_be_counted(cast: Cast, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.API_CALLS_PER_MINUTE = 1
    client = with_token(cast.alice)

    def away(**_: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(tokens, "call_counted", away)
    answers = [client.get("/api/vms") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3 and "RateLimit-Limit" not in answers[0]


# -- what pages do


def test_a_stopped_vm_is_placed_elsewhere_and_a_running_one_is_not(cast: Cast) -> None:
    from tests.web.neighbours import host
    from webapp.fleet.services import host_create

    host_create(by=cast.olga, document=host("h2"))
    client = with_token(cast.alice)
    moved = client.put("/api/vms/a-db/placement", {"host": "h2"}, content_type="application/json")
    assert moved.json()["host"] == "h2"
    VirtualMachine.objects.filter(name="a-db").update(state="running")
    refused = client.put("/api/vms/a-db/placement", {"host": "h1"}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_stopped")
    VirtualMachine.objects.filter(name="a-db").update(state="stopped")
    open_host = {**HOST["capabilities"], "memory_protection": ["none"]}  # a-db must be protected
    host_create(by=cast.olga, document={**HOST, "host": "h3", "capabilities": open_host})
    refused = client.put("/api/vms/a-db/placement", {"host": "h3"}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "cannot_run_there")
    again = client.put("/api/vms/a-db/placement", {"host": "h2"}, content_type="application/json")
    assert again.json()["host"] == "h2"  # where it is already
    assert client.put("/api/vms/b-web/placement", {"host": "h2"}, content_type="application/json").status_code == 404


def test_keys_are_replaced_by_api_for_ones_own_organisation_only(cast: Cast) -> None:
    client = with_token(cast.alice, "manage")
    with transaction.atomic():
        made = client.post("/api/keys/replace", {"tenant": "alpha"}, content_type="application/json")
    assert made.status_code == 200 and client.get("/api/keys/file").json() == {"a-db": made.json()["public"]}
    for tenant in ("beta", None):
        refused = client.post("/api/keys/replace", {"tenant": tenant}, content_type="application/json")
        assert refused.status_code == 404
    assert {row["whose"] for row in client.get("/api/keys").json()["items"]} <= {"Alpha Clinic", "the operator"}


def test_calls_made_from_the_document_meet_no_fault_of_the_site(cast: Cast) -> None:
    """A small sample of `python -m tests.web.apifuzz`, the same at every run."""
    from tests.web import apifuzz

    some = "vm_list,policy_newest_get,answers_put,negotiation_answer,token_make,run_want,audit_list"
    report = apifuzz.fuzz(apifuzz.signed_in(cast), cases=42, seed=1, only=some)
    assert report["findings"] == [] and report["cases"] >= 30, report
