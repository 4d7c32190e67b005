"""Repeats of an unsafe call: with the same Idempotency-Key the act is done once, and every repeat is answered alike."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from webapp.accounts.models import StoredAnswer
from webapp.errors import VpmsError
from webapp.rest.middleware import SAFE

HEADER: Final = "Idempotency-Key"
KEPT: Final = dt.timedelta(hours=24)
LONGEST: Final = 200
CARRIED: Final = ("Content-Type", "ETag", "Location", "Link")

Run = Callable[..., HttpResponse]


def once(run: Run) -> Run:
    """Around an operation's run. Act and answer are kept in one transaction: what fails half-way, or is refused, leaves
    neither, so the same key may try again. A repeat that comes meanwhile waits for the first to end."""
    operation: Any = run.__self__  # type: ignore[attr-defined]

    @wraps(run)
    def guarded(request: HttpRequest, **values: Any) -> HttpResponse:
        key = request.headers.get(HEADER)
        if request.method in SAFE or key is None:
            return linked(request, run(request, **values))
        refused = operation._run_checks(request)
        if refused is not None:
            return refused  # type: ignore[no-any-return]
        try:
            return _done_once(request, key, lambda: linked(request, run(request, **values)))
        except VpmsError as error:
            return operation.api.on_exception(request, error)  # type: ignore[no-any-return]

    return guarded


def linked(request: HttpRequest, answer: HttpResponse) -> HttpResponse:
    """The address of a list's next page as a header too."""
    following = getattr(request, "link_next", None)
    if following:
        answer["Link"] = f'<{following}>; rel="next"'
    return answer


def _done_once(request: HttpRequest, key: str, act: Callable[[], HttpResponse]) -> HttpResponse:
    if not 1 <= len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise VpmsError("key_malformed", 400, message=f"{HEADER} must be 1 to {LONGEST} visible ASCII characters.")
    user: Any = request.user
    digest = _digest(request)
    with transaction.atomic():
        StoredAnswer.objects.filter(at__lt=timezone.now() - KEPT).delete()
        row = _kept(user, key)
        if row is None:
            try:
                with transaction.atomic():
                    row = StoredAnswer.objects.create(user=user, key=key, digest=digest, at=timezone.now())
            except IntegrityError:  # the first of two has just ended
                row = _kept(user, key)
            else:
                return _first(request, row, act())
        assert row is not None
        if row.digest != digest:
            message = "This idempotency key was used for another request. Nothing was done now."
            raise VpmsError("key_reused", 422, message=message)
        again = HttpResponse(row.content, status=row.status, headers=row.headers)
        again["Idempotency-Replayed"] = "true"
        return again


def _kept(user: Any, key: str) -> StoredAnswer | None:
    return StoredAnswer.objects.select_for_update().filter(user=user, key=key).first()


def _first(request: HttpRequest, row: StoredAnswer, answer: HttpResponse) -> HttpResponse:
    if answer.status_code >= 400:
        transaction.set_rollback(True)
        return answer
    row.status, row.content = answer.status_code, answer.content.decode()
    hidden = getattr(request, "told_once", None)
    if hidden:  # a secret is never kept: repeats are answered without it
        row.content = json.dumps({**json.loads(row.content), hidden: None})
    row.headers = {name: answer[name] for name in CARRIED if name in answer}
    row.save(update_fields=["status", "content", "headers"])
    return answer


def _digest(request: HttpRequest) -> str:
    """What was asked, of which state, and with which rights: an answer is never told to a narrower token."""
    token: Any = getattr(request, "token", None)
    rights = token.tenant if token is not None else ""
    parts = (request.method or "", request.get_full_path(), request.headers.get("If-Match", ""), rights)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + request.body).hexdigest()
