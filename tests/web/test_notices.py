"""What happens is told to those whom it concerns, once, and as each person chose."""

from __future__ import annotations

import datetime as dt
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core import mail as outbox
from django.db import transaction
from django.utils import timezone

from tests.conftest import Cast
from webapp import jobs
from webapp.accounts.models import User
from webapp.agreements import services as agreements
from webapp.agreements.models import Negotiation
from webapp.errors import BadInput
from webapp.live import topics
from webapp.notices import selectors, sending, services, wording
from webapp.notices.models import Event, Mail, Notice, Reader
from webapp.ops import keeper
from webapp.runs import services as runs
from webapp.runs.models import Run
from webapp.tenants.models import VirtualMachine

pytestmark = pytest.mark.django_db
State = Negotiation.State
NOON = dt.datetime(2026, 3, 4, 12, 30, tzinfo=dt.UTC)  # a Wednesday


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    settings.SITE_URL = "https://vpms.example"


@pytest.fixture
def addressed(cast: Cast) -> Cast:
    for person in (cast.alice, cast.bob):
        person.email = f"{person.username}@mail.example"
        person.save(update_fields=["email"])
    return cast


@pytest.fixture
def clash(addressed: Cast) -> Negotiation:
    """a-db runs under an agreement; the start of b-web clashes with it, and proposal 1 waits for both."""
    first = agreements.start_request(by=addressed.alice, vm=addressed.a_db)
    first = agreements.negotiation_advance(negotiation_id=first.pk)
    agreements.agreement_put_in_force(negotiation=first)
    VirtualMachine.objects.filter(pk=addressed.a_db.pk).update(state=VirtualMachine.State.RUNNING)
    row = agreements.start_request(by=addressed.bob, vm=addressed.b_web)
    return agreements.negotiation_advance(negotiation_id=row.pk)


def codes(person: Any) -> list[str]:
    return list(Notice.objects.filter(user=person).order_by("pk").values_list("event__code", flat=True))


def texts(person: Any) -> str:
    return "\n".join(notice.event.text for notice in Notice.objects.filter(user=person))


def say(code: str = "vm.running", key: str = "k", tenant: str = "alpha", **data: Any) -> Event | None:
    with transaction.atomic():
        return services.tell(
            code, tenant=tenant, key=key, subject="a-db", link="/tenant/", **{"vm": "a-db", "host": "h1", **data}
        )


def answer(clash: Negotiation, cast: Cast, who: str, **given: Any) -> Negotiation:
    row = Negotiation.objects.get(pk=clash.pk)
    vm = cast.a_db if who == "alice" else cast.b_web
    given = {"accept": True, "reason": "", **given}
    agreements.answer(by=getattr(cast, who), negotiation=row, vm=vm, round=row.round, version=row.version, **given)
    return agreements.negotiation_advance(negotiation_id=row.pk)


# -- what is told, to whom


def test_a_clash_tells_both_sides_of_the_conflict_and_asks_those_whose_answer_is_missing(
    clash: Negotiation, cast: Cast
) -> None:
    assert clash.state == State.PROPOSED
    for person in (cast.alice, cast.bob):
        asked = [vm for vm in clash.protocol["deadlines"] if vm not in clash.protocol["answers"]]
        mine = "a-db" if person == cast.alice else "b-web"
        assert ("proposal" in codes(person)) == (mine in asked)
        assert codes(person).count("conflict.found") >= 1
    assert not Notice.objects.filter(user__in=[cast.olga, cast.ines]).exists()


def test_a_party_reads_the_others_answer_by_its_pseudonym_only(clash: Negotiation, cast: Cast) -> None:
    answer(clash, cast, "bob")
    assert "answer.accepted" in codes(cast.alice) and "answer.accepted" not in codes(cast.bob)
    assert "a-db" in texts(cast.alice) and "b-web" not in texts(cast.alice) and "bob" not in texts(cast.alice)
    assert "a-db" not in texts(cast.bob) and "alice" not in texts(cast.bob)


