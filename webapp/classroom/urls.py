from django.urls import URLPattern, URLResolver, path

from webapp.classroom import drill_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("teach/", views.teach, name="teach"),
    path("teach/run/", views.run_again, name="teach-run"),
    path("teach/cell/<int:pk>/", views.cell, name="teach-cell"),
    path("teach/what-if/", views.what_if, name="teach-what-if"),
    path("teach/cell/<int:pk>/compare/", views.compare, name="teach-compare"),
    path("teach/cell/<int:pk>/verdict.json", views.verdict, name="teach-verdict"),
    path("tenant/vm/<str:name>/drill/", views.my_drill, name="my-drill"),
    path("tenant/vm/<str:name>/consequences/", views.consequences_page, name="consequences"),
    path("operator/drills/", drill_views.drills, name="drills"),
    path("operator/drills/<int:pk>/", drill_views.drill, name="drill"),
    path("operator/drills/plans/<int:pk>/", drill_views.schedule_act, name="drill-schedule-act"),
    path("learn/", views.learn, name="learn"),
    path("learn/walk/", views.walk_page, name="walk"),
    path("learn/walk/<slug:case>.<slug:kind>", views.walk_file, name="walk-file"),
]
