from django.urls import URLPattern, URLResolver, path

from webapp.accounts import token_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", views.SignOut.as_view(), name="sign-out"),
    path("theme/", views.theme, name="theme"),
    path("home/", views.home, name="home"),
    path("account/tokens/", token_views.token_page, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", token_views.token_revoke, name="token-revoke"),
]
