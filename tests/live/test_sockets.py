"""Who may open the socket, what may be said on it, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from channels.db import database_sync_to_async

from tests.live.conftest import Page, session_of, until
from webapp.live import publish
from webapp.live.hub import hub

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def people(live_cast: Any) -> Any:
    return live_cast


async def test_a_socket_without_any_cookie_is_refused(valkey: Any) -> None:
    assert not await Page(cookie=None).open()


@pytest.mark.parametrize(
    "origin", [None, b"null", b"https://127.0.0.1:8000", b"http://127.0.0.1:8001", b"http://evil.test"]
)
async def test_a_foreign_origin_is_refused(valkey: Any, people: Any, origin: bytes | None) -> None:
    cookie = "session=" + await database_sync_to_async(session_of)(people.alice)
    assert not await Page(cookie=cookie, origin=origin).open()


async def test_a_visitor_may_watch_public_topics_only(valkey: Any, people: Any, tapes: Any, page: Any) -> None:
    tapes.step(1, 0, 1)
    visitor = await page(cookie="csrf=" + "a" * 32)
    [answer] = await visitor.ask("tape/1/row")
    assert answer == {"type": "denied", "topic": "tape/1/row", "reason": "Sign in to watch this."}
    [answer] = await visitor.ask("matrix")
    assert answer == {"type": "snapshot", "topic": "matrix"}


async def test_a_missing_and_a_foreign_topic_are_answered_alike(
    valkey: Any, people: Any, tapes: Any, page: Any
) -> None:
    alice = await page(people.alice)
    answers = [(await alice.ask(name))[0] for name in ("tape/7/row", "run/7/map", "nonsense", "a/b/c/d/e", "../x", "")]
    assert {answer["reason"] for answer in answers} == {"There is no such view, or you have no access to it."}
    assert {answer["type"] for answer in answers} == {"denied"}


BAD = {
    "not JSON": "{",
    "a list": "[]",
    "unknown type": '{"type":"resume"}',
    "unknown field": '{"type":"ping","x":1}',
    "missing topic": '{"type":"subscribe"}',
    "topic is a number": '{"type":"subscribe","topic":1}',
    "last is negative": '{"type":"subscribe","topic":"matrix","last":-1}',
    "last is NaN": '{"type":"subscribe","topic":"matrix","last":NaN}',
    "last is a word": '{"type":"subscribe","topic":"matrix","last":"1"}',
    "another rate": '{"type":"rate","hz":60}',
    "doubled key": '{"type":"ping","type":"ping"}',
    "nested": '{"type":' + "[" * 60_00 + "]" * 60_00 + "}",
}


@pytest.mark.parametrize("text", BAD.values(), ids=list(BAD))
async def test_a_message_that_is_not_understood_closes_with_4009(
    valkey: Any, people: Any, page: Any, text: str
) -> None:
    alice = await page(people.alice)
    await alice.socket.send_to(text_data=text)
    assert await alice.hear() == 4009


async def test_binary_messages_close_with_4009_and_big_ones_with_1009(valkey: Any, people: Any, page: Any) -> None:
    alice, bob = await page(people.alice), await page(people.bob)
    await alice.socket.send_to(bytes_data=b"\x00")
    assert await alice.hear() == 4009
    await bob.socket.send_to(text_data=json.dumps({"type": "subscribe", "topic": "x" * 70_000}))
    assert await bob.hear() == 1009


async def test_a_bad_message_has_no_effect_on_others(valkey: Any, people: Any, page: Any) -> None:
    alice, bob = await page(people.alice), await page(people.bob)
    await alice.socket.send_to(text_data="{")
    assert await alice.hear() == 4009
    await bob.say(type="ping")
    assert await bob.hear() == {"type": "pong"}


async def test_more_than_twenty_messages_a_second_close_with_4029(valkey: Any, people: Any, page: Any) -> None:
    alice = await page(people.alice)
    for _ in range(21):
        await alice.say(type="ping")
    heard = [await alice.hear() for _ in range(21)]
    assert heard[-1] == 4029 and heard[0] == {"type": "pong"}


async def test_signing_out_closes_open_sockets_within_five_seconds(
    valkey: Any, people: Any, tapes: Any, page: Any
) -> None:
    from django.contrib.sessions.models import Session

    alice, bob = await page(people.alice), await page(people.bob)
    await database_sync_to_async(
        lambda: [s.delete() for s in Session.objects.all() if str(people.alice.pk) == s.get_decoded()["_auth_user_id"]]
    )()
    assert (await alice.hear(5))["type"] == "gone"
    assert await alice.hear() == 4003
    await bob.say(type="ping")
    assert await bob.hear() == {"type": "pong"}


async def test_a_change_of_rights_closes_at_once(valkey: Any, people: Any, tapes: Any, page: Any) -> None:
    alice = await page(people.alice)
    await until(lambda: hub().connected)

    def change() -> None:
        people.alice.refresh_from_db()
        people.alice.rights_version += 1
        people.alice.save()
        publish.rights_changed(user=people.alice.pk)

    await database_sync_to_async(change)()
    assert (await alice.hear(1.5))["type"] == "gone"
    assert await alice.hear() == 4003


async def test_a_topic_that_is_no_longer_ours_ends_and_the_socket_stays(
    valkey: Any, people: Any, tapes: Any, page: Any
) -> None:
    tapes.step(1, 0, 7)
    alice = await page(people.alice)
    await alice.ask("tape/1/row", answers=2)
    del tapes.rows[1]
    gone = await alice.hear(5)
    assert gone == {"type": "gone", "topic": "tape/1/row", "reason": "You no longer have access."}
    await alice.say(type="ping")
    assert await alice.hear() == {"type": "pong"}