def test_the_same_answer_and_the_same_step_once_more_tell_nobody_again(clash: Negotiation, cast: Cast) -> None:
    answer(clash, cast, "bob")
    count = Notice.objects.count()
    answer(clash, cast, "bob")
    agreements.negotiation_advance(negotiation_id=clash.pk)
    assert Notice.objects.count() == count


def test_a_reminder_and_a_deadline_that_passes_are_told_to_the_silent_alone(clash: Negotiation, cast: Cast) -> None:
    answer(clash, cast, "alice")
    made = dt.datetime.strptime(clash.protocol["proposals"][-1]["at"], "%Y-%m-%dT%H:%M:%SZ")
    deadline = dt.datetime.strptime(clash.protocol["deadlines"]["b-web"], "%Y-%m-%dT%H:%M:%SZ")
    assert made < deadline
    row = Negotiation.objects.get(pk=clash.pk)
    state = {**row.protocol, "proposals": [{**row.protocol["proposals"][-1], "at": "2026-01-01T00:00:00Z"}]}
    Negotiation.objects.filter(pk=row.pk).update(protocol=state)
    agreements.negotiation_advance(negotiation_id=row.pk)
    assert codes(cast.bob).count("deadline.soon") == 1 and "deadline.soon" not in codes(cast.alice)
    row.refresh_from_db()
    over = {**row.protocol, "deadlines": dict.fromkeys(row.protocol["deadlines"], "2026-01-01T00:00:01Z")}
    Negotiation.objects.filter(pk=row.pk).update(protocol=over)
    assert agreements.negotiation_advance(negotiation_id=row.pk).state == State.NO_AGREEMENT
    assert codes(cast.bob).count("deadline.passed") == 1 and "deadline.passed" not in codes(cast.alice)
    assert codes(cast.alice).count("ended") == codes(cast.bob).count("ended") == 1


def test_an_agreement_in_force_is_told_as_new_to_one_and_as_a_replacement_to_the_other(
    clash: Negotiation, cast: Cast
) -> None:
    answer(clash, cast, "alice")
    assert answer(clash, cast, "bob").state == State.SIGNED
    agreements.agreement_put_in_force(negotiation=clash)
    assert codes(cast.alice).count("agreement.made") == 1  # the first one, alone
    assert codes(cast.alice).count("agreement.replaced") == 1 and "agreement.replaced" not in codes(cast.bob)
    assert codes(cast.bob).count("agreement.made") == 1


def test_who_withdraws_needs_no_notice_of_it(clash: Negotiation, cast: Cast) -> None:
    agreements.withdraw(by=cast.bob, negotiation=Negotiation.objects.get(pk=clash.pk))
    assert "withdrawn" in codes(cast.alice) and "withdrawn" not in codes(cast.bob)


def test_a_run_that_is_given_up_is_told_to_its_vms_people_and_to_the_operators(cast: Cast) -> None:
    run = Run.objects.create(host=cast.h1, scenario={}, engine_version="x", due_at=timezone.now())
    VirtualMachine.objects.filter(pk=cast.a_db.pk).update(state=VirtualMachine.State.RUNNING)
    runs.run_failed(run.pk, reason="It broke")
    runs.run_failed(run.pk, reason="It broke")
    assert (codes(cast.alice), codes(cast.bob), codes(cast.olga)) == (["run.lost"], [], ["run.failed"])
    assert "a-db" not in texts(cast.olga)


def test_a_notice_stands_or_falls_with_what_it_tells(cast: Cast) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        say()
        raise ZeroDivisionError
    assert not Event.objects.exists() and not Notice.objects.exists()


def test_a_key_told_twice_is_one_notice(cast: Cast) -> None:
    assert say() is not None and say() is None
    assert codes(cast.alice) == ["vm.running"]


# -- choices


def test_what_is_switched_off_is_not_told_and_what_is_listed_is_not_counted(addressed: Cast) -> None:
    off, listed = {"page": "off", "mail": "off"}, {"page": "digest", "mail": "off"}
    services.choices_set(by=addressed.alice, choices={"vm": off, "run": listed}, every="daily", hour=7)
    say("vm.running", "1")
    say("run.lost", "2")
    say("webhook.off", "3", count=1)
    assert codes(addressed.alice) == ["run.lost", "webhook.off"]
    assert selectors.bell_of(user=addressed.alice)["unread"] == 1
    assert [mail.digest for mail in Mail.objects.all()] == [True]


