from django.urls import URLPattern, URLResolver, path

from webapp.notices import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("notices/", views.notices, name="notices"),
    path("notices/read/", views.read, name="notices-read"),
    path("notices/bell/", views.bell, name="notices-bell"),
    path("account/notifications/", views.choices, name="notice-choices"),
    path("tenant/webhooks/", views.webhooks, name="webhooks"),
    path("tenant/webhooks/<int:pk>/", views.webhook, name="webhook"),
    path("tenant/webhooks/<int:pk>/act/", views.webhook_act, name="webhook-act"),
    path("api/schemas/webhook.json", views.schema, name="webhook-schema"),
]
