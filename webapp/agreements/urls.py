from django.urls import URLPattern, URLResolver, path

from webapp.agreements import leaving_views, paper_views, views, vm_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/delete/", leaving_views.organisation_delete, name="organisation-delete"),
    path("tenant/vm/new/", vm_views.vm_new, name="vm-new"),
    path("tenant/vm/<str:name>/", vm_views.preferences, name="vm-preferences"),
    path("tenant/vm/<str:name>/wishes.<str:kind>", vm_views.wishes_file, name="wishes-file"),
    path("tenant/vm/<str:name>/revert/", vm_views.revert, name="vm-revert"),
    path("tenant/vm/<str:name>/delete/", vm_views.vm_delete, name="vm-delete"),
    path("tenant/vm/<str:name>/move/", vm_views.vm_move, name="vm-move"),
    path("tenant/vm/<str:name>/goal/", vm_views.goal_waive, name="goal-waive"),
    path("tenant/negotiation/<int:pk>/", views.room, name="negotiation"),
    path("tenant/negotiation/<int:pk>/answer/", views.answer, name="negotiation-answer"),
    path("tenant/negotiation/<int:pk>/auto/", views.auto_accept, name="negotiation-auto"),
    path("tenant/negotiation/<int:pk>/withdraw/", views.withdraw, name="negotiation-withdraw"),
    path("tenant/negotiation/<int:pk>/step/", views.step, name="negotiation-step"),
    path("tenant/moving/<int:pk>/", views.move_answer, name="move-answer"),
    path("operator/negotiation/<int:pk>/", views.operator_room, name="operator-negotiation"),
    path("tenant/host/<str:name>/goals/", views.tenant_goals, name="tenant-goals"),
    path("operator/host/<str:name>/goals/", views.operator_goals, name="operator-goals"),
    path("tenant/agreements/", paper_views.tenant_papers, name="tenant-papers"),
    path("tenant/agreements/<int:pk>/", paper_views.tenant_paper, name="tenant-paper"),
    path("tenant/keys/", paper_views.tenant_keys, name="tenant-keys"),
    path("tenant/keys/replace/", paper_views.tenant_key_replace, name="tenant-key-replace"),
    path("operator/agreements/", paper_views.operator_papers, name="operator-papers"),
    path("operator/agreements/<int:pk>/", paper_views.operator_paper, name="operator-paper"),
    path("operator/keys/", paper_views.operator_keys, name="operator-keys"),
    path("operator/keys/replace/", paper_views.operator_key_replace, name="operator-key-replace"),
    path("tenant/conflicts/", views.tenant_conflicts, name="tenant-conflicts"),
    path("operator/conflicts/", views.operator_conflicts, name="operator-conflicts"),
]
