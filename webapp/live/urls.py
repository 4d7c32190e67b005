from django.urls import URLPattern, URLResolver, path

from webapp.live import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("live/newest/", views.newest, name="live-newest"),
]
