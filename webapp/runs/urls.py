from django.urls import URLPattern, URLResolver, path

from webapp.runs import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/", views.my_vms, name="my-vms"),
    path("tenant/vm/<str:name>/start/", views.vm_start, name="vm-start"),
    path("tenant/vm/<str:name>/stop/", views.vm_stop, name="vm-stop"),
    path("tenant/vm/<str:name>/memory/", views.my_memory, name="my-memory"),
    path("tenant/asked/<int:pk>/", views.act_answer, name="act-answer"),
    path("operator/", views.hosts, name="hosts"),
    path("operator/host/<str:name>/", views.host, name="host"),
    path("operator/host/<str:name>/act/", views.act, name="host-act"),
    path("operator/host/<str:name>/run/", views.run_want, name="host-run"),
]
