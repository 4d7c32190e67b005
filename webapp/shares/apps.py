from django.apps import AppConfig


class SharesConfig(AppConfig):
    name = "webapp.shares"

    def ready(self) -> None:
        from webapp.accounts import selectors
        from webapp.shares import services
        from webapp.tenants import people

        selectors.more_of_own["shares"] = services.own_data
        people.on_deleted.append(services.forget)
