"""Doors for Celery; names only the keeper knows."""

from celery import shared_task

from webapp.jobs import worker_name
from webapp.ops import services


@shared_task
def beat() -> None:
    services.heartbeat(name=worker_name())
