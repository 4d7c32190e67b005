from django.apps import AppConfig


class CoursesConfig(AppConfig):
    name = "webapp.courses"

    def ready(self) -> None:
        from webapp.courses import kinds, lab_views, lesson_views, live

        for kind in (lesson_views.KIND, lab_views.KIND):
            kinds.register(kind)
        live.register_all()
