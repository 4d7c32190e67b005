"""Agree: a start that clashes is held, all are asked, and nothing changes for anybody without consent."""

from __future__ import annotations

import datetime as dt
import json
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.conftest import CAREFUL, Cast, wishes
from webapp.agreements import selectors, services, steps
from webapp.agreements.checks import policy_time
from webapp.agreements.models import Agreement, Conflict, Negotiation
from webapp.audit.models import Entry
from webapp.audit.services import verify
from webapp.errors import VpmsError
from webapp.tenants.models import VirtualMachine
from webapp.tenants.services import policy_save
from webapp.vpms import agreement as language

pytestmark = pytest.mark.django_db
State = Negotiation.State
Vm = VirtualMachine.State


def advance(negotiation: Negotiation) -> Negotiation:
    return services.negotiation_advance(negotiation_id=negotiation.pk)


def put_in_force(negotiation: Negotiation) -> Agreement:
    """What the run side does when all have signed: agreement in force and VM started, in one transaction."""
    with transaction.atomic():
        agreement = services.agreement_put_in_force(negotiation=negotiation)
        VirtualMachine.objects.filter(pk=negotiation.requester_id).update(state=Vm.RUNNING)
    return agreement


def start_alone(cast: Cast) -> Agreement:
    """a-db runs on h1 under an agreement that it made with the operator alone."""
    negotiation = advance(services.start_request(by=cast.alice, vm=cast.a_db))
    assert negotiation.state == State.SIGNED
    return put_in_force(negotiation)


@pytest.fixture
def clash(cast: Cast) -> Negotiation:
    """b-web wants to start beside a-db, which runs; a settlement is proposed."""
    start_alone(cast)
    return advance(services.start_request(by=cast.bob, vm=cast.b_web))


def answer(
    cast: Cast, negotiation: Negotiation, who: str, accept: bool, reason: str = "final", **more: Any
) -> Negotiation:
    vm = {"alice": cast.a_db, "bob": cast.b_web}[who]
    given = {"round": negotiation.round, "version": negotiation.version, **more}
    return services.answer(
        by=getattr(cast, who),
        negotiation=negotiation,
        vm=vm,
        accept=accept,
        reason=reason if not accept else "",
        **given,
    )


def let_the_deadline_pass(negotiation: Negotiation) -> None:
    """The parties' deadlines are moved into the past, as if the time had gone by."""
    row = Negotiation.objects.get(pk=negotiation.pk)
    past = policy_time(timezone.now() - dt.timedelta(seconds=1))
    row.protocol["deadlines"] = dict.fromkeys(row.protocol["deadlines"], past)
    row.save(update_fields=["protocol"])


def states(cast: Cast) -> tuple[str, str]:
    return tuple(VirtualMachine.objects.order_by("name").values_list("state", flat=True))


def test_a_vm_alone_starts_by_the_press_of_the_button(cast: Cast) -> None:
    agreement = start_alone(cast)
    assert (agreement.version, agreement.in_force) == (1, True)
    values = selectors.values_in_force(host=cast.h1)
    assert values["a-db"]["page_sharing"] == "off" and values["a-db"]["memory_protection"] == "hsvm"
    assert len(values["a-db"]) == 24


def test_a_clash_is_recognised_at_start_and_only_the_newcomer_is_held(cast: Cast, clash: Negotiation) -> None:
    assert (clash.state, clash.round) == (State.PROPOSED, 1)
    assert states(cast) == (Vm.RUNNING, Vm.HELD)
    codes = set(Conflict.objects.filter(negotiation=clash).values_list("code", flat=True))
    assert {"C06", "C08"} <= codes
    assert clash.deadline_at is not None and clash.deadline_at > timezone.now()


