"""Grades on their way back to a platform: an outbox with tries that grow rarer, given up in the end, sent twice without
harm. A score carries the time at which the mark changed, so a platform that has it already, or a newer one, keeps it.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from webapp import jobs
from webapp.audit import services as audit
from webapp.courses.models import Item, Mark, Member
from webapp.errors import VpmsError
from webapp.live import publish
from webapp.lti import keys, platforms
from webapp.lti.launches import SCORE
from webapp.lti.models import Return
from webapp.notices import outgoing

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.lti.launches import Launch
    from webapp.lti.platforms import Platform

PAUSES: Final = (10, 60, 300, 1800, 7200, 21_600)  # seconds before the next try; after the last it is given up
HAS_NEWER: Final = 409  # the platform has this score, or a newer one
State = Return.State

_tokens: dict[tuple[str, str], tuple[float, str]] = {}


def way_keep(*, launch: Launch, item: Item, member: Member) -> None:
    """From now on this student's points at the item go back to where the student came from."""
    row, fresh = Return.objects.get_or_create(
        issuer=launch.issuer,
        client_id=launch.client_id,
        subject=launch.subject,
        line_item=launch.line_item,
        item=item,
        defaults={"member": member},
    )
    if fresh and Mark.objects.filter(item=item, member=member).exists():
        marked(item.pk, member.pk)
    elif row.member_id != member.pk:
        Return.objects.filter(pk=row.pk).update(member=member)


def marked(item_id: int, member_id: int) -> None:
    """A mark has changed: it is due at once, wherever its student came from. Inside the caller's transaction."""
    now = timezone.now()
    rows = Return.objects.filter(item=item_id, member=member_id)
    if rows.update(
        state=State.WAITING, version=F("version") + 1, changed_at=now, tries=0, due_at=now, enqueued_at=None, error=""
    ):
        publish.wake_keeper()


@transaction.atomic
def again(*, by: User, row: Return) -> Return:
    """One that was given up is tried from the beginning; the caller has checked who asks."""
    changed = Return.objects.filter(pk=row.pk, state=State.FAILED).update(
        state=State.WAITING, tries=0, attempts=0, due_at=timezone.now(), enqueued_at=None
    )
    if not changed:
        raise VpmsError("not_possible", 409, message="This is not possible in the state that it is in now.")
    told = {"item": row.item_id, "return": row.pk}
    audit.record(by=by, type="course.return", subject=f"course:{row.item.course_id}", data=told)
    publish.wake_keeper()
    row.refresh_from_db()
    return row


# -- the worker's side


def return_work(*, return_id: int) -> None:
    """One try, if it is due and nobody else is at it."""
    token = jobs.claim(Return, return_id, state=State.WAITING)
    if token is None:
        return
    row = Return.objects.select_related("item").get(pk=return_id)
    mark = Mark.objects.filter(item=row.item_id, member=row.member_id).first()
    with jobs.kept(Return, return_id, token):
        try:
            _send(row, mark)
            error = ""
        except outgoing.Refused as refused:
            error = str(refused)
    _judged(row, token, mark.points if mark else None, error)


@transaction.atomic
def _judged(row: Return, token: str, points: float | None, error: str) -> None:
    """What the try came to. A change of the mark that came meanwhile is due at once; with the lease lost nothing."""
    held = Return.objects.select_for_update().get(pk=row.pk)
    now = timezone.now()
    if held.version != row.version:
        jobs.commit(Return, row.pk, token, due_at=now)
        return
    changes: dict[str, Any] = {"error": error[:200]}
    due = None
    if not error:
        changes |= {"state": State.SENT, "sent_points": points, "sent_at": now}
    elif held.tries >= len(PAUSES):
        changes |= {"state": State.FAILED}
    else:
        due = now + dt.timedelta(seconds=PAUSES[held.tries])
    jobs.commit(Return, row.pk, token, due_at=due, tries=F("tries") + 1, **changes)


def return_failed(return_id: int, *, reason: str) -> None:
    """Workers died of it three times."""
    Return.objects.filter(pk=return_id).update(
        state=State.FAILED, due_at=None, lease_token="", lease_until=None, attempts=0, error=reason[:200]
    )


def score_of(row: Return, mark: Mark | None) -> dict[str, Any]:
    """What the platform is told; of a mark that is gone, that there is none."""
    at = row.changed_at or timezone.now()
    told: dict[str, Any] = {
        "userId": row.subject,
        "timestamp": at.astimezone(dt.UTC).isoformat(timespec="milliseconds"),
    }
    if mark is None:
        return {**told, "activityProgress": "Initialized", "gradingProgress": "NotReady"}
    points = {"scoreGiven": mark.points, "scoreMaximum": row.item.points or 1}
    return {**told, **points, "activityProgress": "Submitted", "gradingProgress": "FullyGraded"}


def _send(row: Return, mark: Mark | None) -> None:
    """The score is with the platform; else Refused with what was wrong."""
    platform = platforms.found(row.issuer, row.client_id)
    if platform is None:
        raise outgoing.Refused("The operator does not name this platform any more.")
    headers = {
        "Authorization": "Bearer " + _token(platform),
        "Content-Type": "application/vnd.ims.lis.v1.score+json",
    }
    body = json.dumps(score_of(row, mark)).encode()
    status, _content = outgoing.call("POST", scores_url(row.line_item), body, headers, hosts=platform.callable)
    if status == 401:
        _tokens.pop((platform.issuer, platform.client_id), None)
    if not (200 <= status < 300 or status == HAS_NEWER):
        raise outgoing.Refused(f"The platform answered with status {status}.")


def scores_url(line_item: str) -> str:
    """The address of a line item's scores: `/scores` before what follows the `?`."""
    parts = urlsplit(line_item)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + "/scores", fragment=""))


def _token(platform: Platform) -> str:
    """A token of the platform for scores, kept until shortly before it ends."""
    at, token = _tokens.get((platform.issuer, platform.client_id), (0.0, ""))
    if at > time.monotonic():
        return token
    who = {"iss": platform.client_id, "sub": platform.client_id, "aud": platform.token_url}
    asked = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": keys.signed(who),
        "scope": SCORE,
    }
    status, content = outgoing.call(
        "POST",
        platform.token_url,
        urlencode(asked).encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
        hosts=platform.callable,
    )
    try:
        told = json.loads(content) if status == 200 else {}
        token, lasts = str(told["access_token"]), float(told.get("expires_in", 0))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise outgoing.Refused(f"The platform gave no token (status {status}).") from None
    _tokens[platform.issuer, platform.client_id] = (time.monotonic() + lasts - 60, token)
    return token
