"""What courses keep about a person: to take away, to forget with the account, and to let go after a class."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from webapp.accounts.models import User
from webapp.courses.models import (
    Adjustment,
    Attempt,
    ClassAnswer,
    GuestMarks,
    LabWork,
    LessonAnswer,
    Mark,
    Member,
    PolicyAnswer,
    PolicyClaim,
    PolicySeat,
    Prediction,
    Seat,
)


def own_data(user: User) -> dict[str, Any]:
    """Courses and classes, answers, files, attempts and marks of the person. Graded seeds are told to nobody."""
    members = Member.objects.filter(user=user)
    drafts = LabWork.objects.filter(member__in=members).exclude(text="")
    return {
        "courses": [
            {"course": row.course.title, "role": row.role, "nickname": row.nickname, **_since(row.joined_at)}
            for row in members.select_related("course")
        ],
        "classes": [
            {"course": row.session.course.title, **_since(row.taken_at)}
            for row in Seat.objects.filter(member__in=members).select_related("session__course")
        ],
        "class_answers": list(ClassAnswer.objects.filter(seat__member__in=members).values("number", "choice")),
        "lesson_answers": list(
            LessonAnswer.objects.filter(user=user).values("item", "lesson", "key", "choice", "right")
        ),
        "predictions": list(Prediction.objects.filter(user=user).values("item", "source", "step", "kind", "choice")),
        "drafts": list(drafts.values("item", "text", "hints")),
        "attempts": [
            {
                "item": row.item.title,
                "text": row.text,
                "graded": row.graded,
                "points": row.points,
                **_since(row.made_at),
            }
            for row in Attempt.objects.filter(member__in=members).select_related("item").order_by("pk")
        ],
        "policy_claims": list(
            PolicyClaim.objects.filter(seat__member__in=members).values("seat__game__item", "declaration", "claim")
        ),
        "policy_answers": list(
            PolicyAnswer.objects.filter(seat__member__in=members).values("seat__game__item", "declaration", "answer")
        ),
        "marks": [
            {"item": row.item.title, "points": row.points, "reasons": row.reasons, **_since(row.handed_in_at)}
            for row in Mark.objects.filter(member__in=members).select_related("item")
        ],
        "points_by_hand": [
            {"item": row.item.title, "before": row.before, "after": row.after, "reason": row.reason, **_since(row.at)}
            for row in Adjustment.objects.filter(member__in=members).select_related("item")
        ],
    }


def _since(at: dt.datetime) -> dict[str, str]:
    return {"since": at.isoformat()}


def forget(user: User) -> None:
    """The person's words, files and answers go. Marks stay for the course, under a sign that nobody can read as the
    person."""
    members = Member.objects.filter(user=user)
    for rows in (LabWork.objects.filter(member__in=members), Attempt.objects.filter(member__in=members)):
        rows.delete()
    LessonAnswer.objects.filter(user=user).delete()
    Prediction.objects.filter(user=user).delete()
    PolicySeat.objects.filter(member__in=members).update(member=None)  # the table stands as it was
    Seat.objects.filter(member__in=members).update(word_sha256="", on_board=False, removed_at=timezone.now())
    names = set(members.values_list("nickname", flat=True))
    for member in members.prefetch_related("course__sessions"):
        for session in member.course.sessions.all():
            rows_left = [row for row in session.board_rows if row[0] not in names]
            if rows_left != session.board_rows:
                session.board_rows = rows_left
                session.save(update_fields=["board_rows"])
    members.update(nickname=user.alias[:40], left_at=timezone.now())


def guests_past(before: dt.datetime) -> QuerySet[User]:
    """Guests who came before and of whose classes none has been open since."""
    live = Seat.objects.filter(Q(session__ended_at__isnull=True) | Q(session__ended_at__gte=before))
    return User.objects.filter(guest=True, date_joined__lt=before).exclude(
        Exists(live.filter(member__user=OuterRef("pk")))
    )


def guests_counted(guests: Iterable[int]) -> None:
    """Before guests go: how many of them had a mark on each item, and of how many points together. What they said at a
    table stays there, as nobody's."""
    gone = Member.objects.filter(user__in=list(guests))
    PolicySeat.objects.filter(member__in=gone).update(member=None)
    marks = Mark.objects.filter(member__in=gone).order_by().values("item")
    for row in marks.annotate(people=Count("id"), points=Sum("points")):
        kept, _made = GuestMarks.objects.get_or_create(item_id=row["item"])
        GuestMarks.objects.filter(pk=kept.pk).update(
            people=F("people") + row["people"], points=F("points") + row["points"]
        )
