from django.apps import AppConfig


class CoursesConfig(AppConfig):
    name = "webapp.courses"

    def ready(self) -> None:
        from webapp.accounts import selectors
        from webapp.courses import (
            class_live,
            classes,
            joining,
            kinds,
            lab_views,
            lesson_views,
            link,
            live,
            own,
            policy_live,
            policy_views,
            predict_views,
            services,
        )
        from webapp.tenants import people

        for kind in (lesson_views.KIND, lab_views.KIND, predict_views.KIND, policy_views.KIND, link.KIND):
            kinds.register(kind)
        live.register_all()
        class_live.register_all()
        policy_live.register_all()
        services.on_marked.append(classes.marked)
        selectors.more_of_own["courses"] = own.own_data
        people.on_deleted.append(own.forget)
        people.on_deleted.append(joining.account_deleted)
        people.leaving_refused.append(joining.account_refused)
