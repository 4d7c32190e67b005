"""The keeper: sees to it that every row that is due is worked, whatever messages or workers were lost.

Only the keeper enqueues. It keeps few messages in each queue of the broker, takes tenants in turn, enqueues again what
a lost message left lying, and gives up a job after three attempts without progress. All its writes are conditional
UPDATEs, so a second keeper does no harm.

Tenants share fairly: none has more messages out than there are workers, and the next turn is that of who has fewest
out, among equals of who was served longest ago. So a thousand starts of one tenant wait in the database, in a row.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any, Final

import redis
from celery.exceptions import CeleryError
from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Min, Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from kombu.exceptions import KombuError

from webapp import tally
from webapp.agreements.models import Negotiation, Rung
from webapp.celery import app
from webapp.classroom import drills
from webapp.classroom import services as classroom
from webapp.classroom.models import Cell, Drill
from webapp.courses import lab, policy_play, regrades
from webapp.courses.models import Attempt, PolicyTable, Regrade
from webapp.jobs import MAX_ATTEMPTS, Job, free
from webapp.live import publish
from webapp.lti import returns
from webapp.lti.models import Return
from webapp.notices import sending
from webapp.notices.models import Delivery, Mail
from webapp.ops import retention, services, watching
from webapp.ops.models import ChainCheck
from webapp.ops.services import BEAT_SECONDS
from webapp.runs import services as runs
from webapp.runs.models import Run

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25
LOST_AFTER: Final = dt.timedelta(seconds=3)  # a message that nobody took up by then is sent again
GUESTS_SECONDS: Final = 3600.0  # between two looks for guests who are to go
SHARES_A_SLOT: Final = 2  # messages in each queue of the broker for each worker process
MOST_ROWS: Final = 1_000  # looked at in one round, of each kind: the heads of all turns come first
MOST_SERVED: Final = 20_000  # turns whose last service is remembered
GAVE_UP: Final = "It was tried three times and never got on"


@dataclass(frozen=True)
class Kind:
    """One kind of job: its rows, the task that does a step, and whose turn it is on."""

    model: type[Job]
    task: str
    queue: str  # of settings.QUEUES
    fields: tuple[str, ...]  # the task's arguments
    turn: str  # the field over which turns are taken
    give_up: Callable[..., None]
    most: int = 0  # so many at once, that others need not wait for them; 0: no limit of its own
    paced: bool = False  # falls due by the clock several times a second: the keeper wakes at that moment, not at a tick

    @property
    def name(self) -> str:
        return self.model.__name__.lower()


KINDS: Final = (
    Kind(Run, "webapp.runs.tasks.run_slice", "slices", ("pk", "slice_no"), "tenant_id", runs.run_failed, paced=True),
    Kind(
        Negotiation,
        "webapp.runs.tasks.negotiation_work",
        "policy",
        ("pk",),
        "requester__tenant_id",
        runs.negotiation_failed,
    ),
    Kind(Rung, "webapp.runs.tasks.rung_work", "policy", ("pk",), "vm__tenant_id", runs.rung_failed),
    Kind(Cell, "webapp.classroom.tasks.cell_run", "house", ("pk",), "architecture", classroom.cell_failed),
    Kind(Drill, "webapp.classroom.tasks.drill_hold", "house", ("pk",), "architecture", drills.drill_failed, most=1),
    Kind(Attempt, "webapp.courses.tasks.attempt_work", "house", ("pk",), "member_id", lab.attempt_failed),
    Kind(PolicyTable, "webapp.courses.tasks.table_work", "house", ("pk",), "game_id", policy_play.table_failed),
    Kind(Regrade, "webapp.courses.tasks.regrade_work", "house", ("pk",), "item_id", regrades.regrade_failed, most=1),
    Kind(ChainCheck, "webapp.ops.tasks.chain_check", "house", ("pk",), "pk", watching.chain_check_failed, most=1),
    Kind(Return, "webapp.lti.tasks.return_work", "house", ("pk",), "issuer", returns.return_failed, most=1),
    # One each: a mail server or a receiver that is slow holds up its own kind, not the runs.
    Kind(Mail, "webapp.notices.tasks.mail_work", "house", ("pk",), "user_id", sending.mail_failed, most=1),
    Kind(
        Delivery, "webapp.notices.tasks.delivery_work", "house", ("pk",), "endpoint_id", sending.delivery_failed, most=1
    ),
)


def reap(now: dt.datetime) -> int:
    """Leases that ran out end; a job that was tried three times without progress is given up with the reason."""
    reaped = 0
    for kind in KINDS:
        rows = kind.model._default_manager
        stuck = rows.filter(free(now), due_at__lte=now, attempts__gte=MAX_ATTEMPTS)
        for pk in stuck.values_list("pk", flat=True):
            log.error("%s %d is given up", kind.model.__name__, pk)
            kind.give_up(pk, reason=GAVE_UP)
            tally.count("vpms_jobs_given_up_total", kind=kind.name)
        returned = rows.filter(lease_until__lt=now).update(lease_token="", lease_until=None, enqueued_at=None)
        if returned:
            tally.count("vpms_jobs_returned_total", returned, kind=kind.name)
        reaped += returned
    return reaped


def clock_set_back(now: dt.datetime) -> int:
    """Times that lie further ahead than anybody could have written them now: the clock was set back since. A lease ends
    when it would if it had begun now, a paced row is due, a message sent in the future counts as lost."""
    slack = dt.timedelta(seconds=settings.LEASE_SECONDS)
    farthest = now + dt.timedelta(seconds=settings.SLOWER) + slack  # of a paced row: a slice later
    changed = 0
    for kind in KINDS:
        rows = kind.model._default_manager
        changed += rows.filter(lease_until__gt=now + 2 * slack).update(lease_until=now + slack)
        changed += rows.filter(enqueued_at__gt=now + slack).update(enqueued_at=None)
        if kind.paced:
            changed += rows.filter(due_at__gt=farthest).update(due_at=now)
    if changed:
        log.warning("the clock was set back: %d times that lay too far ahead were moved", changed)
    return changed


def kinds_due(now: dt.datetime) -> list[Kind]:
    """The kinds of which anything is due: one question for all of them, since most looks find nothing."""
    name = connection.ops.quote_name
    asked = [
        f"SELECT {place} WHERE EXISTS (SELECT 1 FROM {name(kind.model._meta.db_table)} WHERE due_at <= %s)"
        for place, kind in enumerate(KINDS)
    ]
    at = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(asked), [at] * len(asked))
        return [KINDS[place] for (place,) in cursor.fetchall()]


Turn = tuple[str, object]  # a kind's task, and whose turn it is
_served: dict[Turn, int] = {}  # when something of the turn was last sent by this keeper, in nanoseconds of its clock


def outstanding(now: dt.datetime) -> int:
    """How many jobs are with the broker or a worker now."""
    return sum(sum(out_of(kind, now).values()) for kind in kinds_due(now))


def out_of(kind: Kind, now: dt.datetime) -> dict[object, int]:
    """How many jobs of the kind are with the broker or a worker now, by whose turn they were."""
    sent = Q(enqueued_at__gt=now - LOST_AFTER) | Q(lease_until__gte=now)
    rows = kind.model._default_manager.filter(sent, due_at__lte=now).order_by()
    return dict(rows.values_list(kind.turn).annotate(Count("pk")))


def waiting(kind: Kind, now: dt.datetime) -> list[dict[str, Any]]:
    """What of the kind is due and with nobody: the oldest of every turn first, then the second of every turn."""
    lost = Q(enqueued_at__isnull=True) | Q(enqueued_at__lt=now - LOST_AFTER)
    place = Window(RowNumber(), partition_by=[F(kind.turn)], order_by=[F("due_at").asc(), F("pk").asc()])
    rows = kind.model._default_manager.filter(free(now), lost, due_at__lte=now).annotate(place=place)
    heads = rows.filter(place__lte=SHARES_A_SLOT * settings.WORKER_SLOTS).order_by("place", "due_at")
    # Each column once: Django loses count of a column that is asked for twice beside a window.
    columns = dict.fromkeys([*kind.fields, "enqueued_at", "request_id", kind.turn])
    return list(heads.values(*columns)[:MOST_ROWS])


def due(now: dt.datetime) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """What is to be enqueued, fairly: see the module's text. No queue of the broker gets more than its share, and a
    kind that is worked few at a time no more than these."""
    turns: dict[Turn, list[dict[str, Any]]] = defaultdict(list)
    out: dict[Turn, int] = {}
    room = dict.fromkeys(settings.QUEUES, SHARES_A_SLOT * settings.WORKER_SLOTS)
    kinds = {kind.task: kind for kind in kinds_due(now)}
    left = {}
    for kind in kinds.values():
        held = out_of(kind, now)
        out |= {(kind.task, whose): number for whose, number in held.items()}
        room[kind.queue] -= sum(held.values())
        left[kind.task] = kind.most - sum(held.values()) if kind.most else MOST_ROWS
    for kind in kinds.values():
        if room[kind.queue] > 0 and left[kind.task] > 0:
            for row in waiting(kind, now):
                turns[kind.task, row[kind.turn]].append(row)
    # A heap of turns: fewest out first, then the longest not served; the dict's order, by age, decides among equals.
    order = [(out.get(turn, 0), _served.get(turn, 0), place, turn) for place, turn in enumerate(turns)]
    heapify(order)
    while order:
        number, served, place, turn = heappop(order)
        kind, rows = kinds[turn[0]], turns[turn]
        if number >= settings.WORKER_SLOTS or left[kind.task] <= 0 or room[kind.queue] <= 0:
            continue
        left[kind.task] -= 1
        room[kind.queue] -= 1
        yield kind, rows.pop(0)
        if rows:
            heappush(order, (number + 1, served, place, turn))


def relay(now: dt.datetime) -> int:
    """Enqueue what is due, as long as the broker holds few messages. A message that cannot be sent stays due."""
    sent = 0
    for kind, row in due(now):
        rows = kind.model._default_manager
        if not rows.filter(pk=row["pk"], enqueued_at=row["enqueued_at"]).update(enqueued_at=now):
            continue
        about = {"request_id": row["request_id"]} if row["request_id"] else {}
        if not send(kind.task, [row[name] for name in kind.fields], queue=kind.queue, headers=about):
            rows.filter(pk=row["pk"], enqueued_at=now).update(enqueued_at=None)
            break
        _note_served((kind.task, row[kind.turn]))
        sent += 1
    return sent


def _note_served(turn: Turn) -> None:
    if len(_served) >= MOST_SERVED:
        _served.clear()
    _served[turn] = time.monotonic_ns()


def send(task: str, args: list[Any], **options: Any) -> bool:
    """Whether the message is with the broker. Without one the row stays due, so nothing is lost."""
    try:
        app.send_task(task, args=args, retry=False, **options)
    except (KombuError, CeleryError, redis.RedisError, OSError) as error:
        log.warning("the broker is away: %s", type(error).__name__)
        return False
    return True


def waiting_since(now: dt.datetime) -> dt.datetime | None:
    """Since when the oldest row is due that no worker has; None: everything is taken up. Kinds that are worked one at
    a time wait for their turn, which is no fault of the queue."""
    times = [
        kind.model._default_manager.filter(free(now), due_at__lte=now).aggregate(at=Min("due_at"))["at"]
        for kind in kinds_due(now)
        if not kind.most
    ]
    return min((at for at in times if at is not None), default=None)


def next_due(now: dt.datetime) -> float:
    """Seconds until the next row falls due, at most one tick."""
    paced = [kind.model._default_manager for kind in KINDS if kind.paced]
    times = [rows.filter(due_at__gt=now).aggregate(at=Min("due_at"))["at"] for rows in paced]
    soonest: dt.datetime | None = min((at for at in times if at is not None), default=None)
    if soonest is None:
        return TICK_SECONDS
    return min(TICK_SECONDS, max(0.01, (soonest - now).total_seconds()))


class Bell:
    """Waits for the wake-up hint. While Redis is away it only waits."""

    def __init__(self) -> None:
        self._pubsub: Any = None

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        try:
            if self._pubsub is None:
                client: Any = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=None, socket_connect_timeout=1)
                self._pubsub = client.pubsub(ignore_subscribe_messages=True)
                self._pubsub.subscribe(publish.WAKE)
            if self._pubsub.get_message(timeout=max(0.0, end - time.monotonic())) is not None:
                while self._pubsub.get_message(timeout=0) is not None:
                    pass  # many hints are one wake-up
                return
        except (redis.RedisError, OSError):
            self._pubsub = None
        time.sleep(max(0.0, end - time.monotonic()))


class Keeper:
    """The loop. `story` is called about once a second in the demo, so that something always goes on."""

    def __init__(self, story: Callable[[], None] | None = None) -> None:
        self.story = story
        self.name = f"keeper:{os.getpid()}@{socket.gethostname()}"[:64]
        self.stopping = False
        self._bell = Bell()
        self._beat_at = self._story_at = 0.0
        self._guests_at = time.monotonic() + GUESTS_SECONDS
        self._since: dt.datetime | None = None

    def run(self) -> None:
        while not self.stopping:
            try:
                self.tick()
                self._bell.wait(next_due(timezone.now()))
            except Exception:  # the keeper outlives every defect of a single tick
                log.exception("a tick of the keeper failed")
                time.sleep(1)

    def tick(self) -> None:
        """One round: signs of life, expired leases, due rows."""
        now = timezone.now()
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + BEAT_SECONDS
            services.heartbeat(name=self.name)
            # A worker's sign of life takes the way of all work: broker, worker, database. It may serve one queue alone.
            for queue in settings.QUEUES:
                send("webapp.ops.tasks.beat", [], queue=queue, expires=BEAT_SECONDS * 2)
            clock_set_back(now)
            reap(now)
            publish.changed("jobs")
            self._since = self._since or now
            watching.look(now, oldest=waiting_since(now), up=now - self._since)
        relay(now)
        if time.monotonic() >= self._guests_at:
            self._guests_at = time.monotonic() + GUESTS_SECONDS
            retention.prune_guests()
        if self.story is not None and time.monotonic() >= self._story_at:
            self._story_at = time.monotonic() + 1
            self.story()
