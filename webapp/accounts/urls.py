from django.urls import URLPattern, URLResolver, path

from webapp.accounts import account_views, entry_views, factor_views, oidc, token_views, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-in/second/", entry_views.second_step, name="second-step"),
    path("sign-out/", views.SignOut.as_view(), name="sign-out"),
    path("sign-in/elsewhere/<slug:provider_id>/", oidc.login, name="openid_connect_login"),
    path("sign-in/elsewhere/<slug:provider_id>/back/", oidc.callback, name="openid_connect_callback"),
    path("theme/", views.theme, name="theme"),
    path("language/", views.language, name="language"),
    path("home/", views.home, name="home"),
    path("organisation/", views.organisation_choose, name="organisation-choose"),
    path("password/forgotten/", entry_views.password_forgotten, name="password-forgotten"),
    path("password/new/<str:uid>/<str:token>/", entry_views.password_new, name="password-new"),
    path("account/", account_views.profile, name="account"),
    path("account/email/<str:sealed>/", account_views.email_confirm, name="email-confirm"),
    path("account/confirm/", entry_views.confirm, name="account-confirm"),
    path("account/password/", account_views.password, name="account-password"),
    path("account/second-factor/", factor_views.factors_list, name="account-factors"),
    path("account/second-factor/app/", factor_views.app, name="account-factor-app"),
    path("account/second-factor/key/", factor_views.key, name="account-factor-key"),
    path("account/second-factor/recovery/", factor_views.recovery, name="account-recovery"),
    path("account/second-factor/<int:pk>/remove/", factor_views.remove, name="account-factor-remove"),
    path("account/sessions/", account_views.sessions_page, name="account-sessions"),
    path("account/data/", account_views.data, name="account-data"),
    path("account/elsewhere/part/", account_views.elsewhere_part, name="account-elsewhere-part"),
    path("account/tokens/", token_views.token_page, name="tokens"),
    path("account/tokens/<int:pk>/revoke/", token_views.token_revoke, name="token-revoke"),
]