def test_both_accept_and_the_agreement_is_signed_by_all_and_versioned(cast: Cast, clash: Negotiation) -> None:
    first = Agreement.objects.get()
    answer(cast, clash, "alice", True)
    assert advance(clash).state == State.PROPOSED
    answer(cast, clash, "bob", True)
    signed = advance(clash)
    assert signed.state == State.SIGNED
    agreement = put_in_force(signed)
    assert agreement.version == 2 and agreement.agreement == first.agreement
    assert list(Agreement.objects.filter(in_force=True)) == [agreement]
    clash.refresh_from_db()
    first.negotiation.refresh_from_db()
    assert (clash.state, first.negotiation.state) == (State.ENFORCED, State.SUPERSEDED)
    predicate = selectors.predicate_of(agreement)
    assert predicate["previous"] == first.digest
    assert [party["id"] for party in predicate["parties"]] == ["a-db", "b-web", "operator"]
    assert language.verify(agreement.envelope, now=policy_time(timezone.now()))["valid"]
    assert Entry.objects.filter(type="agreement.in_force", line__contains=agreement.digest).count() == 1
    assert verify()["valid"]


def test_an_acceptance_alone_signs_nothing(cast: Cast, clash: Negotiation) -> None:
    answer(cast, clash, "bob", True)
    assert advance(clash).state == State.PROPOSED
    assert states(cast) == (Vm.RUNNING, Vm.HELD)


def test_a_final_rejection_leaves_the_newcomer_stopped_and_everybody_else_as_before(
    cast: Cast, clash: Negotiation
) -> None:
    before = selectors.values_in_force(host=cast.h1)
    answer(cast, clash, "alice", False)
    ended = advance(clash)
    assert ended.state == State.NO_AGREEMENT and ended.reason and ended.ended_at
    assert states(cast) == (Vm.RUNNING, Vm.STOPPED)
    assert selectors.values_in_force(host=cast.h1) == before
    assert Agreement.objects.filter(in_force=True).get().version == 1


def test_a_rejection_with_a_setting_leads_to_another_proposal_without_it(cast: Cast, clash: Negotiation) -> None:
    proposed = selectors.room_of(user=cast.bob, negotiation=clash).proposal["mitigations"]
    answer(cast, clash, "bob", False, reason="veto:mitigations")
    again = advance(clash)
    if again.state == State.PROPOSED:
        assert again.round == 2
        assert selectors.room_of(user=cast.bob, negotiation=again).proposal["mitigations"] != proposed
    else:
        assert again.state == State.NO_AGREEMENT


def test_silence_until_the_deadline_is_a_no_and_touches_nobody_who_runs(cast: Cast, clash: Negotiation) -> None:
    answer(cast, clash, "bob", True)
    advance(clash)
    let_the_deadline_pass(clash)
    ended = advance(clash)
    assert ended.state == State.NO_AGREEMENT and "no answer" in ended.reason
    assert states(cast) == (Vm.RUNNING, Vm.STOPPED)
    assert Agreement.objects.filter(in_force=True).get().version == 1


def test_an_answer_to_an_older_round_is_outdated_and_says_what_changed(cast: Cast, clash: Negotiation, client) -> None:
    client.force_login(cast.alice)
    for given in ({"round": clash.round + 1}, {"version": clash.version + 7}, {"round": 0}):
        with pytest.raises(VpmsError) as refused:
            answer(cast, clash, "alice", True, **given)
        assert (refused.value.http_status, refused.value.code) == (409, "outdated")
    data = {"vm": "a-db", "round": 9, "version": clash.version, "accept": True, "reason": ""}
    api = client.post(f"/api/negotiations/{clash.pk}/answer", data, content_type="application/json")
    assert api.status_code == 409 and api.json()["difference"]
    page = client.post(
        f"/tenant/negotiation/{clash.pk}/answer/", {"vm": "a-db", "round": "9", "version": "1", "answer": "accept"}
    )
    assert page.status_code == 409 and "Changed since you opened it" in page.content.decode()
    assert not clash.messages.exists()


