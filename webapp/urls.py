"""Routing of HTTP: every app brings its own pages, webapp.api its routers."""

from django.urls import include, path

from webapp.api import api

urlpatterns = [
    path("api/", api.urls),
    *[
        path("", include(f"webapp.{app}.urls"))
        for app in (
            "accounts",
            "audit",
            "notices",
            "tenants",
            "fleet",
            "agreements",
            "runs",
            "classroom",
            "courses",
            "lti",
            "shares",
            "ops",
            "live",
        )
    ],
]
handler400 = "webapp.pages.bad_request"
handler403 = "webapp.pages.forbidden"
handler404 = "webapp.pages.not_found"
