from django.urls import URLPattern, URLResolver, path

from webapp.ops import apidocs, guide_views, job_views, kiosk_views, support, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.landing, name="landing"),
    path("demo/", views.demo, name="demo"),
    path("demo/recording", views.demo_recording, name="demo-recording"),
    path("kiosk/<slug:name>/", kiosk_views.show, name="kiosk"),
    path("kiosk/<slug:name>/lock/", kiosk_views.lock, name="kiosk-lock"),
    path("kiosk/<slug:name>/leave/", kiosk_views.leave, name="kiosk-leave"),
    path("operator/screens/", kiosk_views.playlists, name="playlists"),
    path("operator/screens/<slug:name>/", kiosk_views.playlist_change, name="playlist-change"),
    path("help/", guide_views.help_page, name="help"),
    path("guide/", guide_views.guide, name="guide"),
    path("styleguide/", guide_views.styleguide, name="styleguide"),
    path("operator/jobs/", job_views.jobs, name="jobs"),
    path("operator/jobs/<slug:kind>/<int:pk>/", job_views.job, name="job"),
    path("operator/jobs/<slug:kind>/<int:pk>/act/", job_views.act, name="job-act"),
    path("healthz", views.healthz, name="healthz"),
    path("readyz", views.readyz, name="readyz"),
    path("admin/", support.site.urls),
    path("metrics", views.metrics, name="metrics"),
    path("api/docs", apidocs.docs, name="api-docs"),
    path("api/errors", apidocs.errors, name="api-errors"),
    path("api/live.schema.json", views.live_schema, name="live-schema"),
    path("api/schemas/<slug:kind>.json", views.document_schema, name="document-schema"),
]
