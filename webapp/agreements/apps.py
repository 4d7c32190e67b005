from django.apps import AppConfig


class AgreementsConfig(AppConfig):
    name = "webapp.agreements"

    def ready(self) -> None:
        from webapp.agreements import topics

        topics.register()
