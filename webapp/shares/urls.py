from django.urls import URLPattern, URLResolver, path

from webapp.shares import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("shared/", views.mine, name="shares"),
    path("shared/new/", views.new, name="share-new"),
    path("shared/<int:pk>/revoke/", views.revoke, name="share-revoke"),
    path("s/<slug:ref>/", views.opened, name="share-open"),
    path("s/<slug:ref>/picture.svg", views.picture, name="share-picture"),
    path("s/<slug:ref>/frames", views.frames, name="share-frames"),
]
