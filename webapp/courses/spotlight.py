"""A student's attack on everybody's screen: asked for by the teacher, shown only while the student wants it.

A wish that was declined is told to who asked, as "not now", and to nobody else; the same teacher does not ask the same
student again for a while.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.courses import classes, selectors
from webapp.courses.models import Attempt, ClassSession, Seat, Spotlight
from webapp.errors import VpmsError
from webapp.live import publish

State = Spotlight.State
NOT_AGAIN: Final = dt.timedelta(minutes=10)
STATES: Final = tuple(State.values)


# -- what each side sees


def asked_of(seat: Seat) -> dict[str, Any] | None:
    """What this seat is asked for, or shows; None: nothing."""
    spot = seat.session.spotlight
    if spot is None or spot.seat_id != seat.pk or spot.state not in Spotlight.OPEN:
        return None
    shown = {"title": spot.attempt.item.title, "nickname": seat.member.nickname, "made_at": spot.attempt.made_at}
    return {"state": spot.state, "attempt": spot.attempt_id, "named": spot.named, **shown}


def wish_of(*, session: ClassSession, user: Any) -> dict[str, Any] | None:
    """The newest wish of this teacher, with what became of it. Of another's only what all can see."""
    spot = session.spotlight
    if spot is None or spot.state == State.OVER:
        return None
    if spot.asked_by.user_id != user.pk:
        named = spot.seat.member.nickname if spot.named else _("somebody")
        return {"state": spot.state, "nickname": named} if spot.state == State.SHOWN else None
    return {"state": spot.state, "nickname": spot.seat.member.nickname}


def number_of(seat: int) -> int:
    """Rises with all that happens to wishes to this seat."""
    spot = Spotlight.objects.filter(seat=seat).order_by("-id").values_list("pk", "state").first()
    return spot[0] * len(STATES) + STATES.index(spot[1]) if spot else 0


# -- the teacher


@transaction.atomic
def ask(*, by: User, seat: Seat) -> Spotlight:
    """Ask the student of this seat to show the newest attack of theirs that was executed. An earlier wish that waits is
    withdrawn."""
    row = classes.locked(by, seat.session)
    asker = selectors.must_teach(user=by, course=row.course)
    if row.spotlights.filter(state=State.SHOWN).exists():
        raise VpmsError("invalid_transition", 409, message=_("An attack is shown already. Stop showing it first."))
    since = timezone.now() - NOT_AGAIN
    if row.spotlights.filter(seat=seat, asked_by=asker, state=State.DECLINED, answered_at__gt=since).exists():
        told = _("They said not now. Ask somebody else, or again in ten minutes.")
        raise VpmsError("invalid_transition", 409, message=told)
    done = Attempt.objects.filter(member=seat.member, item__course=row.course, state=Attempt.State.DONE)
    attempt = done.order_by("-id").first()
    if attempt is None or seat.removed_at is not None:
        raise VpmsError("invalid_transition", 409, message=_("There is no attack of theirs that was executed."))
    row.spotlights.filter(state=State.ASKED).update(state=State.OVER)
    made = Spotlight.objects.create(session=row, seat=seat, attempt=attempt, asked_by=asker)
    _told(row)
    return made


@transaction.atomic
def stop(*, by: User, session: ClassSession) -> None:
    """What is shown goes off all screens; a wish that waits is withdrawn."""
    _over(classes.locked(by, session))


# -- the student


@transaction.atomic
def agree(*, seat: Seat, named: bool) -> None:
    """Everybody in the class sees the attack from now on, with the nickname or without it."""
    row = ClassSession.objects.select_for_update().get(pk=seat.session_id)
    changed = row.spotlights.filter(seat=seat, state=State.ASKED).update(
        state=State.SHOWN, named=named, answered_at=timezone.now()
    )
    if not changed:
        if row.spotlights.filter(seat=seat, state=State.SHOWN).exists():
            return  # a repeated post
        raise VpmsError("invalid_transition", 409, message=_("Nothing is asked of you now."))
    audit.record(by=seat.member.user, type="class.spotlight", subject=f"course:{row.course_id}", data={"class": row.pk})
    classes.moved(row)
    _told(row)


@transaction.atomic
def decline(*, seat: Seat) -> None:
    """Not now. It is written nowhere else, and no screen changes."""
    row = ClassSession.objects.select_for_update().get(pk=seat.session_id)
    row.spotlights.filter(seat=seat, state=State.ASKED).update(state=State.DECLINED, answered_at=timezone.now())
    _told(row)


@transaction.atomic
def end(*, seat: Seat) -> None:
    """The student's attack goes off all screens at once."""
    _over(ClassSession.objects.select_for_update().get(pk=seat.session_id), seat=seat)


def _over(row: ClassSession, **whose: Any) -> None:
    shown = row.spotlights.filter(state=State.SHOWN, **whose).update(state=State.OVER)
    row.spotlights.filter(state=State.ASKED, **whose).update(state=State.OVER)
    if shown:
        classes.moved(row)
    _told(row)


def _told(row: ClassSession) -> None:
    """The desk and the seats look anew; each seat sees its own alone."""
    classes.desk_moved(row)
    publish.changed(f"{classes.topic(row.code)}/seat")
