"""Doors for Celery: names of services, ids only."""

from celery import shared_task

from webapp.classroom import drills, services


@shared_task
def cell_run(cell_id: int) -> None:
    services.cell_run(cell_id=cell_id)


@shared_task
def drill_hold(drill_id: int) -> None:
    drills.drill_hold(drill_id=drill_id)
