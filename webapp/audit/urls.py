from django.urls import URLPattern, URLResolver, path

from webapp.audit import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/audit/", views.tenant_audit, name="tenant-audit"),
    path("tenant/audit/lines/", views.tenant_lines, name="tenant-audit-lines"),
    path("operator/audit/", views.operator_audit, name="operator-audit"),
    path("operator/audit/lines/", views.operator_lines, name="operator-audit-lines"),
]
