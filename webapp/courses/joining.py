"""Who takes part in a course: invitations by mail, links for whoever has them, roles, removing and leaving.

A course with students keeps a teacher: who is the only one leaves it, or deletes the account, only after somebody else
teaches it or nobody learns in it any more.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts import services as accounts
from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.courses import selectors, services
from webapp.courses.models import Course, CourseInvitation, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish
from webapp.roles import only_reads, read_only

MOST_OPEN: Final = 200  # invitations and links of one course
MOST_AT_ONCE: Final = 50  # mails
MOST_DAYS: Final = 180  # that a link is good for
ROLES: Final = Member.Role


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# -- ways in


def _made(by: User, course: Course, role: str, days: int, emails: Sequence[str]) -> list[tuple[CourseInvitation, str]]:
    selectors.must_change(user=by, course=course)
    if role not in ROLES.values:
        raise BadInput([Fault("$.role", f"must be one of {', '.join(ROLES.values)}")])
    Course.objects.select_for_update().get(pk=course.pk)
    if open_of(course).count() + len(emails) > MOST_OPEN:
        raise VpmsError("too_many", 409, message=f"{MOST_OPEN} invitations and links are open; withdraw some first.")
    expires = timezone.now() + dt.timedelta(days=days)
    found = []
    for email in emails:
        token = secrets.token_urlsafe(32)
        row = CourseInvitation.objects.create(
            course=course, token=digest(token), email=email, role=role, by=by, expires_at=expires
        )
        found.append((row, token))
    told = {"role": role, "mails": sum(bool(email) for email in emails)}
    audit.record(by=by, type="course.invited", subject=f"course:{course.pk}", data=told)
    return found


@transaction.atomic
def invite(*, by: User, course: Course, emails: Sequence[str], role: str) -> list[CourseInvitation]:
    """A mail to each address, with a link that works once; who has no account makes one by it. All or none."""
    wanted = list(dict.fromkeys(address for each in emails if (address := each.strip().lower())))
    if not wanted:
        raise BadInput([Fault("$.emails", "is missing")])
    if len(wanted) > MOST_AT_ONCE:
        raise BadInput([Fault("$.emails", f"are more than {MOST_AT_ONCE} addresses")])
    for address in wanted:
        try:
            validate_email(address)
        except ValidationError:
            raise BadInput([Fault("$.emails", f"{address[:80]} is no e-mail address")]) from None
    found = _made(by, course, role, settings.INVITATION_DAYS, wanted)
    for row, token in found:
        _mail(row, token)
    return [row for row, _token in found]


def _mail(row: CourseInvitation, token: str) -> None:
    reader = User.objects.filter(email__iexact=row.email, is_active=True).first() or row.by
    assert reader is not None and row.by is not None
    with accounts.mails_in(reader):
        told = {"by": row.by.first_name or row.by.username, "title": row.course.title, "role": row.get_role_display()}
        lines = [
            _("%(by)s invites you to the course %(title)s on VPMS, as a %(role)s.") % told,
            _("Accept within %d days by this link; it works once:") % settings.INVITATION_DAYS,
            accounts.link("course-enter", token),
            _("If you do not know what this is about, do nothing."),
        ]
        subject, text = _("You are invited to a course on VPMS"), "\n\n".join(lines)
    transaction.on_commit(lambda: accounts.mail(to=row.email, subject=subject, text=text))


@transaction.atomic
def link_make(*, by: User, course: Course, role: str, days: int) -> tuple[CourseInvitation, str]:
    """A link for whoever has it, good for so many days; its secret is told once and kept nowhere."""
    if not 1 <= days <= MOST_DAYS:
        raise BadInput([Fault("$.days", f"must be a whole number from 1 to {MOST_DAYS}")])
    return _made(by, course, role, days, [""])[0]


def open_of(course: Course) -> QuerySet[CourseInvitation]:
    rows = CourseInvitation.objects.filter(course=course, closed_at__isnull=True, expires_at__gt=timezone.now())
    return rows.select_related("by")


@transaction.atomic
def invitation_revoke(*, by: User, course: Course, pk: int) -> None:
    """Its link opens nothing any more. Twice is once."""
    selectors.must_teach(user=by, course=course)
    row = CourseInvitation.objects.select_for_update().filter(course=course, pk=pk).first()
    if row is None:
        raise selectors.missing()
    if row.closed_at is None:
        row.closed_at, row.email = timezone.now(), ""
        row.save(update_fields=["closed_at", "email"])
        audit.record(by=by, type="course.uninvited", subject=f"course:{course.pk}", data={"role": row.role})


# -- coming in


def invitation_by(token: str) -> CourseInvitation | None:
    """The open invitation that this link belongs to."""
    found = CourseInvitation.objects.select_related("course", "by").filter(token=digest(token)).first()
    if found is None or found.closed_at is not None or found.expires_at <= timezone.now():
        return None
    return None if found.course.archived_at is not None else found


def _open(token: str) -> CourseInvitation:
    found = invitation_by(token)
    if found is None:
        message = _("This link was used, withdrawn or is too old. Ask the teacher for a new one.")
        raise VpmsError("invitation_over", 410, message=message)
    return found


@transaction.atomic
def enter(*, by: User, token: str, nickname: str) -> Member:
    """The person takes part from now on. Who takes part already stays as before, and the link is not used up."""
    if only_reads(by):
        raise read_only()
    row = _open(token)
    course = Course.objects.select_for_update().get(pk=row.course_id)
    held = Member.objects.filter(course=course, user=by, left_at__isnull=True).first()
    if held is not None and (held.role == row.role or held.role == ROLES.TEACHER):
        return held
    if row.role == ROLES.TEACHER and not by.is_teacher:
        message = _("To teach a course one needs the role teacher on this site. Ask an operator for it.")
        raise VpmsError("forbidden", 403, message=message)
    member = held or services.member_add(course=course, user=by, nickname=nickname, role=row.role)
    if row.role == ROLES.TEACHER and member.role != ROLES.TEACHER:
        member.role = ROLES.TEACHER
        member.save(update_fields=["role"])
    used = CourseInvitation.objects.filter(pk=row.pk, closed_at__isnull=True)
    gone = {"closed_at": timezone.now(), "email": ""} if row.email else {}
    if not used.update(used=F("used") + 1, **gone):
        raise VpmsError(
            "invitation_over", 410, message=_("This link was used meanwhile. Ask the teacher for a new one.")
        )
    audit.record(by=by, type="course.joined", subject=f"course:{course.pk}", data={"role": row.role})
    return member


@transaction.atomic
def account_enter(
    *, token: str, username: str, full_name: str, password: str, again: str, nickname: str
) -> tuple[User, Member]:
    """An account without any role for who was invited by mail, and the course with it: both or nothing."""
    row = _open(token)
    if not row.email or row.role != ROLES.STUDENT:
        raise VpmsError("forbidden", 403, message=_("Sign in first, then open the link again."))
    user = accounts.account_make(
        by=row.by, email=row.email, username=username, full_name=full_name, password=password, again=again,
        also=[lambda: services.line("nickname", nickname, most=40, needed=True)],
    )  # fmt: skip
    return user, enter(by=user, token=token, nickname=nickname)


# -- who is in


def members_of(*, user: User, course: Course) -> QuerySet[Member]:
    """Who takes part, teachers first; for its teachers."""
    selectors.must_teach(user=user, course=course)
    rows = Member.objects.filter(course=course, left_at__isnull=True).select_related("user")
    return rows.order_by("-role", "nickname")


def _member(by: User, course: Course, pk: int) -> Member:
    selectors.must_change(user=by, course=course)
    Course.objects.select_for_update().get(pk=course.pk)
    row = Member.objects.select_related("user", "course").filter(course=course, pk=pk, left_at__isnull=True).first()
    if row is None:
        raise selectors.missing()
    return row


def last_teacher(member: Member) -> bool:
    """The only one who teaches a course in which people learn."""
    if member.role != ROLES.TEACHER:
        return False
    others = Member.objects.filter(course=member.course_id, left_at__isnull=True).exclude(pk=member.pk)
    return not others.filter(role=ROLES.TEACHER, user__is_active=True).exists() and others.exists()


def _expect_another(member: Member) -> None:
    if last_teacher(member):
        told = {"title": member.course.title}
        message = _(
            "The only teacher of %(title)s cannot go while it has students. Invite another teacher first, or remove "
            "the students."
        )
        raise VpmsError("last_one", 409, message=message % told)


def _gone(by: User, member: Member) -> None:
    member.left_at = timezone.now()
    member.save(update_fields=["left_at"])
    publish.rights_changed(user=member.user_id)
    data = {"person": member.user.alias}
    audit.record(by=by, type="course.left", subject=f"course:{member.course_id}", data=data)


@transaction.atomic
def member_remove(*, by: User, course: Course, pk: int) -> Member:
    """The person takes part no more; the work stays, and is there again for who comes back."""
    row = _member(by, course, pk)
    _expect_another(row)
    _gone(by, row)
    return row


@transaction.atomic
def member_role(*, by: User, course: Course, pk: int, role: str) -> Member:
    """A student teaches from now on, or a teacher learns. Teaching needs the site's role."""
    row = _member(by, course, pk)
    if role not in ROLES.values:
        raise BadInput([Fault("$.role", f"must be one of {', '.join(ROLES.values)}")])
    if role == row.role:
        return row
    if role == ROLES.TEACHER and not row.user.is_teacher:
        told = {"name": row.nickname}
        message = _("%(name)s needs the role teacher on this site first. An operator gives it.")
        raise VpmsError("not_possible", 409, message=message % told)
    _expect_another(row)
    row.role = role
    row.save(update_fields=["role"])
    publish.rights_changed(user=row.user_id)
    data = {"person": row.user.alias, "role": role}
    audit.record(by=by, type="course.role", subject=f"course:{course.pk}", data=data)
    return row