@pytest.mark.parametrize(
    ("choices", "when", "path"),
    [
        ({"vm": {"page": "sometimes", "mail": "off"}}, {}, "$.choices.vm.page"),
        ({"nonsense": {"page": "off", "mail": "off"}}, {}, "$.choices.nonsense"),
        ({}, {"every": "hourly"}, "$.every"),
        ({}, {"hour": 24}, "$.hour"),
        ({}, {"weekday": 7}, "$.weekday"),
    ],
)
def test_a_choice_that_is_none_is_refused_whole(cast: Cast, choices: Any, when: Any, path: str) -> None:
    with pytest.raises(BadInput) as refused:
        services.choices_set(by=cast.alice, choices=choices, **{"every": "daily", "hour": 7, **when})
    assert refused.value.faults[0].path == path
    assert not Reader.objects.exists()


@pytest.mark.parametrize(
    ("every", "hour", "weekday", "due"),
    [
        ("daily", 13, 0, "2026-03-04T13"),
        ("daily", 12, 0, "2026-03-05T12"),
        ("weekly", 7, 2, "2026-03-11T07"),
        ("weekly", 13, 2, "2026-03-04T13"),
        ("weekly", 7, 0, "2026-03-09T07"),
    ],
)
def test_a_digest_comes_at_the_next_hour_that_was_chosen(every: str, hour: int, weekday: int, due: str) -> None:
    found = services.digest_due(Reader(every=every, hour=hour, weekday=weekday), NOON)
    assert f"{found:%Y-%m-%dT%H}" == due and found > NOON


# -- mail


def send_all() -> None:
    Mail.objects.filter(due_at__isnull=False).update(due_at=timezone.now())
    for pk in Mail.objects.filter(due_at__isnull=False).order_by("pk").values_list("pk", flat=True):
        sending.mail_work(mail_id=pk)


def test_a_deadline_is_mailed_at_once_and_its_subject_tells_no_name(addressed: Cast) -> None:
    say("deadline.passed", number=5, round=2)
    mail = Mail.objects.get()
    assert mail.due_at is not None and mail.due_at <= timezone.now() and not outbox.outbox
    sending.mail_work(mail_id=mail.pk)
    sending.mail_work(mail_id=mail.pk)  # the message came twice
    [sent] = outbox.outbox
    assert (sent.to, sent.subject) == (["alice@mail.example"], "H-SVM: Deadlines")
    assert "proposal 2 for a-db" in sent.body and "https://vpms.example/tenant/" in sent.body


@pytest.mark.parametrize(("count", "subject"), [(1, "H-SVM: 1 notice"), (2, "H-SVM: 2 notices")])
def test_a_digest_is_one_mail_with_what_is_still_unread_grouped_by_kind(
    addressed: Cast, count: int, subject: str
) -> None:
    say("run.lost", "read already")
    services.notices_read(by=addressed.alice)
    for number in range(count):
        say("vm.running", str(number))
    assert Mail.objects.count() == 1
    send_all()
    [sent] = outbox.outbox
    assert sent.subject == subject and sent.body.startswith(f"Starts and stops ({count})\n")
    assert "given up" not in sent.body
    say("vm.running", "later")
    assert Mail.objects.filter(state="waiting").count() == 1  # what comes after goes into the next


def test_a_digest_of_which_all_was_read_is_not_sent(addressed: Cast) -> None:
    say()
    services.notices_read(by=addressed.alice)
    send_all()
    assert not outbox.outbox and Mail.objects.get().state == "dropped"


class Server(socketserver.ThreadingTCPServer):
    """A real mail server on loopback that answers the end of a message, or its receiver, as it is told."""

    daemon_threads = True
    rcpt = "250 ok"
    data = "250 taken"  # empty: it hangs up without a word

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.taken: list[str] = []