def test_accepting_twice_is_harmless(cast: Cast, clash: Negotiation) -> None:
    answer(cast, clash, "alice", True)
    answer(cast, clash, "alice", True)
    assert clash.messages.count() == 1


def test_an_answer_once_given_cannot_be_turned_round(cast: Cast, clash: Negotiation) -> None:
    answer(cast, clash, "alice", True)
    with pytest.raises(VpmsError) as refused:
        answer(cast, clash, "alice", False)
    assert refused.value.http_status == 409


def test_nobody_answers_for_somebody_elses_vm(cast: Cast, clash: Negotiation) -> None:
    for person in (cast.bob, cast.olga, cast.ines):
        with pytest.raises(VpmsError) as refused:
            services.answer(
                by=person,
                negotiation=clash,
                vm=cast.a_db,
                round=clash.round,
                version=clash.version,
                accept=True,
                reason="",
            )
        assert refused.value.http_status == 404


def test_an_unknown_reason_is_refused(cast: Cast, clash: Negotiation) -> None:
    for reason in ("", "because", "veto:warp", "veto:core_dump:x", "floor:minus"):
        with pytest.raises(VpmsError) as refused:
            answer(cast, clash, "alice", False, reason=reason)
        assert refused.value.http_status == 422


def test_wishes_that_cannot_be_met_together_end_at_once_with_the_reason(cast: Cast) -> None:
    start_alone(cast)
    answers = {"q7": {"answer": "speed", "strength": "must"}}
    document = wishes(answers, vm="b-web", tenant="beta", version=2)
    document["switches"]["mitigations"]["values"] = {"full": "veto", "default": "veto", "off": 1000}
    policy_save(by=cast.bob, vm=cast.b_web, document=document)
    strict = wishes(
        {**CAREFUL, "q7": {"answer": "protection", "strength": "must"}}, vm="a-db", tenant="alpha", version=2
    )
    policy_save(by=cast.alice, vm=cast.a_db, document=strict)
    ended = services.start_request(by=cast.bob, vm=cast.b_web)
    assert ended.state == State.NO_AGREEMENT
    assert "2 parties rule out different values of “Protection against processor leaks”" in ended.reason
    assert "a-db" not in ended.reason and "alpha" not in ended.reason
    assert states(cast) == (Vm.RUNNING, Vm.STOPPED)


def test_a_start_waits_its_turn_while_another_is_being_settled(cast: Cast, clash: Negotiation) -> None:
    from webapp.fleet.services import placement_set
    from webapp.tenants.services import vm_create

    third = vm_create(by=cast.alice, tenant=cast.alpha, name="a-2", trace="gzip")
    policy_save(by=cast.alice, vm=third, document=wishes(CAREFUL, vm="a-2", tenant="alpha"))
    placement_set(by=cast.alice, vm=third, host=cast.h1)
    waiting = services.start_request(by=cast.alice, vm=VirtualMachine.objects.get(pk=third.pk))
    assert advance(waiting).state == State.DRAFT
    answer(cast, clash, "alice", False)
    advance(clash)
    assert advance(waiting).state in {State.PROPOSED, State.SIGNED, State.ACCEPTED_ALL}


def test_starting_twice_or_without_wishes_is_refused(cast: Cast, clash: Negotiation) -> None:
    for vm in (cast.a_db, cast.b_web):
        with pytest.raises(VpmsError) as refused:
            services.start_request(by=cast.alice if vm is cast.a_db else cast.bob, vm=vm)
        assert refused.value.http_status == 409


def test_the_requester_may_withdraw_and_nobody_else(cast: Cast, clash: Negotiation) -> None:
    with pytest.raises(VpmsError):
        services.withdraw(by=cast.alice, negotiation=clash)
    assert services.withdraw(by=cast.bob, negotiation=clash).state == State.WITHDRAWN
    assert states(cast) == (Vm.RUNNING, Vm.STOPPED)


