"""Doors for Celery: names of services, ids only."""

from celery import shared_task

from webapp.lti import returns


@shared_task
def return_work(return_id: int) -> None:
    returns.return_work(return_id=return_id)
