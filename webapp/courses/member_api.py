"""Who takes part in a course by API: the list with roles, invitations and links, coming in, leaving."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.accounts import services as accounts
from webapp.courses import joining, selectors
from webapp.courses.models import Course, CourseInvitation, Member
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["courses"])
Number = Annotated[int, Field(ge=1, lt=2**53)]
Role = Literal["teacher", "student"]


class CourseMemberOut(Schema):
    id: int
    nickname: str
    username: str
    role: str
    joined_at: dt.datetime


class CourseRoleIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "teacher"}]})
    role: Role


class CourseInvitationOut(Schema):
    id: int
    email: str = Field(description="Empty: a link for whoever has it.")
    role: str
    expires_at: dt.datetime
    used: int = Field(description="How many people came in by it.")


class CourseInviteIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"emails": ["ada@example.org"], "role": "student"}]}
    )
    emails: Annotated[list[Annotated[str, Field(max_length=254)]], Field(min_length=1, max_length=joining.MOST_AT_ONCE)]
    role: Role = "student"


class CourseLinkIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "student", "days": 14}]})
    role: Role = "student"
    days: Annotated[int, Field(ge=1, le=joining.MOST_DAYS)] = 14


class CourseLinkOut(CourseInvitationOut):
    link: str = Field(description="Told once, and kept nowhere.")


class CourseEnterIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"token": "…", "nickname": "Ada"}]})
    token: Annotated[str, Field(max_length=100, description="The last part of the link.")]
    nickname: Annotated[str, Field(max_length=60)]


def _course(request: HttpRequest, pk: int) -> Course:
    return selectors.course_get(user=request.user, pk=pk)


def _shown(row: Member) -> dict[str, Any]:
    return {
        "id": row.pk,
        "username": row.user.username,
        **{name: getattr(row, name) for name in ("nickname", "role", "joined_at")},
    }


@router.get("/courses/{int:pk}/members", response=Listed[CourseMemberOut])
def course_member_list(request: HttpRequest, pk: Number, paging: Query[Paging]) -> Any:
    """Who takes part in a course that you teach."""
    user: Any = request.user
    return pages(request, joining.members_of(user=user, course=_course(request, pk)), paging, by="id", shown=_shown)


@router.put("/courses/{int:pk}/members/{int:number}", response=CourseMemberOut)
def course_member_put(request: HttpRequest, pk: Number, number: Number, body: CourseRoleIn) -> Any:
    """Let a student teach the course, or a teacher learn in it. Teaching needs the site's role teacher."""
    user: Any = request.user
    return _shown(joining.member_role(by=user, course=_course(request, pk), pk=number, role=body.role))


@router.delete("/courses/{int:pk}/members/{int:number}", response={204: None})
def course_member_delete(request: HttpRequest, pk: Number, number: Number) -> Any:
    """Somebody takes part no more; the work stays. Not the only teacher of a course with students."""
    user: Any = request.user
    joining.member_remove(by=user, course=_course(request, pk), pk=number)
    return Status(204, None)


@router.delete("/courses/{int:pk}/membership", response={204: None})
def course_leave(request: HttpRequest, pk: Number) -> Any:
    """You take part no more; what you did stays."""
    user: Any = request.user
    joining.leave(by=user, course=_course(request, pk))
    return Status(204, None)


def _invitation_shown(row: CourseInvitation) -> dict[str, Any]:
    return {"id": row.pk, **{name: getattr(row, name) for name in ("email", "role", "expires_at", "used")}}


@router.get("/courses/{int:pk}/invitations", response=Listed[CourseInvitationOut])
def course_invitation_list(request: HttpRequest, pk: Number, paging: Query[Paging]) -> Any:
    """The invitations and links of a course that are open."""
    user: Any = request.user
    course = _course(request, pk)
    selectors.must_teach(user=user, course=course)
    return pages(request, joining.open_of(course), paging, by="-id", shown=_invitation_shown)


@router.post("/courses/{int:pk}/invitations", response={201: list[CourseInvitationOut]})
def course_invite(request: HttpRequest, pk: Number, body: CourseInviteIn) -> Any:
    """Mail a link that works once to each address; who has no account makes one by it."""
    user: Any = request.user
    rows = joining.invite(by=user, course=_course(request, pk), emails=body.emails, role=body.role)
    return Status(201, [_invitation_shown(row) for row in rows])


@router.post("/courses/{int:pk}/links", response={201: CourseLinkOut})
def course_link_make(request: HttpRequest, pk: Number, body: CourseLinkIn) -> Any:
    """A link by which whoever has it comes into the course, until it expires."""
    user: Any = request.user
    row, token = joining.link_make(by=user, course=_course(request, pk), role=body.role, days=body.days)
    return Status(201, {**_invitation_shown(row), "link": accounts.link("course-enter", token)})


@router.delete("/courses/{int:pk}/invitations/{int:number}", response={204: None})
def course_invitation_delete(request: HttpRequest, pk: Number, number: Number) -> Any:
    """Withdraw an invitation or a link; it opens nothing any more."""
    user: Any = request.user
    joining.invitation_revoke(by=user, course=_course(request, pk), pk=number)
    return Status(204, None)


@router.post("/courses/members", response={201: CourseMemberOut})
def course_enter(request: HttpRequest, body: CourseEnterIn) -> Any:
    """Come into a course by the secret of an invitation or a link."""
    user: Any = request.user
    return Status(201, _shown(joining.enter(by=user, token=body.token, nickname=body.nickname)))
