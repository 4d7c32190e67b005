from django.apps import AppConfig
from django.conf import settings


class OpsConfig(AppConfig):
    name = "webapp.ops"

    def ready(self) -> None:
        from webapp import tally
        from webapp.ops import figures, topics

        topics.register()
        if settings.METRICS_SECONDS:
            tally.on_first = figures.begin