def test_giving_up_leaves_the_newcomer_stopped(cast: Cast, clash: Negotiation) -> None:
    ended = services.negotiation_give_up(negotiation_id=clash.pk, reason="The worker failed three times.")
    assert ended.state == State.NO_AGREEMENT and states(cast) == (Vm.RUNNING, Vm.STOPPED)


def test_a_bystander_whose_view_stays_is_not_asked(cast: Cast) -> None:
    """b-web that wants nothing that a-db does not have already starts without anybody being asked."""
    content = {**CAREFUL, "q3": {"answer": "class", "strength": "prefer"}}
    policy_save(by=cast.alice, vm=cast.a_db, document=wishes(content, vm="a-db", tenant="alpha", version=2))
    policy_save(by=cast.bob, vm=cast.b_web, document=wishes(content, vm="b-web", tenant="beta", version=2))
    start_alone(cast)
    before = selectors.values_in_force(host=cast.h1)["a-db"]
    negotiation = advance(services.start_request(by=cast.bob, vm=cast.b_web))
    assert negotiation.state == State.SIGNED
    put_in_force(negotiation)
    assert selectors.values_in_force(host=cast.h1)["a-db"] == before


@pytest.mark.django_db(transaction=True)
def test_two_people_accepting_at_the_same_moment_make_exactly_one_agreement(live_cast: Cast) -> None:
    cast = live_cast
    start_alone(cast)
    clash = advance(services.start_request(by=cast.bob, vm=cast.b_web))
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def press(who: str) -> None:
        try:
            barrier.wait(5)
            answer(cast, clash, who, True)
            result = services.negotiation_advance(negotiation_id=clash.pk)
            if result.state == State.SIGNED:
                with transaction.atomic():
                    row = Negotiation.objects.select_for_update().get(pk=clash.pk)
                    if row.state == State.SIGNED:
                        services.agreement_put_in_force(negotiation=row)
        except BaseException as error:  # shown below, in the test's own thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=(who,)) for who in ("alice", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    clash.refresh_from_db()
    assert clash.state == State.ENFORCED
    assert Agreement.objects.filter(negotiation=clash).count() == 1
    assert Agreement.objects.filter(in_force=True).count() == 1
    assert verify()["valid"]


@pytest.mark.django_db(transaction=True)
def test_fifty_accepts_at_the_same_moment_make_exactly_one_agreement(live_cast: Cast) -> None:
    """Each of both people has 25 windows open and presses Accept in all of them; every press also does the work."""
    cast = live_cast
    start_alone(cast)
    clash = advance(services.start_request(by=cast.bob, vm=cast.b_web))
    barrier = threading.Barrier(50)
    failures: list[BaseException] = []
    refused: list[str] = []

    def press(who: str) -> None:
        try:
            barrier.wait(30)
            try:
                answer(cast, clash, who, True)
            except VpmsError as late:  # the negotiation had moved on already
                refused.append(late.code)
            result = services.negotiation_advance(negotiation_id=clash.pk)
            if result.state == State.SIGNED:
                with transaction.atomic():
                    row = Negotiation.objects.select_for_update().get(pk=clash.pk)
                    if row.state == State.SIGNED:
                        services.agreement_put_in_force(negotiation=row)
        except BaseException as error:  # shown below, in the test's own thread
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=press, args=("alice" if n % 2 else "bob",)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures and not any(thread.is_alive() for thread in threads)
    assert set(refused) <= {"outdated", "already_answered"}
    clash.refresh_from_db()
    assert clash.state == State.ENFORCED and clash.messages.count() == 2
    assert Agreement.objects.filter(negotiation=clash).count() == 1
    assert Agreement.objects.filter(in_force=True).get().negotiation == clash
    signed = Entry.objects.filter(type="agreement.signed", subject=f"negotiation:{clash.pk}")
    assert signed.count() == 1 and Entry.objects.filter(type="negotiation.answer").count() == 2
    assert verify()["valid"]


