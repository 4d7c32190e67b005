"""Alerts: raised once, told once, never hidden by a silence, and every act of a person in the record."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
from django.core import mail as outbox
from django.test import Client
from django.utils import timezone, translation

from tests.conftest import Cast
from webapp.audit.models import Entry
from webapp.errors import BadInput, VpmsError
from webapp.live import topics
from webapp.notices import alert_selectors as selectors
from webapp.notices import alerts, runbooks, sending, services
from webapp.notices.models import Alert, Delivery, Endpoint, Mail, Notice, Watch
from webapp.notices.selectors import bell_of
from webapp.notices.wording import WORDS
from webapp.ops import keeper, watching
from webapp.ops import services as ops
from webapp.ops.management.commands.runbooks import markdown
from webapp.ops.models import ChainCheck
from webapp.runs import alarms
from webapp.runs import services as runs
from webapp.runs.models import Event, Run

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent.parent
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    settings.SITE_URL = "https://vpms.example"


@pytest.fixture
def olga(cast: Cast) -> Client:
    cast.olga.email = "olga@mail.example"
    cast.olga.save(update_fields=["email"])
    client = Client()
    client.force_login(cast.olga)
    return client


def planted(host: str = "h1") -> Alert:
    return alerts.raise_("rule.broken", key=f"violation:{host}", link=f"/operator/host/{host}/?op=7", host=host)


def mails() -> list[str]:
    for pk in Mail.objects.filter(due_at__isnull=False).values_list("pk", flat=True):
        sending.mail_work(mail_id=pk)
    return [message.body for message in outbox.outbox]


def types_of(row: Alert) -> list[str]:
    return list(Entry.objects.filter(subject=f"alert:{row.pk}").order_by("seq").values_list("type", flat=True))


def act(client: Client, row: Alert, name: str, **more: str) -> Any:
    return client.post(f"/operator/alerts/{row.pk}/act/", {"act": name, "back": "/operator/alerts/", **more})


# -- raised, counted, over


def test_what_lasts_is_one_alert_that_counts_and_is_told_once(olga: Client, cast: Cast) -> None:
    first, second = planted(), planted()
    assert first.pk == second.pk and second.count == 2 and second.number > first.number
    assert Notice.objects.filter(user=cast.olga).count() == 1
    assert not Notice.objects.filter(user__in=[cast.alice, cast.bob, cast.ines]).exists()
    [body] = mails()
    assert "Pages on host h1 break a rule of ownership." in body and f"/operator/alerts/{first.pk}/" in body
    assert types_of(first) == ["alert.raised"]


def test_what_flaps_is_the_same_alert_and_what_comes_later_is_a_new_one(olga: Client, cast: Cast) -> None:
    row = planted()
    for _ in range(3):
        assert alerts.resolve(key=row.key)
        assert planted().pk == row.pk
    row.refresh_from_db()
    assert (row.count, row.state, row.resolved_at) == (4, "open", None) and len(mails()) == 1
    alerts.resolve(key=row.key)
    Alert.objects.filter(pk=row.pk).update(resolved_at=timezone.now() - HOUR)
    assert planted().pk != row.pk and len(mails()) == 2
    assert not alerts.resolve(key="nothing")


def test_an_alert_that_comes_again_is_acknowledged_still(olga: Client, cast: Cast) -> None:
    row = alerts.acknowledge(by=cast.olga, alert=planted())
    alerts.resolve(key=row.key)
    assert planted().state == "acknowledged"


def test_what_a_person_ended_is_told_anew(olga: Client, cast: Cast) -> None:
    row = alerts.raise_("run.failed", key="run:h1", link="/operator/", host="h1")
    alerts.resolve_by_hand(by=cast.olga, alert=row)
    again = alerts.raise_("run.failed", key="run:h1", link="/operator/", host="h1")
    assert again.pk != row.pk and len(mails()) == 2


def test_a_condition_is_one_alert_while_it_holds(cast: Cast) -> None:
    for holds in (False, True, True, True, False, False):
        alerts.follow(holds, "worker.silent", key="worker", link="/readyz")
    assert list(Alert.objects.values_list("state", "count")) == [("resolved", 1)]


def test_what_was_quiet_for_long_ends_by_itself(cast: Cast) -> None:
    quiet = alerts.raise_("act.denied", key="denied:h1", link="/operator/", host="h1", count=5)
    lasting = planted()
    alerts.tick(timezone.now())
    assert Alert.objects.filter(state="open").count() == 2
    alerts.tick(timezone.now() + dt.timedelta(minutes=11))
    quiet.refresh_from_db(), lasting.refresh_from_db()
    assert (quiet.state, lasting.state, quiet.resolved_by) == ("resolved", "open", None)


def test_a_keeper_that_was_away_says_so_when_it_is_back(cast: Cast) -> None:
    now = timezone.now()
    alerts.tick(now)
    alerts.tick(now + dt.timedelta(seconds=4))
    assert not Alert.objects.exists()
    alerts.tick(now + dt.timedelta(seconds=64))
    assert Alert.objects.get().text == "The keeper was silent for 60 seconds. Whatever fell due meanwhile waited."


# -- what raises them


@pytest.fixture
def run(cast: Cast) -> Run:
    return Run.objects.create(host=cast.h1, scenario={}, engine_version="1", op=99, due_at=timezone.now())


def test_a_run_that_is_given_up_is_an_alert_until_the_next_begins(olga: Client, cast: Cast, run: Run) -> None:
    runs.run_failed(run.pk, reason="three times")
    row = Alert.objects.get()
    assert (row.code, row.host, row.link) == ("run.failed", "h1", f"/operator/host/h1/?run={run.pk}&op=99")
    assert "was given up" in mails()[0] and row.state == "open"
    alarms.begun(host="h1")
    row.refresh_from_db()
    assert row.state == "resolved"


def test_many_refusals_within_ten_minutes_are_an_alert_and_few_are_none(cast: Cast, run: Run) -> None:
    for number in range(1, 8):
        event = Event.objects.create(run=run, number=number, op=number, kind="denied", vm=cast.a_db, title="refused")
        alarms.raised(run=run, events=[event], mended=False)
        assert Alert.objects.exists() == (number >= alarms.MANY)
    row = Alert.objects.get()
    assert row.count == 3 and "7 requests of operators on host h1" in row.text and row.link.endswith("op=7")


def test_a_breach_is_an_alert_once_for_its_conflict(cast: Cast) -> None:
    from webapp.agreements.conflicts import conflict_record

    for _ in range(2):
        conflict_record(
            host=cast.h1, vms=[cast.a_db], code="C26", severity="hard", switch="smt", text="lost", evidence={}
        )
    assert list(Alert.objects.values_list("code", "host", "count")) == [("agreement.breached", "h1", 1)]


def test_silent_workers_and_work_that_nobody_takes_up_are_alerts_while_it_lasts(cast: Cast, run: Run) -> None:
    now, long = timezone.now(), dt.timedelta(minutes=5)

    def kinds(at: dt.datetime, up: dt.timedelta) -> list[str]:
        watching.look(at, oldest=keeper.waiting_since(at), up=up)
        return sorted(Alert.objects.exclude(state="resolved").values_list("kind", flat=True))

    assert kinds(now, dt.timedelta(seconds=20)) == []  # the workers are only just beginning
    assert kinds(now, long) == ["worker"]
    ops.heartbeat(name="worker:1@here")
    assert kinds(now, long) == []
    Run.objects.filter(pk=run.pk).update(due_at=now - dt.timedelta(seconds=31))
    assert kinds(now, long) == ["queue"]
    Run.objects.filter(pk=run.pk).update(lease_until=now + HOUR)  # somebody has it
    assert kinds(now, long) == []


def test_a_changed_entry_of_the_record_is_an_alert_until_it_is_whole_again(olga: Client, cast: Cast) -> None:
    watching.look(timezone.now(), oldest=None, up=HOUR)
    check = ChainCheck.objects.get()
    assert check.pk in {row["pk"] for kind, row in keeper.due(timezone.now()) if kind.model is ChainCheck}
    entry = Entry.objects.get(seq=1)
    Entry.objects.filter(seq=1).update(actor="somebody")

    def checked() -> str:
        ChainCheck.objects.update(due_at=timezone.now())
        watching.chain_check(check_id=check.pk)
        return str(Alert.objects.get(kind="record").state)

    assert checked() == "open" and "entry 1 was changed" in Alert.objects.get(kind="record").text
    assert any("The record is not whole: entry 1" in body for body in mails())
    Entry.objects.filter(seq=1).update(actor=entry.actor)
    assert checked() == "resolved" and ChainCheck.objects.get().valid
    assert ChainCheck.objects.get().due_at > timezone.now()


# -- people


def test_each_act_stands_in_the_row_with_who_and_when(olga: Client, cast: Cast) -> None:
    row = planted()
    assert act(olga, row, "acknowledge", note="I look into it.").status_code == 302
    until = timezone.now() + 2 * HOUR
    assert act(olga, row, "silence", until=f"{until:%Y-%m-%dT%H:%M}", reason="firmware").status_code == 302
    page = olga.get("/operator/alerts/").content.decode()
    cells = dict(re.findall(r'<td[^>]*data-label="([^"]+)">(.*?)</td>', page, re.DOTALL))
    assert "Acknowledged" in cells["State"] and "silenced" in cells["State"] and "olga" in cells["Owner"]
    assert "olga" in cells["Acknowledged by"] and "I look into it." in cells["Acknowledged by"]
    assert f"{until:%Y-%m-%d %H:%M}" in cells["Silenced until"] and "olga: firmware" in cells["Silenced until"]
    assert (
        'href="/operator/host/h1/?op=7"' in cells["Alert"] and "/operator/alerts/runbooks/#violation" in cells["Alert"]
    )
    assert act(olga, row, "lift").status_code == 302
    assert types_of(row) == ["alert.raised", "alert.acknowledged", "alert.silenced", "alert.silence_lifted"]
    one = olga.get(f"/operator/alerts/{row.pk}/").content.decode()
    assert "The alert was acknowledged." in one and "silenced until" in one and str(cast.olga.username) in one


def test_a_silence_keeps_mail_and_webhook_back_and_never_the_row(olga: Client, cast: Cast) -> None:
    row = planted()
    assert len(mails()) == 1
    alerts.silence(by=cast.olga, alert=row, until=timezone.now() + HOUR, reason="known")
    alerts.resolve(key=row.key)
    Alert.objects.filter(pk=row.pk).update(resolved_at=timezone.now() - HOUR)
    again = planted()  # of the same key, so the silence holds for it
    assert again.pk != row.pk and again.silence_reason == "known" and not again.told and len(mails()) == 1
    assert f"alert-{again.pk}" in olga.get("/operator/alerts/").content.decode()
    assert bell_of(user=cast.olga)["alerts"]["open"] == 0
    alerts.tick(timezone.now())
    assert len(mails()) == 1
    Alert.objects.filter(pk=again.pk).update(silenced_until=timezone.now())
    alerts.tick(timezone.now())  # its end: what still lasts is told
    alerts.tick(timezone.now())
    assert len(mails()) == 2


def test_a_lifted_silence_tells_what_it_kept_back(olga: Client, cast: Cast) -> None:
    first = planted()
    alerts.silence(by=cast.olga, alert=first, until=timezone.now() + HOUR, reason="known")
    Alert.objects.filter(pk=first.pk).update(state="resolved", resolved_at=timezone.now() - HOUR)
    again = planted()
    alerts.lift(by=cast.olga, alert=again)
    assert Notice.objects.filter(event__key__endswith=f"alert:{again.pk}").count() == 1


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("", "a silence without an end is forgotten"),
        ("2020-01-01T00:00", "must lie in the future"),
        ("2999-01-01T00:00", "must lie within 30 days"),
        ("next week", "is not a time"),
        ("99999-99-99T99:99", "is not a time"),
    ],
)
def test_a_silence_without_a_fitting_end_is_refused_whole(olga: Client, until: str, says: str) -> None:
    row = planted()
    answer = act(olga, row, "silence", until=until, reason="because I say so")
    page = answer.content.decode()
    assert answer.status_code == 422 and says in page and "Nothing was changed." in page
    assert 'value="because I say so"' in page  # what was typed is kept
    row.refresh_from_db()
    assert row.silenced_until is None and types_of(row) == ["alert.raised"]


def test_a_silence_needs_a_reason_of_one_line(olga: Client, cast: Cast) -> None:
    for reason in ("", "  ", "x" * 201, "two\nlines"):
        with pytest.raises(BadInput):
            alerts.silence(by=cast.olga, alert=planted(), until=timezone.now() + HOUR, reason=reason)


def test_what_still_holds_cannot_be_resolved_by_hand(olga: Client, cast: Cast) -> None:
    row = planted()
    answer = act(olga, row, "resolve")
    assert answer.status_code == 409 and "what raised it still holds" in answer.content.decode()
    alerts.resolve(key=row.key)
    assert act(olga, row, "acknowledge").status_code == 409


def test_an_alert_is_handed_over_to_operators_only(olga: Client, cast: Cast) -> None:
    from webapp.accounts.models import User
    from webapp.tenants.services import membership_add

    otto = User.objects.create(username="otto")
    membership_add(by=None, user=otto, role="operator")
    row = planted()
    assert act(olga, row, "hand_over", person="alice").status_code == 422
    assert act(olga, row, "hand_over", person="otto").status_code == 302
    act(olga, row, "acknowledge")
    row.refresh_from_db()
    assert (row.owner, row.acknowledged_by) == (otto, cast.olga)


def test_only_operators_see_alerts_and_auditors_change_nothing(olga: Client, cast: Cast) -> None:
    from webapp.accounts.models import User
    from webapp.tenants.services import membership_add

    audit = User.objects.create(username="audrey")
    membership_add(by=None, user=audit, role="auditor")
    row = planted()
    for person, status in ((cast.alice, 403), (cast.ines, 403), (audit, 200)):
        client = Client()
        client.force_login(person)
        assert client.get("/operator/alerts/").status_code == status
        assert act(client, row, "acknowledge").status_code == 403
        assert client.get("/api/alerts").status_code == (200 if status == 200 else 404)
    page = Client()
    page.force_login(audit)
    assert "/act/" not in page.get("/operator/alerts/").content.decode()
    row.refresh_from_db()
    assert row.state == "open"
    client.force_login(cast.alice)
    assert (
        "alert-badge" in page.get("/help/").content.decode() and "alert-" not in client.get("/help/").content.decode()
    )


def test_the_topic_moves_with_every_change_for_those_who_may_watch(cast: Cast) -> None:
    found = topics.find("alerts")
    assert found is not None and found.topic.messages is not None
    assert found.topic.authorise(cast.olga, "") == "operator" and found.topic.authorise(cast.alice, "") is None
    row, seen = planted(), []
    for change in (
        lambda: planted(),
        lambda: alerts.acknowledge(by=cast.olga, alert=row),
        lambda: alerts.silence(by=cast.olga, alert=row, until=timezone.now() + HOUR, reason="x"),
        lambda: alerts.lift(by=cast.olga, alert=row),
        lambda: alerts.resolve(key=row.key),
    ):
        before = seen[-1] if seen else 0
        change()
        [message] = found.topic.messages("", "operator", before)
        assert message["seq"] > before and message["data"] == {}
        assert found.topic.messages("", "operator", message["seq"]) == []
        seen.append(message["seq"])


def test_the_badge_counts_what_is_loud_and_knows_when_nobody_watches(olga: Client, cast: Cast) -> None:
    assert bell_of(user=cast.olga)["alerts"]["watched"] is False
    assert "nobody watches now" in olga.get("/operator/alerts/badge/").content.decode()
    alerts.tick(timezone.now())
    planted(), planted("h2")
    alerts.acknowledge(by=cast.olga, alert=planted("h3"))
    told = bell_of(user=cast.olga)["alerts"]
    assert told["watched"] and told["open"] == 2 and "host h2" in told["newest"]
    badge = olga.get("/operator/alerts/badge/").content.decode()
    assert 'role="status"' in badge and "Alerts: 2 open. Pages on host h2" in " ".join(badge.split())
    assert bell_of(user=cast.alice)["alerts"] == {"open": 0, "seq": 0, "newest": "", "watched": True}


def test_the_strip_names_the_serious_first_and_counts_the_rest(olga: Client, cast: Cast) -> None:
    planted()
    for number in range(8):
        alerts.raise_("act.denied", key=f"denied:w{number}", link="/operator/", host=f"w{number}", count=5)
    strip = selectors.strip_of(user=cast.olga)
    assert strip["alerts"][0].code == "rule.broken" and len(strip["alerts"]) == 5 and strip["more"] == 4
    assert "4 more alerts" in olga.get("/operator/alerts/strip/").content.decode()
    assert selectors.strip_of(user=cast.alice) == {"alerts": [], "more": 0}


def test_the_strip_keeps_a_violation_that_was_over_before_anybody_looked(olga: Client, cast: Cast) -> None:
    row = planted()
    assert alerts.resolve(key=row.key)
    assert [each.pk for each in selectors.strip_of(user=cast.olga)["alerts"]] == [row.pk]
    strip = olga.get("/operator/alerts/strip/").content.decode()
    assert "over by itself at" in strip and 'value="acknowledge"' not in strip
    Alert.objects.update(resolved_at=timezone.now() - selectors.PASSED)
    assert selectors.strip_of(user=cast.olga)["alerts"] == []


def test_the_list_is_filtered_and_grouped(olga: Client, cast: Cast) -> None:
    planted("w1"), planted("w2")
    run = alerts.raise_("run.failed", key="run:w1", link="/operator/", host="w1")
    alerts.resolve_by_hand(by=cast.olga, alert=run, note="restarted")

    def hosts(**query: str) -> list[str]:
        page = olga.get("/operator/alerts/", query).content.decode()
        return re.findall(r"host (w\d) ", " ".join(re.findall(r'<td data-col="why".*?</a>', page, re.DOTALL)))

    assert sorted(hosts()) == ["w1", "w2"] and sorted(hosts(state="all")) == ["w1", "w1", "w2"]
    assert hosts(state="resolved") == ["w1"] and hosts(host="w2") == ["w2"] and hosts(kind="run") == []
    assert hosts(owner="olga") == [] and hosts(state="%00") == hosts()
    page = olga.get("/operator/alerts/", {"group": "host", "state": "all"}).content.decode()
    assert re.findall(r'scope="rowgroup" colspan="6">(w\d) ', page) == ["w1", "w2"]


# -- the whole way


def test_a_test_alert_goes_the_whole_way_and_means_nothing(olga: Client, cast: Cast, settings: Any) -> None:
    settings.WEBHOOK_HOSTS = ["hooks.example"]
    hook, _ = services.endpoint_create(by=cast.olga, tenant="", url="https://hooks.example/a", kinds=["alert"])
    olga.post("/operator/alerts/test/")
    olga.post("/operator/alerts/test/")
    assert list(Alert.objects.order_by("pk").values_list("kind", "state")) == [("test", "resolved"), ("test", "open")]
    assert Notice.objects.filter(user=cast.olga).count() == 2 and len(mails()) == 2
    assert [row.event.code for row in Delivery.objects.filter(endpoint=hook) if row.event] == ["alert.test"] * 2


def test_operators_have_webhooks_of_their_own_and_tenants_never_see_them(
    olga: Client, cast: Cast, settings: Any
) -> None:
    settings.WEBHOOK_HOSTS = ["hooks.example"]
    made = olga.post("/operator/webhooks/", {"url": "https://hooks.example/a", "kinds": ["alert"]})
    hook = Endpoint.objects.get()
    assert made.status_code == 200 and "whsec_" in made.content.decode() and hook.tenant == ""
    with pytest.raises(BadInput):
        services.endpoint_create(by=cast.olga, tenant="", url="https://hooks.example/b", kinds=["deadline"])
    with pytest.raises(BadInput):
        services.endpoint_create(by=cast.alice, tenant="alpha", url="https://hooks.example/b", kinds=["alert"])
    with pytest.raises(VpmsError):
        services.endpoint_create(by=cast.alice, tenant="", url="https://hooks.example/b", kinds=["alert"])
    client = Client()
    client.force_login(cast.alice)
    assert client.get(f"/tenant/webhooks/{hook.pk}/").status_code == 404
    assert client.post("/tenant/webhooks/", {"url": "https://hooks.example/c", "tenant": ""}).status_code == 404
    assert "alert" not in client.get("/account/notifications/").content.decode().lower().replace('role="alert"', "")
    assert olga.post(f"/operator/webhooks/{hook.pk}/act/", {"act": "off"}).status_code == 302
    planted()
    assert not Delivery.objects.exists()


def test_a_receiver_that_is_dead_is_an_alert(olga: Client, cast: Cast, settings: Any) -> None:
    settings.WEBHOOK_HOSTS = ["127.0.0.1:9"]
    hook, _ = services.endpoint_create(by=cast.alice, tenant="alpha", url="https://127.0.0.1:9/a", kinds=["vm"])
    Endpoint.objects.update(failures=sending.MOST_FAILURES - 1)
    delivery = services.endpoint_test(by=cast.alice, endpoint=hook)
    sending.delivery_work(delivery_id=delivery.pk)
    row = Alert.objects.get()
    assert row.kind == "webhook" and "127.0.0.1" in row.text and "alpha" not in row.text
    assert Notice.objects.filter(user=cast.alice, event__code="webhook.off").count() == 1


# -- run-books


def test_every_alert_has_a_runbook_and_the_docs_are_made_of_them(olga: Client) -> None:
    assert set(runbooks.KIND_OF) == {code for code, word in WORDS.items() if word.kind == "alert"}
    assert set(runbooks.KIND_OF.values()) == set(runbooks.RUNBOOKS)
    with translation.override("en"):
        assert (ROOT / "docs" / "operators" / "alerts.md").read_text() == markdown()
    page = olga.get("/operator/alerts/runbooks/").content.decode()
    assert all(f'id="{kind}"' in page for kind in runbooks.RUNBOOKS)


# -- by API


def test_every_act_can_be_done_by_the_api(olga: Client, cast: Cast) -> None:
    row = planted()
    base, kind = f"/api/alerts/{row.pk}", {"content_type": "application/json"}
    assert [each["id"] for each in olga.get("/api/alerts").json()["items"]] == [row.pk]
    assert olga.post(f"{base}/acknowledge", {"note": "mine"}, **kind).json()["acknowledged_by"] == "olga"
    assert olga.put(f"{base}/owner", {"person": "olga"}, **kind).json()["owner"] == "olga"
    until = (timezone.now() + HOUR).isoformat()
    assert olga.put(f"{base}/silence", {"until": until, "reason": "x"}, **kind).json()["silenced_by"] == "olga"
    assert olga.get("/api/alerts", {"state": "silenced"}).json()["items"][0]["id"] == row.pk
    assert olga.delete(f"{base}/silence").json()["silenced_until"] is None
    assert olga.delete(f"{base}/silence").status_code == 409
    for bad in ({"reason": "x"}, {"until": None, "reason": "x"}, {"until": "2020-01-01T00:00:00Z", "reason": "x"}):
        assert olga.put(f"{base}/silence", bad, **kind).status_code == 422
    assert olga.post(f"{base}/resolve", {}, **kind).json()["code"] == "still_holds"
    assert olga.post("/api/alerts/test", **kind).status_code == 201
    assert len(olga.get("/api/alerts/runbooks").json()["items"]) == len(runbooks.RUNBOOKS)
    assert olga.get("/api/alerts", {"state": "no-such"}).status_code == 422
    assert Watch.objects.get().number > 0
