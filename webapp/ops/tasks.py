"""Doors for Celery; names only the keeper knows."""

import os
import socket

from celery import shared_task

from webapp.ops import services


@shared_task
def beat() -> None:
    services.heartbeat(name=f"worker:{os.getpid()}@{socket.gethostname()}")
