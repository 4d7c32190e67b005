"""The Celery application, loaded by webapp.runs.apps when Django is ready: `import webapp.vpms` loads neither."""

import ctypes
import signal
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

PR_SET_PDEATHSIG = 1

app = Celery("webapp")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def end_with_parent(**_: Any) -> None:
    """A pool process ends with its worker, also when that is killed: an orphan would hold its lease for nobody."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
