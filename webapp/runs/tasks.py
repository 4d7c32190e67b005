"""Doors for Celery: names of services, ids only."""

import time

from celery import shared_task
from django.conf import settings

from webapp import logs, tally
from webapp.runs import services


@shared_task(time_limit=settings.SLICE_HARD_SECONDS)  # then its lease runs out, and another attempt is made
def run_slice(run_id: int, slice_no: int) -> None:
    services.run_slice(run_id=run_id, slice_no=slice_no)


@shared_task
def rung_work(rung_id: int) -> None:
    services.rung_work(rung_id=rung_id)


@shared_task
def negotiation_work(negotiation_id: int) -> None:
    began = time.perf_counter()
    with logs.working(negotiation=negotiation_id):
        services.negotiation_work(negotiation_id=negotiation_id)
        tally.observe("vpms_negotiation_step_seconds", time.perf_counter() - began)