class Session(socketserver.StreamRequestHandler):
    server: Server

    def say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self) -> None:
        self.say("220 here")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"RCPT":
                self.say(self.server.rcpt)
            elif verb == b"DATA":
                self.say("354 go on")
                text = "".join(iter(lambda: self.rfile.readline().decode(), ".\r\n"))
                if not self.server.data:
                    return
                if self.server.data.startswith("250"):
                    self.server.taken.append(text)
                self.say(self.server.data)
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 ok")


@pytest.fixture
def server(settings: Any) -> Iterator[Server]:
    with Server() as found:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = found.server_address
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_server_that_is_away_or_puts_off_gets_the_mail_later_and_once(
    addressed: Cast, server: Server, settings: Any
) -> None:
    say("deadline.passed", number=5, round=2)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1  # nobody is there
    send_all()
    settings.EMAIL_PORT, server.data = port, "451 later"
    send_all()
    mail = Mail.objects.get()
    assert (mail.state, mail.tries, mail.handed_at) == ("sending", 2, None)
    assert mail.due_at is not None and mail.due_at > timezone.now() + dt.timedelta(seconds=30)
    server.data = "250 taken"
    send_all()
    send_all()
    assert Mail.objects.get().state == "sent" and len(server.taken) == 1
    assert "Subject: H-SVM: Deadlines" in server.taken[0] and "To: alice@mail.example" in server.taken[0]


def test_a_refusal_for_good_and_a_server_that_stays_away_end_the_tries(
    addressed: Cast, server: Server, settings: Any
) -> None:
    say("deadline.passed", number=5, round=2)
    server.rcpt = "550 unknown"
    send_all()
    assert Mail.objects.get().state == "failed"
    say("deadline.passed", "2", number=5, round=2)
    settings.EMAIL_PORT = 1
    for _ in range(len(sending.PAUSES) + 1):
        send_all()
    assert [mail.state for mail in Mail.objects.all()] == ["failed", "failed"] and not server.taken


def test_where_nobody_knows_whether_the_server_took_it_the_mail_is_not_sent_again(
    addressed: Cast, server: Server
) -> None:
    say("deadline.passed", number=5, round=2)
    server.data = ""
    send_all()
    server.data = "250 taken"
    say("deadline.passed", "2", number=5, round=2)
    Mail.objects.filter(state="waiting").update(handed_at=timezone.now())  # its worker died at that moment
    send_all()
    assert [mail.state for mail in Mail.objects.all()] == ["unsure", "unsure"] and not server.taken


def test_a_mail_that_workers_die_of_is_given_up_by_the_keeper(addressed: Cast) -> None:
    say("deadline.passed", number=5, round=2)
    Mail.objects.update(attempts=jobs.MAX_ATTEMPTS)
    keeper.reap(timezone.now())
    mail = Mail.objects.get()
    assert (mail.state, mail.due_at) == ("failed", None) and Notice.objects.filter(user=addressed.alice).exists()


def test_the_keeper_lets_one_mail_at_a_time_hold_a_worker(addressed: Cast) -> None:
    for number in range(3):
        say("deadline.passed", str(number), number=5, round=2)
    due = [row for kind, row in keeper.due(timezone.now()) if kind.model is Mail]
    assert len(due) == 1
    Mail.objects.filter(pk=due[0]["pk"]).update(enqueued_at=timezone.now())
    assert not [row for kind, row in keeper.due(timezone.now()) if kind.model is Mail]


# -- pages and the API


def test_the_list_is_filtered_marked_and_counted_without_script(addressed: Cast, client: Any) -> None:
    say("deadline.passed", number=5, round=2)
    say("vm.running", "2")
    client.force_login(addressed.alice)
    page = client.get("/notices/").content.decode()
    assert "Notices: 2 unread" in page and "a-db runs on host h1." in page and "Mark all as read" in page
    assert "a-db runs" not in client.get("/notices/?kind=deadline").content.decode()
    newest = Notice.objects.filter(user=addressed.alice).first()
    assert newest is not None
    back = {"back": "/notices/?unread=1"}
    answer = client.post("/notices/read/", {"notice": newest.pk, **back})
    assert answer.headers["Location"] == back["back"]
    assert "a-db runs" not in client.get("/notices/?unread=1").content.decode()
    say("vm.running", "came since the page was made")
    client.post("/notices/read/", {"upto": newest.pk, "back": "https://evil.example/"})
    assert Notice.objects.filter(user=addressed.alice, read_at__isnull=True).count() == 1
    assert "Notices: 1 unread" in client.get("/notices/bell/").content.decode()


