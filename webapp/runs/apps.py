from django.apps import AppConfig


class RunsConfig(AppConfig):
    name = "webapp.runs"

    def ready(self) -> None:
        import webapp.celery  # noqa: F401  binds @shared_task to the one Celery application
        from webapp.runs import streams

        streams.register_all()
