from django.apps import AppConfig


class LtiConfig(AppConfig):
    name = "webapp.lti"

    def ready(self) -> None:
        from webapp.courses import services
        from webapp.lti import platforms, returns

        platforms.known()  # a faulty file stops the start, not a launch
        services.on_member_marked.append(returns.marked)
