from django.apps import AppConfig


class CoursesConfig(AppConfig):
    name = "webapp.courses"

    def ready(self) -> None:
        from webapp.courses import kinds, lab_views, live

        kinds.register(lab_views.KIND)
        live.register_all()
