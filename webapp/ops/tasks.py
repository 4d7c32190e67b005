"""Doors for Celery; names only the keeper knows."""

from celery import shared_task

from webapp.jobs import worker_name
from webapp.ops import services, watching


@shared_task
def beat() -> None:
    services.heartbeat(name=worker_name())


@shared_task
def chain_check(check_id: int) -> None:
    watching.chain_check(check_id=check_id)
