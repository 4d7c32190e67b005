from django.urls import URLPattern, URLResolver, path

from webapp.lti import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("lti/login/", views.login, name="lti-login"),
    path("lti/launch/", views.launch, name="lti-launch"),
    path("lti/keys.json", views.jwks, name="lti-keys"),
    path("lti/enter/<str:token>/", views.enter, name="lti-enter"),
    path("lti/pick/<str:token>/", views.pick, name="lti-pick"),
    path("learn/courses/<int:pk>/returns/", views.course_returns, name="lti-returns"),
    path("operator/lti/", views.operator, name="lti-operator"),
    path("operator/lti/key/", views.rotate, name="lti-rotate"),
]
