"""Doors for Celery: names of services, ids only."""

from celery import shared_task

from webapp.courses import lab, policy_play, regrades


@shared_task
def attempt_work(attempt_id: int) -> None:
    lab.attempt_work(attempt_id=attempt_id)


@shared_task
def regrade_work(regrade_id: int) -> None:
    regrades.regrade_work(regrade_id=regrade_id)


@shared_task
def table_work(table_id: int) -> None:
    policy_play.table_work(table_id=table_id)
