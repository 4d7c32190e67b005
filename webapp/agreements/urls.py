from django.urls import URLPattern, URLResolver, path

from webapp.agreements import views, vm_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/vm/new/", vm_views.vm_new, name="vm-new"),
    path("tenant/vm/<str:name>/", vm_views.preferences, name="vm-preferences"),
    path("tenant/vm/<str:name>/revert/", vm_views.revert, name="vm-revert"),
    path("tenant/negotiation/<int:pk>/", views.room, name="negotiation"),
    path("tenant/negotiation/<int:pk>/answer/", views.answer, name="negotiation-answer"),
    path("tenant/negotiation/<int:pk>/withdraw/", views.withdraw, name="negotiation-withdraw"),
    path("tenant/negotiation/<int:pk>/step/", views.step, name="negotiation-step"),
    path("tenant/moving/<int:pk>/", views.move_answer, name="move-answer"),
    path("operator/negotiation/<int:pk>/", views.operator_room, name="operator-negotiation"),
    path("tenant/host/<str:name>/goals/", views.tenant_goals, name="tenant-goals"),
    path("operator/host/<str:name>/goals/", views.operator_goals, name="operator-goals"),
    path("tenant/conflicts/", views.tenant_conflicts, name="tenant-conflicts"),
    path("operator/conflicts/", views.operator_conflicts, name="operator-conflicts"),
]
