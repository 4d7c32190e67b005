from django.urls import URLPattern, URLResolver, path

from webapp.courses import lab_views, lesson_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("learn/items/<int:pk>/", views.item, name="course-item"),
    path("learn/items/<int:pk>/answer/", lesson_views.item_answer, name="lesson-item-answer"),
    path("learn/items/<int:pk>/export/", lesson_views.item_export, name="lesson-item-export"),
    path("learn/lessons/", lesson_views.lesson_list, name="lessons"),
    path("learn/lessons/<slug:name>/", lesson_views.shipped, name="lesson"),
    path("learn/lessons/<slug:name>/answer/", lesson_views.shipped_answer, name="lesson-answer"),
    path("learn/lessons/<slug:name>/copy/", lesson_views.shipped_copy, name="lesson-copy"),
    path("learn/lessons/<slug:name>/export/", lesson_views.shipped_export, name="lesson-export"),
    path("learn/items/<int:pk>/lab/", lab_views.act, name="lab-act"),
    path("learn/items/<int:pk>/lab/hints/", lab_views.hint, name="lab-hint"),
    path("learn/items/<int:pk>/lab/task.yaml", lab_views.task_file, name="lab-task"),
    path("learn/attempts/<int:pk>/", lab_views.attempt, name="lab-attempt"),
    path("learn/attempts/<int:pk>/replay/<slug:architecture>/", lab_views.replay, name="lab-replay"),
]
