"""Doors for Celery: names of services, ids only."""

from celery import shared_task

from webapp.classroom import services


@shared_task
def cell_run(cell_id: int) -> None:
    services.cell_run(cell_id=cell_id)
