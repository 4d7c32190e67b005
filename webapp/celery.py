"""The Celery application, loaded by webapp.runs.apps when Django is ready: `import webapp.vpms` loads neither."""

import ctypes
import gc
import os
import signal
import socket
from typing import Any

from celery import Celery
from celery.signals import setup_logging, task_postrun, task_prerun, worker_process_init

from webapp import logs

PR_SET_PDEATHSIG = 1

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
    logs.clear()
