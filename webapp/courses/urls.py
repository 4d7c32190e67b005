from django.urls import URLPattern, URLResolver, path

from webapp.courses import class_views, course_views, lab_views, lesson_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("learn/courses/", course_views.mine, name="courses"),
    path("learn/courses/<int:pk>/", course_views.course, name="course"),
    path("learn/courses/<int:pk>/add/", course_views.shipped_add, name="course-add"),
    path("learn/courses/<int:pk>/class/", class_views.open_course, name="class-open"),
    path("learn/items/<int:pk>/act/", course_views.item_act, name="item-act"),
    path("learn/lessons/<slug:name>/class/", class_views.open_lesson, name="class-of-lesson"),
    path("join/", class_views.join, name="join"),
    path("join/<slug:code>/", class_views.join, name="join-code"),
    path("learn/class/<slug:code>/", class_views.show, name="class"),
    path("learn/class/<slug:code>/answer/", class_views.answer, name="class-answer"),
    path("learn/class/<slug:code>/seat/", class_views.seat_act, name="class-seat"),
    path("learn/class/<slug:code>/desk/", class_views.desk, name="class-desk"),
    path("learn/class/<slug:code>/act/", class_views.desk_act, name="class-act"),
    path("learn/class/<slug:code>/wall/", class_views.wall, name="class-wall"),
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
