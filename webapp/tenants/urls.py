from django.urls import URLPattern, URLResolver, path

from webapp.tenants import people_views

urlpatterns: list[URLPattern | URLResolver] = [
    path("tenant/people/", people_views.tenant_people, name="people"),
    path("tenant/people/change/", people_views.tenant_people_change, name="people-change"),
    path("operator/people/", people_views.site_people, name="site-people"),
    path("operator/people/change/", people_views.site_people_change, name="site-people-change"),
    path("operator/organisations/", people_views.organisation_new, name="organisation-new"),
    path("invitation/<str:token>/", people_views.invitation, name="invitation"),
    path("account/delete/", people_views.account_delete, name="account-delete"),
]
