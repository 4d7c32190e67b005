"""Webhooks: signed, tried again, only where the operator allows, and never further than the address that was given."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils import timezone

from tests.conftest import Cast
from webapp import jobs
from webapp.errors import BadInput, VpmsError
from webapp.notices import outgoing, payload, sending, services
from webapp.notices.models import Delivery, Endpoint, Notice
from webapp.ops import keeper
from webapp.settings import webhook_hosts

pytestmark = pytest.mark.django_db


class Receiver(http.server.ThreadingHTTPServer):
    """A real receiver on loopback; `answers` are given in turn, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = [204]
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?team=1"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        self.send_response(self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0])
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def site(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    settings.SITE_URL = "https://vpms.example"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    with Receiver() as found:
        settings.WEBHOOK_HOSTS = [f"127.0.0.1:{found.server_port}"]
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def hook(cast: Cast, receiver: Receiver) -> tuple[Endpoint, str]:
    return services.endpoint_create(by=cast.alice, tenant="alpha", url=receiver.url, kinds=["vm", "webhook"])


def say(key: str = "1", tenant: str = "alpha", code: str = "vm.running") -> None:
    with transaction.atomic():
        services.tell(code, tenant=tenant, key=key, subject="a-db", link="/tenant/", vm="a-db", host="h1")


def deliver() -> None:
    Delivery.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
    for pk in Delivery.objects.filter(due_at__isnull=False).order_by("pk").values_list("pk", flat=True):
        sending.delivery_work(delivery_id=pk)


def fits(headers: dict[str, str], body: bytes, secret: str) -> bool:
    """What a receiver does, by the description in the schema."""
    at, *made = headers["VPMS-Signature"].split(",")
    wanted = hmac.new(secret.encode(), at.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"v1={wanted}" in made


def test_what_happens_is_posted_signed_in_the_form_of_the_schema(
    hook: tuple[Endpoint, str], receiver: Receiver
) -> None:
    say()
    say("1")
    say("2", tenant="beta")
    say("3", code="run.lost")  # not a kind that it is told
    deliver()
    [(path, headers, body)] = receiver.got
    assert path == "/hook?team=1" and headers["Content-Type"] == "application/json"
    assert fits(headers, body, hook[1]) and not fits(headers, body + b" ", hook[1])
    told = json.loads(body)
    assert told["text"] == "a-db runs on host h1." and told["link"] == "https://vpms.example/tenant/"
    assert told["id"] == headers["VPMS-Delivery"] and told["organisation"] == "alpha" and not told["test"]
    properties = payload.SCHEMA["properties"]
    assert set(told) == set(payload.SCHEMA["required"]) == set(properties)
    assert told["kind"] in properties["kind"]["enum"] and told["severity"] in properties["severity"]["enum"]
    deliver()
    assert len(receiver.got) == 1 and Delivery.objects.get().state == "delivered"


def test_a_delivery_that_failed_is_tried_again_later_with_the_same_body(
    hook: tuple[Endpoint, str], receiver: Receiver
) -> None:
    receiver.answers = [500, 200]
    say()
    deliver()
    row = Delivery.objects.get()
    assert row.state == "waiting" and row.due_at is not None and row.due_at > timezone.now()
    deliver()
    assert [body for _, _, body in receiver.got] == [receiver.got[0][2]] * 2
    row.refresh_from_db()
    assert row.state == "delivered"
    assert [(each.status, each.error) for each in row.attempts_made.all()] == [
        (500, "It did not take the message."),
        (200, ""),
    ]
    assert Endpoint.objects.get().failures == 0


def test_a_redirect_is_not_followed(hook: tuple[Endpoint, str], receiver: Receiver) -> None:
    receiver.answers = [307]
    say()
    deliver()
    assert [path for path, _, _ in receiver.got] == ["/hook?team=1"]
    assert "redirect" in Delivery.objects.get().attempts_made.get().error


def test_nobody_answering_is_a_failed_try_and_after_the_last_it_is_given_up(
    cast: Cast, hook: tuple[Endpoint, str], receiver: Receiver
) -> None:
    receiver.server_close()
    say()
    for _ in range(len(sending.PAUSES) + 1):
        deliver()
    row = Delivery.objects.get()
    assert (row.state, row.due_at) == ("failed", None)
    assert {each.status for each in row.attempts_made.all()} == {None}
    assert "There was no answer" in row.attempts_made.all()[0].error


def test_after_many_failures_the_endpoint_is_switched_off_and_its_people_are_told(
    cast: Cast, hook: tuple[Endpoint, str], receiver: Receiver
) -> None:
    receiver.answers = [503]
    Endpoint.objects.update(failures=sending.MOST_FAILURES - 1)
    say()
    say("2")
    deliver()
    endpoint = Endpoint.objects.get()
    assert not endpoint.active and {row.state for row in Delivery.objects.all()} == {"failed"}
    assert not Delivery.objects.filter(due_at__isnull=False).exists() and len(receiver.got) == 1
    off = Notice.objects.get(user=cast.alice, event__code="webhook.off")
    assert off.event.text == "The webhook to 127.0.0.1 was switched off after 20 failed tries."
    services.endpoint_change(by=cast.alice, endpoint=endpoint, kinds=["vm"], active=True)
    receiver.answers = [200]
    say("3")
    deliver()
    assert len(receiver.got) == 2


def test_both_secrets_sign_for_a_day_after_one_was_replaced(
    cast: Cast, hook: tuple[Endpoint, str], receiver: Receiver
) -> None:
    endpoint, old = hook
    _, new = services.endpoint_rotate(by=cast.alice, endpoint=endpoint, rotation=1)
    with pytest.raises(VpmsError):  # the same press of the button once more
        services.endpoint_rotate(by=cast.alice, endpoint=endpoint, rotation=1)
    say()
    deliver()
    assert all(fits(*receiver.got[0][1:], secret) for secret in (old, new))
    Endpoint.objects.update(before_until=timezone.now() - dt.timedelta(seconds=1))
    say("2")
    deliver()
    assert fits(*receiver.got[1][1:], new) and not fits(*receiver.got[1][1:], old)


def test_a_secret_is_kept_sealed(hook: tuple[Endpoint, str]) -> None:
    endpoint, secret = hook
    assert secret.encode() not in bytes(Endpoint.objects.get(pk=endpoint.pk).sealed_secret)
    endpoint.tenant = "beta"
    with pytest.raises(InvalidTag):  # moved to another organisation it does not open
        sending.secrets_of(endpoint)


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "http://hooks.example/",
        "https://hooks.example:8443/",
        "https://me:secret@hooks.example/",
        "https://hooks.example/#part",
        "https://hooks.example/a b",
        "https://hooks.example:x/",
        "ftp://hooks.example/",
        "http://localhost/",
        "http://127.0.0.2/",
        "//hooks.example/",
        "https://hooks.example/" + "a" * 500,
        "https://hooks.example\r\nHost: x/",
        "",
    ],
)
def test_an_address_that_the_operator_does_not_allow_is_refused(cast: Cast, settings: Any, url: str) -> None:
    settings.WEBHOOK_HOSTS = ["hooks.example", "127.0.0.1:80"]
    with pytest.raises(BadInput) as refused:
        services.endpoint_create(by=cast.alice, tenant="alpha", url=url, kinds=["vm"])
    assert refused.value.faults[0].path == "$.url" and not Endpoint.objects.exists()


