from django.apps import AppConfig


class NoticesConfig(AppConfig):
    name = "webapp.notices"

    def ready(self) -> None:
        from webapp.notices import topics

        topics.register()