def test_nobody_marks_or_reads_anothers_notices(addressed: Cast, client: Any) -> None:
    say()
    notice = Notice.objects.get()
    client.force_login(addressed.bob)
    client.post("/notices/read/", {"notice": notice.pk})
    told = client.post("/api/notices/read", {"ids": [notice.pk]}, content_type="application/json")
    assert told.json() == {"read": 0} and client.get("/api/notices").json()["items"] == []
    assert Notice.objects.get().read_at is None


def test_who_left_an_organisation_reads_its_notices_no_more(addressed: Cast, client: Any) -> None:
    say("deadline.passed", number=5, round=2)
    addressed.alice.memberships.all().delete()
    client.force_login(User.objects.get(username="alice"))
    assert client.get("/api/notices").json()["items"] == []
    assert "Notices: none unread" in client.get("/notices/").content.decode()
    send_all()
    assert not outbox.outbox


def test_choices_are_kept_by_page_and_by_api(addressed: Cast, client: Any) -> None:
    client.force_login(addressed.alice)
    form = {f"{kind}.{channel}": "off" for kind in wording.KINDS for channel in ("page", "mail")}
    answer = client.post("/account/notifications/", {**form, "every": "weekly", "hour": "9", "weekday": "4"})
    assert answer.status_code == 302
    told = client.get("/api/notices/choices").json()
    assert told["choices"]["vm"] == {"page": "off", "mail": "off"}
    assert (told["every"], told["hour"], told["weekday"]) == ("weekly", 9, 4)
    bad = client.post("/account/notifications/", {**form, "vm.mail": "never", "every": "weekly", "hour": "9"})
    assert bad.status_code == 422 and "Not kept" in bad.content.decode()
    change = {"choices": {"vm": {"page": "now", "mail": "digest"}}, "hour": 5}
    answer = client.put("/api/notices/choices", change, content_type="application/json")
    assert answer.json()["choices"]["vm"] == {"page": "now", "mail": "digest"} and answer.json()["hour"] == 5


def test_the_list_costs_the_same_number_of_queries_however_long_it_is(
    addressed: Cast, client: Any, django_assert_num_queries: Any
) -> None:
    client.force_login(addressed.alice)
    for number in range(12):
        say(key=str(number))
    with django_assert_num_queries(6):  # session, user, roles, notices, owned, bell
        client.get("/notices/")


def test_a_person_watches_its_own_notices_and_nobody_elses(cast: Cast) -> None:
    found = topics.find(f"notices/{cast.alice.pk}")
    assert found is not None and found.topic.messages is not None
    assert found.topic.authorise(cast.alice, found.ident) and not found.topic.authorise(cast.bob, found.ident)
    say()
    [message] = found.topic.messages(found.ident, found.ident, 0)
    assert message["seq"] == selectors.bell_of(user=cast.alice)["seq"] == 1 and message["data"] == {}
    assert found.topic.messages(found.ident, found.ident, 1) == []


def test_every_sentence_can_be_said() -> None:
    data = {"vm": "v", "host": "h", "count": 2, "pages": 1, "number": 3, "round": 1, "until": "noon", "party": "P1"}
    data |= {"target": "h1", "attack": "A03", "now": "SUCCEEDED", "before": "BLOCKED", "cell": "BLOCKED", "entry": 7}
    data |= {"digest": "ab", "other": "cd", "seconds": 12, "receiver": "hooks.example"}
    data |= {"course": "c", "item": "i", "points": "7"}
    for code, word in wording.WORDS.items():
        text = wording.text_of(code, {**data, "version": 4, "setting": "Page size", "start": "8", "end": "9"})
        assert word.kind in wording.KINDS and word.severity in wording.TONES
        assert "%" not in text and "!" not in text and text[-1] in ".?", code