@pytest.mark.parametrize(
    ("number", "listed", "allowed"),
    [
        ("203.0.114.9", "", True),
        ("127.0.0.1", "", False),
        ("10.1.2.3", "", False),
        ("10.1.2.3", "10.1.0.0/16", True),
        ("169.254.169.254", "10.1.0.0/16", False),
        ("::1", "", False),
        ("::ffff:127.0.0.1", "", False),
        ("fd00::5", "fd00::/8", True),
    ],
)
def test_the_address_that_a_name_stands_for_is_checked_when_it_is_called(
    settings: Any, monkeypatch: Any, number: str, listed: str, allowed: bool
) -> None:
    settings.WEBHOOK_HOSTS = ["hooks.example", *([listed] if listed else [])]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    address = outgoing.address_of("https://hooks.example/")
    if allowed:
        assert outgoing.resolved(address) == number
    else:
        with pytest.raises(outgoing.Refused):
            outgoing.resolved(address)


def test_an_address_that_is_allowed_no_more_is_not_called(
    hook: tuple[Endpoint, str], receiver: Receiver, settings: Any
) -> None:
    say()
    settings.WEBHOOK_HOSTS = []
    deliver()
    assert not receiver.got
    assert Delivery.objects.get().attempts_made.get().error == "The operator does not allow this address any more."


