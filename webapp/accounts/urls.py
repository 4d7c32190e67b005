from django.urls import URLPattern, URLResolver, path

from webapp.accounts import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", views.SignOut.as_view(), name="sign-out"),
    path("theme/", views.theme, name="theme"),
    path("language/", views.language, name="language"),
    path("home/", views.home, name="home"),
]
