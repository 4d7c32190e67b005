from django.urls import URLPattern, URLResolver, path

from webapp.notices import alert_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("notices/", views.notices, name="notices"),
    path("notices/read/", views.read, name="notices-read"),
    path("notices/bell/", views.bell, name="notices-bell"),
    path("account/notifications/", views.choices, name="notice-choices"),
    path("tenant/webhooks/", views.webhooks, name="webhooks"),
    path("tenant/webhooks/<int:pk>/", views.webhook, name="webhook"),
    path("tenant/webhooks/<int:pk>/act/", views.webhook_act, name="webhook-act"),
    path("operator/webhooks/", views.site_webhooks, name="site-webhooks"),
    path("operator/webhooks/<int:pk>/", views.site_webhook, name="site-webhook"),
    path("operator/webhooks/<int:pk>/act/", views.site_webhook_act, name="site-webhook-act"),
    path("operator/alerts/", alert_views.alerts, name="alerts"),
    path("operator/alerts/test/", alert_views.alert_test, name="alert-test"),
    path("operator/alerts/strip/", alert_views.strip, name="alert-strip"),
    path("operator/alerts/badge/", alert_views.badge, name="alert-badge"),
    path("operator/alerts/runbooks/", alert_views.runbooks, name="runbooks"),
    path("operator/alerts/<int:pk>/", alert_views.alert, name="alert"),
    path("operator/alerts/<int:pk>/act/", alert_views.alert_act, name="alert-act"),
    path("api/schemas/webhook.json", views.schema, name="webhook-schema"),
]