@transaction.atomic
def leave(*, by: User, course: Course) -> None:
    """One takes part no more. A course that nobody is left in is archived."""
    found = selectors.member_of(user=by, course=course)
    if found.previews:
        raise VpmsError("previewing", 409, message="You see this course as a student now. End the preview first.")
    row = Member.objects.select_related("user", "course").get(pk=found.pk)
    Course.objects.select_for_update().get(pk=course.pk)
    _expect_another(row)
    _gone(by, row)
    if not Member.objects.filter(course=course, left_at__isnull=True).exists():
        Course.objects.filter(pk=course.pk, archived_at__isnull=True).update(archived_at=timezone.now())


# -- accounts that are deleted


def account_refused(user: User) -> str:
    """Why the account cannot be deleted now, and what to do; "": it can."""
    rows = Member.objects.filter(user=user, role=ROLES.TEACHER, left_at__isnull=True).select_related("course")
    last = next((row for row in rows if last_teacher(row)), None)
    if last is None:
        return ""
    told = {"title": last.course.title}
    return (
        _(
            "You are the only teacher of the course %(title)s, and it has students. Invite another teacher on its page "
            "Members, or remove the students there."
        )
        % told
    )


def account_deleted(user: User) -> None:
    """After own.forget: courses that nobody is left in are archived, and what the person had offered opens nothing."""
    left = Course.objects.filter(members__user=user, archived_at__isnull=True)
    there = Member.objects.filter(course=OuterRef("pk"), left_at__isnull=True)
    alone = left.filter(~Exists(there)).values_list("pk", flat=True)
    Course.objects.filter(pk__in=list(alone)).update(archived_at=timezone.now())
    CourseInvitation.objects.filter(by=user, closed_at__isnull=True).update(closed_at=timezone.now(), email="")
