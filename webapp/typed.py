"""A form sent after the sign-in has ended loses no typed text: the sign-in page carries it on, sealed, and the person
comes back to the filled form. Nothing of it is done before the person presses the button again.

Stands beside the apps, as the doors that call it do. Nothing is stored for people who are not signed in.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

SALT: Final = "webapp.typed"
KEPT_SECONDS: Final = 24 * 3600
MOST: Final = 256 * 1024  # characters; more is no form that a person typed
SECRET: Final = ("password", "code", "credential", "csrfmiddlewaretoken", "confirm")
SESSION_KEY: Final = "typed"


def page_of(request: HttpRequest) -> str:
    """The page on which the form stands, with its query: the one that sent it if it is of this site."""
    sent_from = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(sent_from, {request.get_host()}, require_https=request.is_secure()):
        parts = urlsplit(sent_from)
        if not parts.path.startswith("/sign-in/"):
            return parts.path + (f"?{parts.query}" if parts.query else "")
    return request.get_full_path()


def fields_of(request: HttpRequest) -> dict[str, Any]:
    """What was typed and where, without anything secret."""
    lists = {name: values for name, values in request.POST.lists() if not name.startswith(SECRET)}
    short = sum(len(value) for values in lists.values() for value in values) <= MOST
    return {"page": page_of(request), "fields": lists if short else {}}


def sign_in_page(request: HttpRequest) -> HttpResponse:
    """The answer to a form that nobody signed in has sent."""
    told = fields_of(request)
    sealed = signing.dumps(told, salt=SALT, compress=True) if told["fields"] else ""
    context = {"next": told["page"], "typed": sealed, "kept": bool(sealed)}
    return render(request, "accounts/sign_in.html", context, status=401)


def opened(sealed: str) -> dict[str, Any] | None:
    """What a sign-in page carried, if it is ours and not too old."""
    try:
        found: dict[str, Any] = signing.loads(sealed, salt=SALT, max_age=KEPT_SECONDS)
    except signing.BadSignature:
        return None
    return found


def back(request: HttpRequest, told: dict[str, Any]) -> HttpResponseRedirect:
    """Back to the page of the form, which finds there what was typed."""
    request.session[SESSION_KEY] = told
    return HttpResponseRedirect(told["page"])


def typed_for(request: HttpRequest) -> QueryDict | None:
    """What the person had typed on this page when the sign-in had ended: told once, to the page itself."""
    told = request.session.get(SESSION_KEY)
    if request.method != "GET" or not told or urlsplit(told["page"]).path != request.path:
        return None
    del request.session[SESSION_KEY]
    found = QueryDict(mutable=True)
    for name, values in told["fields"].items():
        found.setlist(name, values)
    return found
