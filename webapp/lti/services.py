"""What follows from a checked launch: an account, a place in the linked course, the way grades go back, a link."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.courses import selectors
from webapp.courses import services as courses
from webapp.courses.models import Course, Item, Member
from webapp.errors import VpmsError
from webapp.lti import keys, launches, platforms, returns
from webapp.lti.launches import Launch
from webapp.lti.models import Account, Arrival, Context, Return
from webapp.tenants.services import membership_add

if TYPE_CHECKING:
    from webapp.lti.platforms import Platform

ARRIVAL: Final = dt.timedelta(minutes=15)


# -- who it is


def account_of(launch: Launch) -> User | None:
    """The account that is connected with this person of the platform, if it may sign in."""
    found = Account.objects.filter(issuer=launch.issuer, subject=launch.subject).select_related("user").first()
    if found is not None and not found.user.is_active:
        raise launches.refused(_("The account here that belongs to you is closed. Ask the operator of this site."))
    return found.user if found else None


@transaction.atomic
def account_make(*, launch: Launch) -> User:
    """A new account without a password, for a person of a platform who has none here. No address is taken over."""
    held = account_of(launch)
    if held is not None:
        return held
    user = User(username=f"lti-{secrets.token_hex(6)}", first_name=launch.name[:40])
    user.set_unusable_password()
    user.save()
    audit.record(by=None, type="account.created", subject=f"user:{user.alias}", data={"by": "lti"})
    _connect(user, launch)
    return user


@transaction.atomic
def account_connect(*, by: User, launch: Launch) -> User:
    """From now on this person of the platform is this account; one that is somebody's already stays theirs."""
    held = account_of(launch)
    if held is not None and held.pk != by.pk:
        raise VpmsError("not_possible", 409, message=_("You are connected with another account here already."))
    if held is None:
        _connect(by, launch)
    return by


def _connect(user: User, launch: Launch) -> None:
    Account.objects.create(issuer=launch.issuer, subject=launch.subject, user=user)
    data = {"provider": platforms.found(launch.issuer, launch.client_id).name}  # type: ignore[union-attr]
    audit.record(by=user, type="account.connected", subject=f"user:{user.alias}", data=data)


def own_data(user: User) -> list[dict[str, Any]]:
    """As whom the person is known at which platform, and what went back there."""
    sent = Return.objects.filter(member__user=user, sent_at__isnull=False).order_by("pk")
    return [
        *({"platform": row.issuer, "subject": row.subject} for row in Account.objects.filter(user=user)),
        *({"platform": row.issuer, "item": row.item_id, "points": row.sent_points} for row in sent),
    ]


def forget(user: User) -> None:
    """The platforms' people are nobody here any more, and nothing about the person is sent there."""
    Account.objects.filter(user=user).delete()
    Return.objects.filter(member__user=user).delete()


# -- arrivals that wait for a person


def arrival_keep(*, launch: Launch, browser: str) -> str:
    """The secret under which the launch waits for this browser."""
    secret = secrets.token_urlsafe(24)
    Arrival.objects.filter(expires_at__lt=timezone.now()).delete()
    Arrival.objects.create(
        digest=launches.digest(secret),
        browser=launches.digest(browser),
        claims=launch._asdict(),
        expires_at=timezone.now() + ARRIVAL,
    )
    return secret


def arrival_get(*, secret: str, browser: str) -> tuple[Arrival, Launch]:
    """The launch that waits under this secret for this browser; 404 for everything else."""
    found = Arrival.objects.filter(
        digest=launches.digest(secret), browser=launches.digest(browser), used_at=None, expires_at__gt=timezone.now()
    ).first()
    if found is None or not browser:
        raise selectors.missing()
    return found, Launch(**found.claims)


def arrival_use(arrival: Arrival) -> None:
    """Done with; a second post finds nothing to do."""
    if not Arrival.objects.filter(pk=arrival.pk, used_at=None).update(used_at=timezone.now()):
        raise selectors.missing()


# -- where it leads


