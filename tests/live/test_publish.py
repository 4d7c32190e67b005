"""The one writer: refused repeats are success, and nothing here fails when Redis is away."""

import time
from typing import Any

import pytest

from webapp.live import publish


def test_a_step_published_twice_stands_once(valkey: Any) -> None:
    assert publish.step(run=1, seq=1, entry=b"one")
    assert publish.step(run=1, seq=2, entry=b"two")
    assert publish.step(run=1, seq=1, entry=b"one")
    assert [entry_id for entry_id, _ in valkey.client().xrange("run:1")] == [b"1-0", b"2-0"]


def test_the_stream_stays_below_its_share_of_memory(valkey: Any) -> None:
    for seq in range(1, 401):
        publish.step(run=1, seq=seq, entry=bytes(100_000))
    assert valkey.client().xlen("run:1") * 100_000 <= 2 * publish.STREAM_BYTES


def test_an_older_keyframe_never_replaces_a_newer(valkey: Any) -> None:
    publish.keyframe(run=1, seq=5, state=b"five")
    publish.keyframe(run=1, seq=4, state=b"four")
    assert valkey.client().hgetall("run:1:key") == {b"seq": b"5", b"state": b"five"}


def test_a_full_redis_is_no_error(valkey: Any) -> None:
    valkey.client().config_set("maxmemory", "1mb")
    try:
        assert not publish.step(run=1, seq=1, entry=bytes(2_000_000)) or valkey.client().xlen("run:1")
        assert publish.keyframe(run=1, seq=1, state=bytes(2_000_000)) in (True, False)
    finally:
        valkey.client().config_set("maxmemory", "0")


@pytest.mark.django_db(transaction=True)
def test_every_function_survives_redis_being_away_and_none_waits(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    began = time.monotonic()
    for _ in range(50):
        assert not publish.step(run=1, seq=1, entry=b"x")
        assert not publish.keyframe(run=1, seq=1, state=b"x")
        publish.changed("matrix")
        publish.wake_keeper()
        publish.rights_changed(user=1)
        publish.ended(run=1)
    assert not publish.reachable()
    assert time.monotonic() - began < 10  # one that waited for an answer would take minutes


@pytest.mark.django_db(transaction=True)
def test_a_hint_is_sent_only_after_commit(valkey: Any) -> None:
    from django.db import transaction

    listener = valkey.client().pubsub(ignore_subscribe_messages=True)
    listener.subscribe(publish.TOPIC)
    listener.get_message(timeout=1)
    with pytest.raises(RuntimeError), transaction.atomic():
        publish.changed("negotiation/1")
        raise RuntimeError
    with transaction.atomic():
        publish.changed("negotiation/2")
        assert listener.get_message(timeout=0.1) is None
    assert listener.get_message(timeout=1)["data"] == b"negotiation/2"
