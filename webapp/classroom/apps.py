from django.apps import AppConfig


class ClassroomConfig(AppConfig):
    name = "webapp.classroom"

    def ready(self) -> None:
        from webapp.classroom import live

        live.register_all()