def test_a_receiver_that_never_answers_is_cut_off(receiver: Receiver, monkeypatch: Any, settings: Any) -> None:
    monkeypatch.setattr(outgoing, "WHOLE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        settings.WEBHOOK_HOSTS = [f"127.0.0.1:{port}"]
        with pytest.raises(outgoing.Refused):
            outgoing.post(f"http://127.0.0.1:{port}/", b"{}", {})


@pytest.mark.parametrize("text", ["10.0.0.0/99", "host:port", ":", "https://host/x/"])
def test_a_list_of_hosts_that_cannot_be_read_stops_the_start(text: str) -> None:
    with pytest.raises(ImproperlyConfigured):
        webhook_hosts(text)
    assert webhook_hosts("a.example, [::1]:8443 ,10.0.0.0/8") == ["a.example", "[::1]:8443", "10.0.0.0/8"]


def test_a_delivery_that_workers_die_of_is_given_up_by_the_keeper(hook: tuple[Endpoint, str]) -> None:
    say()
    Delivery.objects.update(attempts=jobs.MAX_ATTEMPTS)
    keeper.reap(timezone.now())
    row = Delivery.objects.get()
    assert (row.state, row.due_at) == ("failed", None) and row.attempts_made.get().error == keeper.GAVE_UP


def test_an_owner_sets_it_up_tests_it_and_removes_it_by_page(cast: Cast, client: Any, receiver: Receiver) -> None:
    client.force_login(cast.alice)
    form = {"tenant": "alpha", "url": receiver.url, "kinds": ["vm", "deadline"]}
    page = client.post("/tenant/webhooks/", form)
    assert page.status_code == 200 and "whsec_" in page.content.decode() and page["Cache-Control"] == "no-store"
    endpoint = Endpoint.objects.get()
    path = f"/tenant/webhooks/{endpoint.pk}/"
    assert "whsec_" not in client.get(path).content.decode()
    again = client.post("/tenant/webhooks/", form)
    assert again.status_code == 422 and receiver.url in again.content.decode()
    client.post(path + "act/", {"act": "test"})
    client.post(path + "act/", {"act": "test"})
    deliver()
    assert [json.loads(body)["test"] for _, _, body in receiver.got] == [True]
    assert "Delivered" in client.get(path).content.decode()
    client.post(path + "act/", {"act": "keep", "kinds": ["breach"]})
    assert Endpoint.objects.get().kinds == ["breach"]
    bad = client.post(path + "act/", {"act": "keep"})
    assert bad.status_code == 422 and Endpoint.objects.get().kinds == ["breach"]
    client.post(path + "act/", {"act": "delete"})
    assert not Endpoint.objects.exists()


def test_an_owner_does_all_of_it_by_api(cast: Cast, client: Any, receiver: Receiver) -> None:
    client.force_login(cast.alice)

    def call(method: str, path: str, body: Any = None) -> Any:
        return getattr(client, method)(f"/api/webhooks{path}", body or {}, content_type="application/json")

    made = call("post", "", {"organisation": "alpha", "url": receiver.url, "kinds": ["vm"]})
    assert made.status_code == 201 and made.json()["secret"].startswith("whsec_")
    path = f"/{made.json()['id']}"
    assert "secret" not in call("get", "").json()["items"][0]
    assert call("post", path + "/test").status_code == 202
    deliver()
    [told] = call("get", path + "/deliveries").json()["items"]
    assert told["state"] == "delivered" and told["tries"][0]["status"] == 204
    assert call("put", path, {"kinds": ["breach"], "active": False}).json()["active"] is False
    assert call("post", path + "/test").status_code == 409
    assert call("post", path + "/secret", {"rotation": 1}).json()["secret"] != made.json()["secret"]
    assert call("post", path + "/secret", {"rotation": 1}).status_code == 409
    assert call("delete", path).status_code == 204 and call("get", "").json()["items"] == []
    assert client.get("/api/schemas/webhook.json").json() == payload.SCHEMA


def test_only_owners_of_the_organisation_reach_its_webhooks(
    cast: Cast, client: Any, hook: tuple[Endpoint, str]
) -> None:
    path = f"/tenant/webhooks/{hook[0].pk}/"
    client.force_login(cast.bob)
    assert client.get(path).status_code == client.post(path + "act/", {"act": "delete"}).status_code == 404
    assert client.get(f"/api/webhooks/{hook[0].pk}/deliveries").status_code == 404
    form = {"tenant": "alpha", "url": hook[0].url + "2", "kinds": ["vm"]}
    assert client.post("/tenant/webhooks/", form).status_code == 404
    cast.alice.memberships.update(role="member")
    client.force_login(cast.alice)
    assert client.get(path).status_code == 404 and "Only owners" in client.get("/tenant/webhooks/").content.decode()
    with pytest.raises(VpmsError):
        services.endpoint_delete(by=cast.alice, endpoint=hook[0])
    assert Endpoint.objects.count() == 1
