from django.urls import URLPattern, URLResolver, path

from webapp.runs import capacity_views, time_views, views, wall_views, workload_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/", views.my_vms, name="my-vms"),
    path("tenant/vms/", views.vms_act, name="vms-act"),
    path("tenant/workloads/", workload_views.page, name="workloads"),
    path("tenant/workloads/<int:pk>/delete/", workload_views.delete, name="workload-delete"),
    path("tenant/conduct/", views.conduct, name="conduct"),
    path("tenant/vm/<str:name>/start/", views.vm_start, name="vm-start"),
    path("tenant/vm/<str:name>/stop/", views.vm_stop, name="vm-stop"),
    path("tenant/vm/<str:name>/memory/", views.my_memory, name="my-memory"),
    path("tenant/asked/<int:pk>/", views.act_answer, name="act-answer"),
    path("operator/wall/", wall_views.page, name="wall"),
    path("operator/wall/seen/", wall_views.seen, name="wall-seen"),
    path("operator/", views.hosts, name="hosts"),
    path("operator/host/<str:name>/", views.host, name="host"),
    path("operator/capacity/", capacity_views.fleet, name="capacity"),
    path("operator/host/<str:name>/capacity/", capacity_views.host, name="host-capacity"),
    path("operator/host/<str:name>/act/", views.act, name="host-act"),
    path("operator/host/<str:name>/move/<str:vm>/", views.move, name="host-move"),
    path("operator/host/<str:name>/run/", views.run_want, name="host-run"),
    path("runs/<int:pk>/moment/", time_views.moment, name="run-moment"),
    path("runs/<int:pk>/find/", time_views.find, name="run-find"),
    path("runs/<int:pk>/frame/<int:mfn>/", time_views.frame, name="run-frame"),
    path("runs/<int:pk>/marks/", time_views.marks, name="run-marks"),
    path("runs/<int:pk>/mark/", time_views.mark, name="run-mark"),
    path("runs/<int:pk>/mark/<int:mark_id>/delete/", time_views.unmark, name="run-unmark"),
]
