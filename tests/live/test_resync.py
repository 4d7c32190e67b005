"""Loss, repetition, disorder: a page always ends at the state of the run, and never by guessing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.live.conftest import Page, entry, until
from webapp.live import hub as hubs
from webapp.live import publish
from webapp.live.hub import hub

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
TOPIC = "tape/1/row"


@pytest.fixture
def alice(live_cast: Any) -> Any:
    live_cast.alice.is_staff = True
    live_cast.alice.save()
    return live_cast.alice


@pytest.fixture(autouse=True)
def quick_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "FLOOR_SECONDS", 0.5)


async def test_a_first_look_gets_a_snapshot_and_then_every_step(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 5)
    one = await page(alice)
    told, frame = await one.ask(TOPIC, answers=2)
    assert told == {"type": "snapshot", "topic": TOPIC}
    assert (frame["kind"], frame["seq"], frame["data"]) == ("keyframe", 1, [5, 0, 0, 0])
    await until(lambda: hub().connected)
    tapes.step(1, 1, 6)
    assert await one.hear() == {"topic": TOPIC, "kind": "delta", "seq": 2, "base": 1, "data": {"1": 6}}


async def test_who_missed_nothing_is_told_so(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 5)
    assert await (await page(alice)).ask(TOPIC, last=1) == [{"type": "current", "topic": TOPIC, "seq": 1}]


async def test_what_was_missed_is_replayed_as_one_frame(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    for value in range(1, 11):
        tapes.step(1, value % 4, value)
    told, frame = await (await page(alice)).ask(TOPIC, last=7, answers=2)
    assert told == {"type": "replay", "topic": TOPIC, "from": 8, "to": 10}
    assert (frame["base"], frame["seq"], frame["data"]) == (7, 10, {"0": 8, "1": 9, "2": 10})


@pytest.mark.parametrize("last", [99, 1])
async def test_what_cannot_be_replayed_is_sent_whole(valkey: Any, tapes: Any, alice: Any, page: Any, last: int) -> None:
    for value in range(1, 6):
        tapes.step(1, 0, value)
    valkey.client().xdel("run:1", "3-0")
    told, frame = await (await page(alice)).ask(TOPIC, last=last, answers=2)
    assert told["type"] == "snapshot"
    assert (frame["kind"], frame["seq"], frame["data"]) == ("keyframe", 5, [5, 0, 0, 0])


async def test_a_lost_hint_costs_time_and_no_data(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    tapes.rows[1].apply(entry(2, 0, 2))
    valkey.client().xadd("run:1", {"f": entry(2, 0, 2)}, id="2-0")  # the step without its hint
    assert (await one.hear())["seq"] == 2


async def test_a_gap_in_the_stream_is_repaired_from_the_database(
    valkey: Any, tapes: Any, alice: Any, page: Any
) -> None:
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    await until(lambda: hub().connected)
    tapes.step(1, 1, 2, published=False)
    tapes.step(1, 2, 3)
    frame = await one.hear()
    assert (frame["kind"], frame["seq"], frame["data"]) == ("keyframe", 3, [1, 2, 3, 0])


async def test_steps_that_never_reached_redis_come_from_the_database(
    valkey: Any, tapes: Any, alice: Any, page: Any
) -> None:
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    tapes.step(1, 3, 9, published=False)
    frame = await one.hear()
    assert (frame["kind"], frame["seq"], frame["data"]) == ("keyframe", 2, [1, 0, 0, 9])


async def test_repeated_and_late_hints_change_nothing(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    await until(lambda: hub().connected)
    for message in ("1 1", "1 1", "1 900", "77 3"):
        valkey.client().publish(publish.HINT, message)
    assert await one.silent(0.3)


async def test_a_wiped_redis_is_rebuilt_from_the_database(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    for value in range(1, 4):
        tapes.step(1, 0, value)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    valkey.client().flushall()
    tapes.step(1, 1, 8, published=False)
    assert (await one.hear())["data"] == [3, 8, 0, 0]
    fresh = await page(alice)
    assert (await fresh.ask(TOPIC, answers=2))[1]["data"] == [3, 8, 0, 0]


async def test_redis_killed_and_back_again_ends_at_the_same_state(
    valkey: Any, tapes: Any, alice: Any, page: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(hubs, "RETRY_FIRST", 0.05)
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    await until(lambda: hub().connected)
    valkey.kill()
    await until(lambda: not hub().connected)
    tapes.step(1, 1, 2, published=False)
    assert (await one.hear())["data"] == [1, 2, 0, 0]
    await asyncio.to_thread(valkey.start)
    await until(lambda: hub().connected)
    publish._writer.resting_until = 0
    tapes.step(1, 2, 3)
    frame = await one.hear()
    assert frame["seq"] == 3 and tapes.rows[1].cells == [1, 2, 3, 0]


async def test_frames_are_made_once_a_view_and_hold_only_that_view(
    valkey: Any, tapes: Any, live_cast: Any, alice: Any, page: Any
) -> None:
    tapes.step(1, 0, 150)
    pages = [await page(alice), await page(alice), await page(live_cast.bob), await page(live_cast.bob)]
    seen = [(await one.ask(TOPIC, answers=2))[1]["data"] for one in pages]
    assert seen == [[150, 0, 0, 0], [150, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    await until(lambda: hub().connected)
    made: list[str] = []
    picture = hub().feeds[1].picture
    original = picture.delta
    picture.delta = lambda run, part, view, base, touched: made.append(view) or original(run, part, view, base, touched)
    tapes.step(1, 1, 160)
    assert [(await one.hear())["data"] for one in pages] == [{"1": 160}, {"1": 160}, {"1": 0}, {"1": 0}]
    assert sorted(made) == ["all", "some"]


async def test_a_state_is_told_from_the_committed_row(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 1)
    one = await page(alice)
    await one.ask(TOPIC, answers=2)
    await asyncio.sleep(0.6)  # the floor has seen the first state
    tapes.states[1] = "paused"
    assert await one.hear() == {"type": "state", "topic": TOPIC, "state": "paused"}


async def test_hidden_pages_get_one_merged_frame_a_second(valkey: Any, tapes: Any, alice: Any, page: Any) -> None:
    tapes.step(1, 0, 0)
    one = await page(alice)
    await one.say(type="rate", hz=1)
    await one.ask(TOPIC, answers=2)
    await until(lambda: hub().connected)
    for value in range(1, 11):
        tapes.step(1, 0, value)
        await asyncio.sleep(0.02)
    frames = [await one.hear()]
    while not await one.silent(1.2):
        frames.append(await one.hear())
    assert len(frames) <= 2
    assert frames[-1]["seq"] == 11 and frames[-1]["kind"] == "keyframe"


async def test_unsubscribing_ends_the_topic_and_drops_an_unwatched_run(
    valkey: Any, tapes: Any, alice: Any, page: Any
) -> None:
    tapes.step(1, 0, 0)
    one: Page = await page(alice)
    await one.ask(TOPIC, answers=2)
    await until(lambda: hub().connected)
    await one.say(type="unsubscribe", topic=TOPIC)
    await until(lambda: 1 not in hub().feeds)
    tapes.step(1, 0, 1)
    assert await one.silent(0.3)
