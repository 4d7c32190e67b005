"""Doors for Celery; names only the keeper knows."""

import os
import socket

from celery import shared_task

from webapp.ops import services, watching


@shared_task
def beat() -> None:
    services.heartbeat(name=f"worker:{os.getpid()}@{socket.gethostname()}")


@shared_task
def chain_check(check_id: int) -> None:
    watching.chain_check(check_id=check_id)
