"""The Celery application, loaded by webapp.runs.apps when Django is ready: `import webapp.vpms` loads neither."""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import threading
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import setup_logging, task_postrun, task_prerun, worker_process_init, worker_ready
from django.conf import settings
from django.db import close_old_connections

from webapp import logs

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
CUT_SECONDS, DEAF_SECONDS = 2.5, 8
GIVE_BACK_SECONDS = 10

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")  # before: Celery asks for it once, here

app = Celery("webapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def end_with_parent(**_: Any) -> None:
    """A pool process ends with its worker, also when that is killed: an orphan would hold its lease for nobody."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@worker_process_init.connect
def keep_modules_out_of_collections(**_: Any) -> None:
    """A slice that loads a checkpoint collects garbage first: most of its time went into looking at modules."""
    gc.freeze()


@worker_ready.connect
def watch_the_way(sender: Any, **_: Any) -> None:
    """A worker waits for ever on a connection that a firewall has forgotten: no limit of kombu's reaches that read."""
    threading.Thread(target=leave_when_deaf, args=(sender,), name="deaf", daemon=True).start()


def leave_when_deaf(consumer: Any) -> None:
    """When messages wait and this worker has nothing to do, cut its ways to the broker, so that it connects anew; if
    that does not help within 8 s, end it: who watches it starts it again."""
    from celery.worker import state  # of a worker alone

    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://", 1)
    queues = [queue.name for queue in consumer.task_consumer.queues]
    since, cut = 0.0, False
    while True:
        time.sleep(1)
        try:  # a connection of its own each time: that is what is doubted
            with redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1) as client:
                waiting = any(client.llen(name) for name in queues)
        except redis.RedisError:
            waiting = False
        if not waiting or state.reserved_requests or state.active_requests:
            since, cut = 0.0, False
            continue
        since = since or time.monotonic()
        if time.monotonic() > since + DEAF_SECONDS:
            log.error("messages wait and none arrives: the way to the broker is dead; this worker ends")
            os._exit(1)
        if time.monotonic() > since + CUT_SECONDS and not cut:
            log.warning("messages wait and none arrives: this worker connects to the broker anew")
            cut = True
            try:
                cut_ways(consumer.connection)
            except Exception:  # this thread must live on: it is also who ends a worker that nothing reaches
                log.exception("the ways to the broker could not be cut")


def cut_ways(connection: Any) -> None:
    """Shut down the sockets on which this kombu connection waits for messages: its reader then sees the end of them.
    None: the worker is connecting anew already."""
    if connection is None:
        return
    for number in list(connection.transport.cycle.fds):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as same:
            same.shutdown(socket.SHUT_RDWR)


@setup_logging.connect
def as_everywhere(**_: Any) -> None:
    """The worker logs as the settings say: that this is connected keeps Celery from setting up its own."""


@task_prerun.connect
def begins(task: Any, **_: Any) -> None:
    """Every line that a task logs names the request that led to it, the task and the worker."""
    headers = task.request.headers or {}
    logs.clear()
    if headers.get("request_id"):
        logs.bind(request_id=str(headers["request_id"]))
    logs.bind(
        task=task.name.rpartition(".")[2],
        worker=f"{os.getpid()}@{socket.gethostname()}",
    )


@task_postrun.connect
def ends(**_: Any) -> None:
    close_old_connections()  # on PostgreSQL back into the pool, which Celery itself would throw away
    give_back()
    logs.clear()


_given_back_at = 0.0


def give_back() -> None:
    """Now and then collect garbage and hand freed memory back to the system. The machines of a drill's experiment are
    cyclic garbage, and leave holes of some 25 MB in the heap of glibc, which keeps them until it is asked; other C
    libraries have nothing to ask."""
    global _given_back_at
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None and time.monotonic() > _given_back_at + GIVE_BACK_SECONDS:
        _given_back_at = time.monotonic()
        gc.collect()
        trim(0)