# -- the room


def room(client, clash: Negotiation, who: Any) -> str:
    client.force_login(who)
    answer = client.get(f"/tenant/negotiation/{clash.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_room_shows_what_is_contested_by_pseudonym_and_nothing_else(cast: Cast, clash: Negotiation, client) -> None:
    for who, others in (
        (cast.alice, ("b-web", "beta", "Beta Shop", "bob")),
        (cast.bob, ("a-db", "alpha", "Alpha Clinic", "alice")),
    ):
        page = room(client, clash, who)
        assert "Proposed" in page and "You give up" in page and "They give up" in page
        assert "Page sharing" in page and "T-" in page
        assert "Looking inside while it runs" not in page  # not contested
        for secret in (*others, "weight", "floor"):
            assert secret not in page, secret


def test_the_room_says_what_happens_at_the_deadline_and_how_honest_the_procedure_is(
    cast: Cast, clash: Negotiation, client
) -> None:
    page = room(client, clash, cast.alice)
    assert "counts as a no" in page and "82 percent" in page and "Why this proposal?" in page


def test_both_accept_by_the_buttons_of_the_page(cast: Cast, clash: Negotiation, client) -> None:
    for who, vm in ((cast.alice, "a-db"), (cast.bob, "b-web")):
        client.force_login(who)
        data = {"vm": vm, "round": clash.round, "version": clash.version, "answer": "accept"}
        assert client.post(f"/tenant/negotiation/{clash.pk}/answer/", data).status_code == 302
        assert "You accepted" in client.get(f"/tenant/negotiation/{clash.pk}/").content.decode()
    assert advance(clash).state == State.SIGNED


def test_a_rejection_without_reason_is_asked_for_one(cast: Cast, clash: Negotiation, client) -> None:
    client.force_login(cast.alice)
    data = {"vm": "a-db", "round": clash.round, "version": clash.version, "answer": "reject", "reason": ""}
    page = client.post(f"/tenant/negotiation/{clash.pk}/answer/", data)
    assert page.status_code == 422 and "reason" in page.content.decode()


def test_the_operator_sees_the_proposal_and_cannot_answer(cast: Cast, clash: Negotiation, client) -> None:
    client.force_login(cast.olga)
    page = client.get(f"/operator/negotiation/{clash.pk}/").content.decode()
    assert "Page sharing" in page and "Accept this proposal" not in page
    assert "Wished" not in page and "You want" not in page
    told = client.get(f"/api/negotiations/{clash.pk}").json()
    assert told["rows"] and told["parties"] and not any(row["others"] for row in told["rows"])
    assert client.post(f"/tenant/negotiation/{clash.pk}/answer/", {"vm": "a-db"}).status_code == 403


def test_every_disclosure_is_an_entry_of_the_log(cast: Cast, clash: Negotiation) -> None:
    shown = Entry.objects.filter(type="disclosure", subject=f"negotiation:{clash.pk}")
    assert shown.count() == 3  # to T-1, to T-2, to the operator
    assert all("a-db" not in entry.line and "alpha" not in entry.line for entry in shown)


def test_the_start_check_tells_nobody_what_the_others_have_against_themselves(cast: Cast, clash: Negotiation) -> None:
    checked = Entry.objects.get(type="check", subject=f"negotiation:{clash.pk}")
    assert set(json.loads(checked.line)["data"]) == {"words", "trigger", "host_sha256"}


def test_what_a_vm_contests_with_the_operator_alone_is_told_to_its_owner_only(cast: Cast, clash: Negotiation) -> None:
    state = {**clash.protocol, "result": {**clash.protocol["result"], "contested": ["host/page_sharing", "b-web/swap"]}}
    before = Entry.objects.last()
    steps.disclose(clash, state, ["alpha", "beta"])
    told = {e.line: set(e.audience.values_list("tenant", flat=True)) for e in Entry.objects.filter(seq__gt=before.seq)}
    assert {frozenset(readers) for line, readers in told.items() if "swap" in line} == {frozenset({"beta"})}
    assert all(readers == {"alpha", "beta"} for line, readers in told.items() if "page_sharing" in line)


def test_the_list_of_negotiations_and_the_disclosure_by_api(cast: Cast, clash: Negotiation, client) -> None:
    client.force_login(cast.bob)
    assert [row["id"] for row in client.get("/api/negotiations").json()["items"]] == [clash.pk]
    told = client.get(f"/api/negotiations/{clash.pk}").json()
    assert told["state"] == "PROPOSED" and told["vm"] == "b-web" and told["rows"]
    assert "a-db" not in str(told) and "alpha" not in str(told)
    assert all(isinstance(party["percent"], int) for party in told["parties"])


def test_the_topic_of_the_room_tells_only_that_something_changed(cast: Cast, clash: Negotiation) -> None:
    from webapp.live.topics import find

    found = find(f"negotiation/{clash.pk}")
    assert found is not None and found.topic.messages is not None
    view = found.topic.authorise(cast.alice, found.ident)
    assert view is not None
    assert found.topic.authorise(cast.ines, found.ident) is None
    (message,) = found.topic.messages(found.ident, view, None)
    assert set(message["data"]) == {"state", "round", "version", "deadline"} and message["seq"] == clash.version
    assert found.topic.messages(found.ident, view, clash.version) == []


def test_the_room_and_the_lists_cost_the_same_number_of_queries_with_more_rows(
    cast: Cast, clash: Negotiation, client, django_assert_max_num_queries
) -> None:
    client.force_login(cast.alice)
    with django_assert_max_num_queries(14):
        client.get(f"/tenant/negotiation/{clash.pk}/")
    for _ in range(5):
        services.conflict_record(
            host=cast.h1, vms=[cast.a_db], code="C19", severity="hard", switch="balloon", text="x", evidence={}
        )
    with django_assert_max_num_queries(8):
        client.get("/tenant/conflicts/")
    with django_assert_max_num_queries(6):
        client.get("/api/conflicts")


def test_a_vm_that_was_stopped_starts_again_under_the_next_version(cast: Cast) -> None:
    first = start_alone(cast)
    VirtualMachine.objects.update(state=Vm.STOPPED)
    again = advance(services.start_request(by=cast.alice, vm=cast.a_db))
    assert again.state == State.SIGNED
    second = put_in_force(again)
    assert (second.version, selectors.predicate_of(second)["previous"]) == (2, first.digest)


def test_an_agreement_that_no_longer_follows_the_one_in_force_is_not_put_in_force(cast: Cast) -> None:
    negotiation = advance(services.start_request(by=cast.alice, vm=cast.a_db))
    negotiation.protocol["agreement"]["previous"] = "0" * 64
    negotiation.save()
    with pytest.raises(VpmsError) as refused:
        put_in_force(negotiation)
    assert refused.value.http_status == 409 and not Agreement.objects.filter(in_force=True).exists()


def test_an_answer_that_comes_while_a_step_is_computed_is_not_lost(cast: Cast, clash: Negotiation) -> None:
    """The step was computed before the answer came: it is not stored, and the next one takes the answer up."""
    from webapp.agreements import steps

    stale = services.fresh(clash)
    answer(cast, clash, "alice", True)
    assert steps.keep(stale, dict(stale.protocol)) is False
    assert "a-db" in advance(clash).protocol["answers"]


def test_signing_seeds_are_sealed_and_bound_to_their_party(cast: Cast) -> None:
    from cryptography.exceptions import InvalidTag

    from webapp.agreements.keys import key_of, seed_of

    ours, theirs = key_of(cast.alpha), key_of(cast.beta)
    assert seed_of(ours) not in bytes(ours.sealed_seed) and seed_of(ours) != seed_of(theirs)
    theirs.sealed_seed = ours.sealed_seed
    with pytest.raises(InvalidTag):
        seed_of(theirs)


def test_nobody_starts_somebody_elses_vm(cast: Cast) -> None:
    for person in (cast.bob, cast.olga, cast.ines):
        with pytest.raises(VpmsError) as refused:
            services.start_request(by=person, vm=cast.a_db)
        assert refused.value.http_status == 404
    assert states(cast) == (Vm.STOPPED, Vm.STOPPED)


def test_a_setting_of_ones_own_that_is_contested_shows_no_neighbours_wish(cast: Cast, client) -> None:
    """b-web wants guarded memory and open snapshots, which exclude each other; a-db has nothing to do with that."""
    guarded = {"q1": {"answer": "nobody", "strength": "must"}}
    mine = {
        **guarded,
        "q6": {"answer": "always", "strength": "prefer"},
        "q7": {"answer": "speed", "strength": "prefer"},
    }
    theirs = {**CAREFUL, "q6": {"answer": "never", "strength": "must"}}
    policy_save(by=cast.bob, vm=cast.b_web, document=wishes(mine, vm="b-web", tenant="beta", version=2))
    policy_save(by=cast.alice, vm=cast.a_db, document=wishes(theirs, vm="a-db", tenant="alpha", version=2))
    start_alone(cast)
    clash = advance(services.start_request(by=cast.bob, vm=cast.b_web))
    rows = {row["issue"]: row for row in selectors.room_of(user=cast.bob, negotiation=clash).rows}
    assert rows["snapshot"]["others"] == rows["snapshot"]["they_give"] == []
    assert rows["mitigations"]["others"]
    assert "snapshot" not in selectors.room_of(user=cast.alice, negotiation=clash).proposal


def test_conflicts_of_a_start_are_closed_when_it_is_settled(cast: Cast, clash: Negotiation) -> None:
    assert selectors.conflicts_of(user=cast.alice, vm=cast.a_db, open_only=True).exists()
    for who in ("alice", "bob"):
        answer(cast, clash, who, True)
    put_in_force(advance(clash))
    assert not selectors.conflicts_of(user=cast.alice, vm=cast.a_db, open_only=True).exists()


def test_what_was_refused_while_running_is_told_to_its_owner_and_the_operator_only(cast: Cast, client) -> None:
    services.conflict_record(
        host=cast.h1,
        vms=[cast.a_db],
        code="C19",
        severity="hard",
        switch="balloon",
        text="The operator asked for 64 pages; they stay.",
        evidence={"op": 48112},
    )
    for who, path, sees in (
        (cast.alice, "/tenant/conflicts/", True),
        (cast.bob, "/tenant/conflicts/", False),
        (cast.olga, "/operator/conflicts/", True),
    ):
        client.force_login(who)
        page = client.get(path).content.decode()
        assert ("64 pages" in page and "48112" in page and "refused" in page) is sees


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"vm": "a-db", "vm": "b-web", "round": 1, "version": 1, "accept": true}', "$.vm"),
        ('{"vm": "a-db", "round": NaN, "version": 1, "accept": true}', "$.round"),
        ("[" * 5000, "$"),
        ("{", "$"),
        ('{"vm": "a-db", "round": -1, "version": 1, "accept": true}', "$.round"),
        ('{"vm": "a-db", "round": 1, "version": 1, "accept": "perhaps"}', "$.accept"),
        ("{}", "$.vm"),
    ],
)
def test_bad_answers_by_api_are_refused_with_path_and_reason(
    cast: Cast, clash: Negotiation, client, body: str, path: str
) -> None:
    client.force_login(cast.alice)
    refused = client.post(f"/api/negotiations/{clash.pk}/answer", body, content_type="application/json")
    assert refused.status_code == 422
    assert path in [fault["path"] for fault in refused.json()["faults"]]
    assert not clash.messages.exists()
