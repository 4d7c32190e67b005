from django.urls import URLPattern, URLResolver, path

from webapp.courses import lab_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("learn/items/<int:pk>/", views.item, name="course-item"),
    path("learn/items/<int:pk>/lab/", lab_views.act, name="lab-act"),
    path("learn/items/<int:pk>/lab/hints/", lab_views.hint, name="lab-hint"),
    path("learn/items/<int:pk>/lab/task.yaml", lab_views.task_file, name="lab-task"),
    path("learn/attempts/<int:pk>/", lab_views.attempt, name="lab-attempt"),
    path("learn/attempts/<int:pk>/replay/<slug:architecture>/", lab_views.replay, name="lab-replay"),
]