@transaction.atomic
def arrive(*, user: User, launch: Launch) -> Item:
    """The item of a resource launch, with the person in its course as the platform says, and the way back for grades.
    Only courses that a teacher linked with that course of the platform are reached."""
    item = Item.objects.select_related("course").filter(pk=launch.item, course__in=linked(launch)).first()
    if item is None:
        told = _("This link leads to nothing that a teacher put into this course of the platform. Put it in anew.")
        raise launches.refused(told)
    member = _take_part(user, item.course, launch)
    if not member.teaches and not item.open_to_students:
        raise launches.refused(_("This is not open yet."))
    if not member.teaches and launch.line_item:
        returns.way_keep(launch=launch, item=item, member=member)
    return item


def linked(launch: Launch) -> Any:
    return Context.objects.filter(
        issuer=launch.issuer, client_id=launch.client_id, deployment=launch.deployment, context=launch.context
    ).values("course")


def _take_part(user: User, course: Course, launch: Launch) -> Member:
    """As a student; as a teacher where the person teaches there and is a teacher here. Nobody is made less."""
    held = Member.objects.filter(course=course, user=user).first()
    role = Member.Role.TEACHER if launch.teaches and may_teach(user, launch) else Member.Role.STUDENT
    if held is None:
        if launch.teaches and role != Member.Role.TEACHER:
            raise launches.refused(_("You teach there, and your account here is no teacher's yet. Ask the operator."))
        return courses.member_add(course=course, user=user, role=role, nickname=nickname(course, launch.name))
    if held.left_at is not None:
        courses.member_add(course=course, user=user, role=held.role, nickname=held.nickname)
    if role == Member.Role.TEACHER and not held.teaches:
        held.role = role
        held.save(update_fields=["role"])
    return held


def may_teach(user: User, launch: Launch) -> bool:
    """Whether the account is a teacher's here, also one that still lacks its second factor; a platform whose teachers
    are teachers here makes it one."""
    if user.memberships.filter(role="teacher", tenant=None).exists():
        return True
    platform = platforms.found(launch.issuer, launch.client_id)
    if platform is None or not platform.teachers:
        return False
    membership_add(by=None, user=user, role="teacher")
    return True


def nickname(course: Course, name: str) -> str:
    """The person's name where nobody in the course has it, else with a number."""
    name = "".join(letter for letter in " ".join(name.split()) if letter.isprintable())[:30] or _("student")
    taken = {each.casefold() for each in Member.objects.filter(course=course).values_list("nickname", flat=True)}
    wanted, number = name, 2
    while wanted.casefold() in taken:
        wanted, number = f"{name} {number}", number + 1
    return wanted


# -- deep links


def choices(*, user: User) -> list[Item]:
    """What the person may put into a course of the platform: items of the courses that they teach."""
    teaches = Member.objects.filter(user=user, role=Member.Role.TEACHER, left_at__isnull=True)
    if not user.is_teacher:
        return []
    items = Item.objects.filter(course__in=teaches.values("course"), course__archived_at=None).select_related("course")
    return list(items.defer("text").order_by("course", "place")[:500])


@transaction.atomic
def link_make(*, by: User, launch: Launch, item: Item) -> str:
    """The item's course is linked with that course of the platform; the signed answer for it."""
    selectors.must_change(user=by, course=item.course)
    where = {name: getattr(launch, name) for name in ("issuer", "client_id", "deployment", "context")}
    _row, fresh = Context.objects.get_or_create(**where, course=item.course, defaults={"by": by})
    if fresh:
        audit.record(by=by, type="course.linked", subject=f"course:{item.course_id}", data={"platform": launch.issuer})
    content: dict[str, Any] = {
        "type": "ltiResourceLink",
        "title": item.title,
        "url": launches.target(),
        "custom": {"item": str(item.pk)},
        "window": {"targetName": "_blank"},
    }
    if item.points:
        content["lineItem"] = {"scoreMaximum": item.points, "label": item.title, "resourceId": str(item.pk)}
    claims = {
        "iss": launch.client_id,
        "aud": launch.issuer,
        "nonce": secrets.token_urlsafe(16),
        launches.CLAIM + "deployment_id": launch.deployment,
        launches.CLAIM + "message_type": "LtiDeepLinkingResponse",
        launches.CLAIM + "version": "1.3.0",
        launches.DEEP + "content_items": [content],
    }
    if launch.data:
        claims[launches.DEEP + "data"] = launch.data
    return keys.signed(claims)


def platform_of(launch: Launch) -> Platform:
    found = platforms.found(launch.issuer, launch.client_id)
    if found is None:
        raise selectors.missing()
    return found
