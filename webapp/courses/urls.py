from django.urls import URLPattern, URLResolver, path

from webapp.courses import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("learn/items/<int:pk>/", views.item, name="course-item"),
]
