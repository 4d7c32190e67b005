"""The wall: six checks of each host, measured by its own slices, worst first; what is old reads unknown, never OK."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.web.test_runs import client_of, running, slices, vm  # noqa: F401  a fixture
from webapp.fleet.models import Host
from webapp.live.hub import _meant
from webapp.live.topics import find
from webapp.ops import story
from webapp.runs import engine, fleet_wall, levels, services, wall
from webapp.runs.engine import DEGRADED, OK, VIOLATION, Sight
from webapp.runs.models import Delay, HostCheck, Run
from webapp.runs.streams import authorise_fleet

pytestmark = pytest.mark.django_db
NESTED = {"memory_protection": ["none"], "hugepages": ["2m", "4k"]}


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any, monkeypatch: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    settings.CHECK_SECONDS = 500  # long enough for the slowest machine: time passes by aged() alone
    monkeypatch.setattr(wall, "LATE_SECONDS", 500.0)
    engine._hot.clear()


def states(host: Host) -> dict[str, str]:
    now = timezone.now()
    return {cell.name: fleet_wall.state_of(cell, now) for cell in host.checks.all()}


def aged(seconds: float) -> None:
    """What was measured was measured so long ago."""
    back = dt.timedelta(seconds=seconds)
    for cell in HostCheck.objects.all():
        HostCheck.objects.filter(pk=cell.pk).update(
            measured_at=cell.measured_at - back, broken_at=cell.broken_at and cell.broken_at - back
        )


def unprotected(run: Run) -> Run:
    """The same run as if its host could not protect memory, from its very beginning."""
    run.checkpoints.all().delete()
    machine = {**run.scenario["machine"], "protected_frames": 0, "architecture": "nested"}
    Run.objects.filter(pk=run.pk).update(scenario={**run.scenario, "machine": machine})
    engine._hot.clear()
    return Run.objects.get(pk=run.pk)


def test_a_hosts_own_slices_measure_its_six_checks_at_each_interval(running: Run) -> None:  # noqa: F811
    host = running.host
    assert states(host) == dict.fromkeys(("ownership", "region", "tlb", "swap", "engine", "queue"), "ok")
    first = {cell.name: cell.measured_at for cell in host.checks.all()}
    run = slices(running, 1)
    assert {cell.name: cell.measured_at for cell in host.checks.all()} == first, "not at every slice"
    aged(501)
    slices(run, 1)
    assert all(cell.measured_at > first[cell.name] for cell in host.checks.all())
    assert {cell.version for cell in host.checks.all()} == {2}


def test_a_violation_is_on_the_wall_with_the_slice_that_brought_it_and_is_remembered_when_it_is_over(
    cast: Any,
    running: Run,  # noqa: F811
) -> None:
    aged(501)
    run = slices(unprotected(running), 1)
    assert states(run.host)["region"] == "none", "there is no such region here, which is no pass"
    services.act_request(by=cast.olga, run=run, kind="drill", vm=vm("a-db"), data={"attack": "A03"})
    run = slices(run, 2)
    assert run.wrong == 1 and states(run.host)["ownership"] == "violation"
    cell = run.host.checks.get(name="ownership")
    assert (cell.code, cell.data) == ("ownership_broken", {"count": 1})
    run = slices(run, 1)  # begins with clearing it up
    assert run.wrong == 0 and states(run.host)["ownership"] == "violation", "a quarter of a second is not enough to see"
    aged(501)
    run = slices(run, 1)
    cell = run.host.checks.get(name="ownership")
    assert (cell.state, cell.code) == ("degraded", "mended")
    aged(6001)
    slices(run, 1)
    assert states(run.host)["ownership"] == "ok"
    assert Delay.objects.filter(kind="detect").count() == 1


def test_what_was_not_heard_of_for_three_intervals_is_unknown_whatever_it_was(running: Run) -> None:  # noqa: F811
    HostCheck.objects.filter(name="tlb").update(state=VIOLATION)
    aged(1000)
    assert set(states(running.host).values()) == {"ok", "violation"}
    aged(501)
    assert set(states(running.host).values()) == {"unknown"}
    page = client_of(cast_olga()).get("/operator/wall/").content.decode()
    assert page.count('data-state="unknown"') == 6 and 'data-state="ok"' not in page
    run = slices(running, 1)
    assert run.seq and set(states(run.host).values()) == {"ok"}


def cast_olga() -> Any:
    from webapp.accounts.models import User

    return User.objects.get(username="olga")


def test_when_the_run_ends_nothing_runs_and_that_is_neither_ok_nor_unknown(cast: Any, running: Run) -> None:  # noqa: F811
    services.run_want(by=cast.olga, run=running, wanted="cancel")
    slices(running, 1)
    aged(9000)
    assert set(states(running.host).values()) == {"idle"}
    page = client_of(cast.olga).get("/operator/wall/").content.decode()
    assert "Nothing runs" in page and "1 host: 1 without a run" in page


def test_a_slice_that_waited_or_was_tried_again_is_degraded(running: Run) -> None:  # noqa: F811
    aged(501)
    long_ago = timezone.now() - dt.timedelta(seconds=900)
    Run.objects.filter(pk=running.pk).update(due_at=long_ago, attempts=1)
    services.run_slice(run_id=running.pk, slice_no=running.slice_no)
    rows = {cell.name: (cell.state, cell.code) for cell in running.host.checks.all()}
    assert rows["queue"] == (DEGRADED, "attempts") and rows["engine"] == (DEGRADED, "attempts")
    aged(501)
    Run.objects.filter(pk=running.pk).update(due_at=long_ago)
    run = Run.objects.get(pk=running.pk)
    services.run_slice(run_id=run.pk, slice_no=run.slice_no)
    cell = run.host.checks.get(name="queue")
    assert (cell.state, cell.code) == (DEGRADED, "slice_waited") and cell.data["ms"] >= 900_000


# -- many hosts


def many(count: int) -> list[Host]:
    made = [Host(name=f"rack{n:03}", document="", sha256="") for n in range(count)]
    for n, host in enumerate(made):
        document = {**story.host_document(host.name), "zone": f"z{n % 2}"}
        host.document, host.sha256 = json.dumps(document), f"{n:064}"
        host.zone, host.architecture = document["zone"], "hsvm"
    Host.objects.bulk_create(made)
    for host in made:
        wall.cells_write(host=host, sights={name: Sight(OK) for name in wall.NAMES}, now=timezone.now())
    return made


def order_on(page: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/operator/host/([^/]+)/">', page)


def test_the_worst_host_comes_first_and_no_good_cell_hides_a_bad_one(cast: Any) -> None:
    hosts = many(60)
    HostCheck.objects.filter(host=hosts[57], name="swap").update(state=VIOLATION)
    HostCheck.objects.filter(host=hosts[58], name="queue").update(state=DEGRADED)
    old = timezone.now() - dt.timedelta(hours=1)
    HostCheck.objects.filter(host=hosts[59], name="engine").update(measured_at=old)
    client = client_of(cast.olga)
    page = client.get("/operator/wall/").content.decode()
    assert order_on(page)[:4] == ["rack057", "rack059", "rack058", "rack000"] and len(order_on(page)) == 50
    assert "61 hosts: 1 without a run, 57 OK, 1 degraded, 1 unknown, 1 with a violation" in page
    groups = page[page.index('class="wall-groups"') : page.index("<table")]
    for name in ("rack057", "rack058", "rack059"):
        assert f"/operator/host/{name}/" in groups, "each bad one is named in its group"
    assert order_on(client.get("/operator/wall/?page=2").content.decode())[-1] == "h1"
    assert order_on(client.get("/operator/wall/?of=z1&by=zone").content.decode())[:2] == ["rack057", "rack059"]
    assert order_on(client.get("/operator/wall/?q=K05&by=state&of=degraded").content.decode()) == ["rack058"]
    assert "No host is named so" in client.get("/operator/wall/?q=nowhere").content.decode()
    assert client.get("/operator/wall/?by=nonsense&page=x&of=%00").status_code == 200


def test_a_socket_is_sent_the_cells_of_its_hosts_when_one_was_measured(cast: Any) -> None:
    one, two, three = many(3)
    now = timezone.now()
    [topic] = fleet_wall.topics_of(fleet_wall.places(user=cast.olga, now=now, text="rack"))
    ident = topic.removeprefix(wall.CELLS_TOPIC)
    [message] = fleet_wall.cell_messages(ident, "operator", None)
    assert message["topic"] == topic and len(message["data"]["cells"]) == 18
    assert fleet_wall.cell_messages(ident, "operator", message["seq"]) == []
    late = now - dt.timedelta(seconds=2)  # committed after what is newer, as two workers may
    wall.cells_write(host=two, sights={"tlb": Sight(VIOLATION, "stale_broken", {"count": 3})}, now=late)
    [later] = fleet_wall.cell_messages(ident, "operator", message["seq"])
    told = {(row[0], row[1]): row[2:] for row in later["data"]["cells"]}
    assert told[two.pk, "tlb"][0] == "violation" and told[two.pk, "tlb"][2] == "Stale TLB entries: 3"
    assert later["seq"] == message["seq"] + 1
    for wrong in ("no-such!", "1-zzzz", "9-1", "", "1..2", "-"):
        assert fleet_wall.hosts_named(wrong) == []
    far = [place._replace(pk=pk) for pk in (1, 2, 3, 48, *range(10_000, 10_100), *range(20_000, 40_000, 997))
           for place in fleet_wall.places(user=cast.olga, now=now, text="rack000")]  # fmt: skip
    topics = fleet_wall.topics_of(far)
    named = [pk for each in topics for pk in fleet_wall.hosts_named(each.removeprefix(wall.CELLS_TOPIC))]
    assert named == [place.pk for place in far] and len(topics) <= 5
    assert all(find(each) is not None for each in topics)
    assert _meant(topic, {wall.CELLS_TOPIC}) and not _meant("wall", {wall.CELLS_TOPIC}) and _meant("wall", {"wall"})
    assert authorise_fleet(cast.alice, ident) is None and authorise_fleet(cast.olga, ident) == "operator"
    assert one.pk and three.pk


def test_only_operators_see_the_wall_and_tell_of_their_screens(cast: Any) -> None:
    for person in (cast.alice, cast.ines):
        client = client_of(person)
        assert client.get("/operator/wall/").status_code == 403
        assert client.post("/operator/wall/seen/", {"ms": "40"}).status_code == 403
        assert client.get("/api/wall").status_code == client.get("/api/levels").status_code == 404
        assert client.post("/api/wall/seen", {"ms": [40]}, content_type="application/json").status_code == 404
    assert Client().get("/operator/wall/").status_code == 302
    client = client_of(cast.olga)
    assert client.post("/operator/wall/seen/", {"ms": ["40", "70"]}).status_code == 204
    assert client.post("/api/wall/seen", {"ms": [90]}, content_type="application/json").status_code == 204
    for wrong in (["-1"], ["x"], [], ["1"] * 51, ["9999999"]):
        assert client.post("/operator/wall/seen/", {"ms": wrong}).status_code == 422
    assert sorted(Delay.objects.values_list("ms", flat=True)) == [40, 70, 90]
    hosts = client.get("/api/wall").json()["items"]
    assert [row["state"] for row in hosts] == ["idle"] and len(hosts[0]["checks"]) == 6


def test_a_level_of_few_values_tells_none_and_a_used_up_budget_reads_nothing(cast: Any) -> None:
    wall.delay_keep(kind="screen", ms=[100] * 19)
    by_name = {row["name"]: row for row in levels.levels_shown()}
    assert (by_name["screen"]["n"], by_name["screen"]["share"], by_name["screen"]["look"]) == (19, None, "neutral")
    wall.delay_keep(kind="screen", ms=[100] * 80 + [300])
    row = {row["name"]: row for row in levels.levels_shown()}["screen"]
    assert (row["n"], row["percent"], row["budget_percent"], row["look"]) == (100, "99.0 %", "80 %", "ok")
    assert (row["typical_ms"], row["worst_ms"]) == (100, 100)
    wall.delay_keep(kind="screen", ms=[900] * 60)
    row = {row["name"]: row for row in levels.levels_shown()}["screen"]
    assert (row["budget_percent"], row["look"]) == ("0 %", "violation")
    page = client_of(cast.olga).get("/operator/wall/").content.decode()
    assert "Error budget left: 0 %" in page and "too few values to tell" in page
