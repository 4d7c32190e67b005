"""Doors for Celery: names of services, ids only."""

from celery import shared_task

from webapp.notices import sending


@shared_task(time_limit=30)  # a name server may hang; then the lease runs out, and another attempt is made
def mail_work(mail_id: int) -> None:
    sending.mail_work(mail_id=mail_id)


@shared_task(time_limit=30)
def delivery_work(delivery_id: int) -> None:
    sending.delivery_work(delivery_id=delivery_id)
