"""Pages of who takes part in a course: the list with roles and ways in, coming in by a link, leaving."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from webapp.accounts import entering
from webapp.accounts import services as accounts
from webapp.courses import joining, selectors
from webapp.courses.builder_views import by_name, taught_course
from webapp.courses.models import Course, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import signed_in_required
from webapp.tenants.editing import number
from webapp.typed import typed_for


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def members(request: HttpRequest, pk: int) -> HttpResponse:
    """Who takes part, and the ways in. The secret of a new link is in the answer to the form that made it alone."""
    course = taught_course(request, pk)
    if request.method != "POST":
        return _page(request, course, typed=typed_for(request) or {})
    try:
        return _done(request, course)
    except BadInput as refused:
        return _page(request, course, typed=request.POST, faults=by_name(refused), status=422)
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        return _page(request, course, typed=request.POST, refused=refused.message, status=refused.http_status)


def _done(request: HttpRequest, course: Course) -> HttpResponse:
    user: Any = request.user
    post, act = request.POST, request.POST.get("act", "")
    role, pk = post.get("role", Member.Role.STUDENT), number(post.get("pk", "")) or 0
    if act == "invite":
        sent = joining.invite(
            by=user, course=course, emails=post.get("emails", "").replace(",", "\n").split(), role=role
        )
        words = ngettext("%(count)s invitation is sent.", "%(count)s invitations are sent.", len(sent))
        messages.success(request, words % {"count": len(sent)})
    elif act == "link":
        days = number(post.get("days", "")) or 0
        row, token = joining.link_make(by=user, course=course, role=role, days=days)
        return _page(request, course, typed={}, made=row, link=accounts.link("course-enter", token))
    elif act == "revoke":
        joining.invitation_revoke(by=user, course=course, pk=pk)
        messages.success(request, _("It is withdrawn; its link opens nothing any more."))
    elif act == "role":
        row = joining.member_role(by=user, course=course, pk=pk, role=role)
        told = _("%(name)s teaches now.") if row.role == Member.Role.TEACHER else _("%(name)s learns now.")
        messages.success(request, told % {"name": row.nickname})
    elif act == "remove":
        row = joining.member_remove(by=user, course=course, pk=pk)
        messages.success(request, _("%(name)s takes part no more. The work stays.") % {"name": row.nickname})
    else:
        raise BadInput([Fault("$.act", _("must be invite, link, revoke, role or remove"))])
    if not selectors.courses_of(user=user).filter(pk=course.pk).exists():
        return redirect("courses")
    return redirect("course-members", course.pk)


def _page(request: HttpRequest, course: Course, *, typed: Any, status: int = 200, **more: Any) -> HttpResponse:
    user: Any = request.user
    context = {
        "course": course,
        "members": joining.members_of(user=user, course=course),
        "invitations": joining.open_of(course),
        "offered": Member.Role.choices,
        "emails": typed.get("emails", ""),
        "days": typed.get("days", "14"),
        "role": typed.get("role", Member.Role.STUDENT),
        "act": typed.get("act", ""),
        **more,
    }
    return render(request, "courses/members.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def leave(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    course = selectors.course_get(user=user, pk=pk)
    refused = ""
    if request.method == "POST":
        try:
            joining.leave(by=user, course=course)
        except VpmsError as error:
            if error.http_status in (403, 404):
                raise
            refused = error.message
        else:
            messages.success(request, _("You take part in %(title)s no more.") % {"title": course.title})
            return redirect("courses")
    context = {"course": course, "member": selectors.member_of(user=user, course=course), "refused": refused}
    return render(request, "courses/leave.html", context, status=409 if refused else 200)


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def enter(request: HttpRequest, token: str) -> HttpResponse:
    """What the link of an invitation to a course opens: come in with the account that is signed in, or make one."""
    user: Any = request.user
    row = joining.invitation_by(token)
    if row is None:
        return render(request, "courses/enter.html", {"row": None}, status=404)
    faults: dict[str, str] = {}
    refused = ""
    if request.method == "POST":
        try:
            return _entered(request, token)
        except BadInput as error:
            faults = by_name(error)
        except VpmsError as error:
            refused = error.message
    typed: Any = request.POST if request.method == "POST" else {}
    default = "" if not user.is_authenticated or user.guest else user.username
    context = {
        "row": row,
        "token": token,
        "typed": typed,
        "nickname": typed.get("nickname", default),
        "in_already": user.is_authenticated and selectors.courses_of(user=user).filter(pk=row.course_id).exists(),
        "faults": faults,
        "refused": refused,
    }
    return render(request, "courses/enter.html", context, status=422 if faults else 409 if refused else 200)


def _entered(request: HttpRequest, token: str) -> HttpResponse:
    user: Any = request.user
    post = request.POST
    if user.is_authenticated:
        member = joining.enter(by=user, token=token, nickname=post.get("nickname", ""))
        messages.success(request, _("You take part in %(title)s.") % {"title": member.course.title})
        return redirect("course", member.course_id)
    names = ("username", "full_name", "password", "again", "nickname")
    made, member = joining.account_enter(token=token, **{name: post.get(name, "") for name in names})
    messages.success(request, _("Welcome. Your account is %(name)s.") % {"name": made.username})
    return entering.enter(request, made, next=f"/learn/courses/{member.course_id}/")
