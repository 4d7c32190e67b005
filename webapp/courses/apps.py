from django.apps import AppConfig


class CoursesConfig(AppConfig):
    name = "webapp.courses"

    def ready(self) -> None:
        from webapp.courses import kinds, lesson_views

        for kind in (lesson_views.KIND,):
            kinds.register(kind)
