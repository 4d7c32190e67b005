"""After no agreement: each step by its button, none without the consents, and nobody who runs is touched."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from tests.conftest import CAREFUL, HOST, Cast, wishes
from tests.web.screen import Story, text_of
from webapp.agreements import ladder, selectors
from webapp.agreements import services as agreements
from webapp.agreements.models import Agreement, Negotiation, Rung
from webapp.audit.models import Entry
from webapp.audit.selectors import lines_of
from webapp.audit.services import verify
from webapp.errors import VpmsError
from webapp.fleet.models import Host, Placement
from webapp.fleet.services import host_create, placement_set
from webapp.ops import keeper, story
from webapp.runs import engine, services
from webapp.runs.models import Act, Run
from webapp.tenants.models import VirtualMachine
from webapp.tenants.services import policy_save

pytestmark = pytest.mark.django_db
State = Negotiation.State


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()


def vm(name: str) -> VirtualMachine:
    return VirtualMachine.objects.select_related("placement__host", "tenant").get(name=name)


def bystander() -> tuple[Any, ...]:
    """All of a-db that must stay as it is while b-web looks for a place."""
    in_force = Agreement.objects.filter(host__name="h1", in_force=True).values_list("version", "digest").get()
    return (
        vm("a-db").state,
        vm("a-db").placement.host.name,
        in_force,
        selectors.values_in_force(host=vm("a-db").placement.host),
    )


def work() -> None:
    """Everything that is due now, as keeper and worker would do it."""
    for _ in range(8):
        Negotiation.objects.filter(due_at__isnull=False, state__in=(State.SIGNED, State.DRAFT)).update(
            due_at=timezone.now()
        )
        for pk in Rung.objects.filter(due_at__lte=timezone.now()).values_list("pk", flat=True):
            services.rung_work(rung_id=pk)
        story.drain()
        for run in Run.objects.filter(state=Run.State.RUNNING):
            if Act.objects.filter(run=run, state=Act.State.PENDING).exists():
                Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
                services.run_slice(run_id=run.pk, slice_no=run.slice_no)


def say(cast: Cast, negotiation: Negotiation, who: str, accept: bool) -> None:
    row = Negotiation.objects.get(pk=negotiation.pk)
    for seat in row.seats.filter(vm__tenant__slug__in=getattr(cast, who).tenant_slugs):
        agreements.answer(
            by=getattr(cast, who),
            negotiation=row,
            vm=seat.vm,
            round=row.round,
            version=row.version,
            accept=accept,
            reason="final",
        )
    work()


@pytest.fixture
def two_hosts(cast: Cast) -> Host:
    """a-db runs on h1; h2 stands beside it, empty."""
    other = host_create(by=cast.olga, document={**HOST, "host": "h2"})
    services.vm_start(by=cast.alice, vm=vm("a-db"))
    story.drain()
    assert vm("a-db").state == "running"
    return other


@pytest.fixture
def refused(cast: Cast, two_hosts: Host) -> Negotiation:
    """b-web wanted to start beside a-db; its owner said no."""
    negotiation = services.vm_start(by=cast.bob, vm=vm("b-web"))
    story.drain()
    say(cast, negotiation, "alice", False)
    negotiation.refresh_from_db()
    assert negotiation.state == State.NO_AGREEMENT
    return negotiation


@pytest.fixture
def core(cast: Cast, two_hosts: Host) -> Negotiation:
    """Both insist on different things, so no settlement exists at all; a-db could be moved."""
    strict = {**CAREFUL, "q7": {"answer": "protection", "strength": "must"}}
    policy_save(by=cast.alice, vm=cast.a_db, document=wishes(strict, vm="a-db", tenant="alpha", version=2))
    fast = wishes({"q7": {"answer": "speed", "strength": "must"}}, vm="b-web", tenant="beta", version=2)
    fast["switches"]["mitigations"]["values"] = {"full": "veto", "default": "veto", "off": 1000}
    policy_save(by=cast.bob, vm=cast.b_web, document=fast)
    negotiation = services.vm_start(by=cast.bob, vm=vm("b-web"))
    assert negotiation.state == State.NO_AGREEMENT and negotiation.protocol["core"]
    return negotiation


def offered(negotiation: Negotiation) -> list[str]:
    return [step["step"] for step in ladder.steps_shown(Negotiation.objects.get(pk=negotiation.pk))]


def press(client: Any, cast: Cast, negotiation: Negotiation, step: str, **more: str) -> Any:
    client.force_login(cast.bob)
    return client.post(f"/tenant/negotiation/{negotiation.pk}/step/", {"step": step, **more}, follow=True)


def test_the_story_that_ends_by_relocation(cast: Cast, refused: Negotiation, client) -> None:
    story, before, url = Story("relocation"), bystander(), f"/tenant/negotiation/{refused.pk}/"
    client.force_login(cast.alice)
    story.screen("No agreement on h1, as alice reads it, whose a-db runs on", client.get(url))
    client.force_login(cast.bob)
    page = story.screen("The same, as bob reads it for his b-web", client.get(url))
    for words in (
        "Start on another host",
        "Consent it needs: yours by this button",
        "Doing nothing is safe",
        "costs 5",
    ):
        assert words in page, words
    story.screen("Bob has pressed the button for h2", press(client, cast, refused, "relocate_requester", host="h2"))
    work()
    moved = vm("b-web")
    assert (moved.state, moved.placement.host.name) == ("running", "h2")
    started = Act.objects.get(kind="start_vm", vm=moved)
    assert started.run.host.name == "h2" and started.state == Act.State.DONE  # the machine of h2 really has it
    assert Agreement.objects.get(host__name="h2", in_force=True).negotiation.requester == moved
    assert bystander() == before and not Act.objects.filter(vm__name="a-db").exclude(kind="start_vm").exists()
    page = story.screen("The room on h1 afterwards, as bob reads it", client.get(url))
    assert "The start is tried again on host h2." in page and "What you can do now" not in page
    story.screen("Bob's VMs: b-web runs on h2", client.get("/tenant/"))
    client.force_login(cast.alice)
    story.screen("Alice's VMs: a-db was never touched", client.get("/tenant/"))
    assert verify()["valid"]
    told = story.log(lines_of(user=cast.olga))
    assert "The log holds together" in told and "host h2" in told


def test_doing_nothing_changes_nothing_and_others_see_no_buttons(cast: Cast, refused: Negotiation, client) -> None:
    before = bystander()
    work()
    assert bystander() == before and vm("b-web").state == "stopped" and not Rung.objects.exists()
    client.force_login(cast.alice)
    page = client.get(f"/tenant/negotiation/{refused.pk}/")
    assert "What you can do now" not in text_of(page)
    assert client.post(f"/tenant/negotiation/{refused.pk}/step/", {"step": "refuse_action"}).status_code == 404


def test_a_start_elsewhere_that_is_refused_there_brings_the_vm_home(cast: Cast, refused: Negotiation, client) -> None:
    from webapp.fleet.services import placement_set
    from webapp.tenants.services import vm_create

    third = vm_create(by=cast.alice, tenant=cast.alpha, name="a-2", trace="gzip")
    policy_save(by=cast.alice, vm=third, document=wishes(CAREFUL, vm="a-2", tenant="alpha"))
    placement_set(by=cast.alice, vm=third, host=Host.objects.get(name="h2"))
    services.vm_start(by=cast.alice, vm=vm("a-2"))
    work()
    assert vm("a-2").state == "running"
    press(client, cast, refused, "relocate_requester", host="h2")
    work()
    tried = Negotiation.objects.latest("pk")
    assert tried.host.name == "h2" and tried.state == State.PROPOSED and vm("b-web").placement.host.name == "h2"
    say(cast, tried, "alice", False)
    assert (vm("b-web").state, vm("b-web").placement.host.name) == ("stopped", "h1")
    assert vm("a-2").state == vm("a-db").state == "running"
    assert "relocate_requester" in offered(tried)  # and from there the ladder is open again


def test_withdrawing_a_start_elsewhere_brings_the_vm_home_too(cast: Cast, refused: Negotiation, client) -> None:
    press(client, cast, refused, "relocate_requester", host="h2")
    tried = Negotiation.objects.latest("pk")
    assert tried.state in Negotiation.OPEN and vm("b-web").placement.host.name == "h2"
    agreements.withdraw(by=cast.bob, negotiation=tried)
    assert (vm("b-web").state, vm("b-web").placement.host.name) == ("stopped", "h1")


def test_a_start_without_any_settlement_leads_to_what_can_be_done(cast: Cast, core: Negotiation, client) -> None:
    client.force_login(cast.bob)
    page = client.post("/tenant/vm/b-web/start/", follow=True)
    assert "What you can do now for b-web" in text_of(page) and "These cannot hold together" in text_of(page)


def test_a_host_on_which_it_could_not_start_is_not_offered_and_not_taken(
    cast: Cast, refused: Negotiation, client
) -> None:
    Host.objects.filter(name="h2").update(
        document=Host.objects.get(name="h2").document.replace('"memory_mib":64', '"memory_mib":4')
    )
    assert "relocate_requester" not in offered(refused)
    answer = press(client, cast, refused, "relocate_requester", host="h2")
    assert answer.status_code == 422 and "$.host" in answer.content.decode() + "$.host"
    assert vm("b-web").placement.host.name == "h1" and not Rung.objects.exists()


def test_a_neighbour_moves_only_after_its_own_yes_and_then_the_start_is_tried_again(
    cast: Cast, core: Negotiation, client
) -> None:
    before = bystander()
    assert "migrate_willing" in offered(core)
    page = press(client, cast, core, "migrate_willing")
    assert "Neighbours are asked whether they would move" in text_of(page) and "a-db" not in text_of(page)
    work()
    assert bystander() == before  # a question moves nothing
    client.force_login(cast.alice)
    page = text_of(client.get("/tenant/"))
    assert "Would a-db move from h1 to h2?" in page and "counts as no" in page and "b-web" not in page
    rung = Rung.objects.get()
    client.force_login(cast.bob)
    assert client.post(f"/tenant/moving/{rung.pk}/", {"answer": "agree"}).status_code == 404
    client.force_login(cast.alice)
    client.post(f"/tenant/moving/{rung.pk}/", {"answer": "agree"})
    moving = Negotiation.objects.latest("pk")
    assert moving.moves and moving.host.name == "h2" and vm("a-db").state == "running"
    assert "stays stopped" not in text_of(client.get(f"/tenant/negotiation/{moving.pk}/"))
    work()
    assert (vm("a-db").state, vm("a-db").placement.host.name) == ("running", "h2")
    assert Act.objects.get(kind="stop_vm").run.host.name == "h1"
    assert Act.objects.filter(kind="start_vm", vm__name="a-db", state="done").latest("pk").run.host.name == "h2"
    assert (vm("b-web").state, vm("b-web").placement.host.name) == ("running", "h1")
    assert Rung.objects.get().state == Rung.State.DONE and verify()["valid"]


@pytest.mark.parametrize("said", ["refuse", "", "silence"])
def test_a_neighbour_that_says_no_or_nothing_stays_and_runs_on(
    cast: Cast, core: Negotiation, client, said: str
) -> None:
    before = bystander()
    press(client, cast, core, "migrate_willing")
    if said == "silence":
        Rung.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
    else:
        client.force_login(cast.alice)
        client.post(f"/tenant/moving/{Rung.objects.get().pk}/", {"answer": said})
    work()
    assert bystander() == before and Rung.objects.get().state == Rung.State.REFUSED
    assert Negotiation.objects.count() == 2 and vm("b-web").state == "stopped"
    client.force_login(cast.bob)
    assert "stays where it is" in text_of(client.get(f"/tenant/negotiation/{core.pk}/")) or said == "silence"


def test_a_mover_that_its_owner_stops_meanwhile_is_not_started_elsewhere(cast: Cast, core: Negotiation, client) -> None:
    press(client, cast, core, "migrate_willing")
    ladder.move_answer(by=cast.alice, rung=Rung.objects.get(), consent=True)
    moving = Negotiation.objects.latest("pk")
    VirtualMachine.objects.filter(name="a-db").update(state="stopped")  # its owner pressed Stop, and it is gone
    work()
    moving.refresh_from_db()
    assert moving.state == State.NO_AGREEMENT and "was stopped before it could move" in moving.reason
    assert (vm("a-db").state, vm("a-db").placement.host.name) == ("stopped", "h1")
    assert Rung.objects.get().state == Rung.State.REFUSED


def test_a_start_is_tried_again_at_its_time_and_not_before(cast: Cast, refused: Negotiation, client) -> None:
    page = text_of(press(client, cast, refused, "another_time", minutes="10"))
    assert "The start will be tried again at" in page
    work()
    assert Negotiation.objects.latest("pk") == refused and vm("b-web").state == "stopped"
    Rung.objects.update(due_at=timezone.now() - dt.timedelta(seconds=1))
    assert any(kind.model is Rung for kind, _ in keeper.due(timezone.now()))
    work()
    again = Negotiation.objects.latest("pk")
    assert again.pk > refused.pk and again.host.name == "h1" and Rung.objects.get().next == again
    assert press(client, cast, refused, "another_time", minutes="10").status_code == 409


def test_leaving_it_ends_what_was_under_way(cast: Cast, refused: Negotiation, client) -> None:
    press(client, cast, refused, "another_time", minutes="60")
    assert press(client, cast, refused, "relocate_requester", host="h2").status_code == 409
    assert "You left it at that." in text_of(press(client, cast, refused, "refuse_action"))
    Rung.objects.update(due_at=timezone.now())
    work()
    assert Negotiation.objects.latest("pk") == refused


def test_a_host_of_its_own_is_offered_within_the_budget_only_and_kept_free_of_others(
    cast: Cast, refused: Negotiation, client
) -> None:
    assert "dedicated_host" not in offered(refused)
    assert press(client, cast, refused, "dedicated_host", host="h2").status_code == 409
    refused.protocol["policies"]["b-web"]["disagreement"]["budget"] = 40
    refused.save()
    page = press(client, cast, refused, "dedicated_host", host="h2")
    assert page.status_code == 200
    work()
    assert (vm("b-web").state, vm("b-web").placement.host.name) == ("running", "h2")
    services.vm_stop(by=cast.alice, vm=vm("a-db"))
    work()
    Placement.objects.filter(vm__name="a-db").update(host=Host.objects.get(name="h2"))
    with pytest.raises(VpmsError) as taken:
        agreements.start_request(by=cast.alice, vm=vm("a-db"))
    assert taken.value.code == "host_taken"


def test_changing_a_wish_leads_to_the_question_that_stands_in_the_way(cast: Cast, core: Negotiation, client) -> None:
    client.force_login(cast.bob)
    page = client.get(f"/tenant/negotiation/{core.pk}/").content.decode()
    assert 'href="/tenant/vm/b-web/#q7"' in page
    client.force_login(cast.alice)
    page = client.get(f"/tenant/negotiation/{core.pk}/").content.decode()
    assert 'href="/tenant/vm/a-db/#q7"' in page and "you need not, and nobody else can" in page
    assert 'id="q7"' in client.get("/tenant/vm/a-db/").content.decode()


def test_bad_steps_are_refused_and_change_nothing(cast: Cast, refused: Negotiation, client) -> None:
    log = Entry.objects.count()
    for step, more in (
        ("jump", {}),
        ("", {}),
        ("another_time", {"minutes": "7"}),
        ("relocate_requester", {"host": "h9"}),
    ):
        assert press(client, cast, refused, step, **more).status_code == 422
    assert not Rung.objects.exists() and Entry.objects.count() == log and vm("b-web").placement.host.name == "h1"


def test_the_same_steps_by_api(cast: Cast, core: Negotiation, client) -> None:
    client.force_login(cast.alice)
    path = f"/api/negotiations/{core.pk}/steps"
    assert client.get(path).json()["items"] == []
    assert client.post(path, {"step": "refuse_action"}, content_type="application/json").status_code == 404
    client.force_login(cast.bob)
    told = {row["step"]: row for row in client.get(path).json()["items"]}
    assert told["relocate_requester"]["hosts"] == ["h2"] and told["another_time"]["minutes"] == [10, 60, 360, 1440]
    refused = client.post(path, {"step": "relocate_requester", "host": "h9"}, content_type="application/json")
    assert refused.status_code == 422 and refused.json()["faults"][0]["path"] == "$.host"
    assert client.post(path, {"step": "migrate_willing"}, content_type="application/json").status_code == 200
    assert client.get("/api/moves").json()["items"] == []
    client.force_login(cast.alice)
    (asked,) = client.get("/api/moves").json()["items"]
    assert (asked["vm"], asked["from_host"], asked["to_host"]) == ("a-db", "h1", "h2")
    answer = client.post(f"/api/moves/{asked['id']}", {"consent": False}, content_type="application/json")
    assert answer.status_code == 200 and answer.json()["negotiation"] is None
    assert vm("a-db").placement.host.name == "h1" and Rung.objects.get().state == Rung.State.REFUSED


@pytest.mark.parametrize("said", [True, False])
def test_a_running_vm_that_asks_for_another_host_stops_here_and_starts_there_or_stays(
    cast: Cast, two_hosts: Host, client, said: bool
) -> None:
    placement_set(by=cast.bob, vm=vm("b-web"), host=two_hosts)
    services.vm_start(by=cast.bob, vm=vm("b-web"))
    work()
    before = bystander()
    client.force_login(cast.bob)
    page = client.post("/tenant/vm/b-web/move/", {"host": "h1"}, follow=True)
    story.drain()
    moving = Negotiation.objects.latest("pk")
    assert moving.moves and moving.host.name == "h1" and moving.state == State.PROPOSED
    assert "b-web runs on where it is while its place on h1 is negotiated" in text_of(page)
    assert client.post("/tenant/vm/b-web/move/", {"host": "h1"}).status_code == 409
    work()
    assert bystander() == before and (vm("b-web").state, vm("b-web").placement.host.name) == ("running", "h2")
    if said:
        say(cast, moving, "bob", True)
    say(cast, moving, "alice", said)
    moving.refresh_from_db()
    if not said:
        assert moving.state == State.NO_AGREEMENT and bystander() == before
        assert (vm("b-web").state, vm("b-web").placement.host.name) == ("running", "h2")
        assert "ended without agreement" in text_of(client.get(f"/tenant/negotiation/{moving.pk}/"))
        assert not Act.objects.filter(kind="stop_vm").exists()
        return
    assert moving.state == State.ENFORCED and verify()["valid"]
    assert (vm("b-web").state, vm("b-web").placement.host.name) == ("running", "h1")
    assert Act.objects.get(kind="stop_vm").run.host.name == "h2"
    started = Act.objects.filter(kind="start_vm", vm__name="b-web", state="done").latest("pk")
    assert started.run.host.name == "h1" and vm("a-db").state == "running"


def test_a_running_vm_is_not_moved_where_a_neighbour_would_lose_what_it_runs_under(
    cast: Cast, two_hosts: Host, client
) -> None:
    """b-web has h2 to itself and all that it wished for; a-db demands what would take some of it. Nobody is asked."""
    placement_set(by=cast.bob, vm=vm("b-web"), host=two_hosts)
    services.vm_start(by=cast.bob, vm=vm("b-web"))
    work()
    client.force_login(cast.alice)
    page = client.post("/tenant/vm/a-db/move/", {"host": "h2"})
    assert page.status_code == 409 and "a-db cannot run on h2 as things are" in text_of(page)
    assert not Negotiation.objects.filter(moves=True).exists() and vm("a-db").placement.host.name == "h1"
