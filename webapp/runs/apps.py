from typing import Any

from celery.signals import worker_init
from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "webapp.runs"

    def ready(self) -> None:
        import webapp.celery  # noqa: F401  binds @shared_task to the one Celery application
        from webapp.runs import streams

        streams.register_all()
        worker_init.connect(_warm)


def _warm(**_: Any) -> None:
    """The recorded programs are read before a worker forks: read once, and shared by all its processes."""
    from webapp.runs import engine

    engine.warm()
