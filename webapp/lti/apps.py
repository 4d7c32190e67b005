from django.apps import AppConfig


class LtiConfig(AppConfig):
    name = "webapp.lti"

    def ready(self) -> None:
        from webapp.accounts import selectors
        from webapp.courses import services
        from webapp.lti import platforms, returns
        from webapp.lti import services as lti
        from webapp.tenants import people

        platforms.known()  # a faulty file stops the start, not a launch
        services.on_member_marked.append(returns.marked)
        selectors.more_of_own["learning_platforms"] = lti.own_data
        people.on_deleted.append(lti.forget)
