"""Pages on which a teacher builds a course: the text of an item, its versions and settings; the course as a whole."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from webapp.courses import builder, deadlines, editing, kinds, preview, selectors
from webapp.courses.models import Course, Item
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import signed_in_required
from webapp.tenants.editing import number
from webapp.typed import typed_for

SHOWN_VERSIONS: Final = 20


def taught(request: HttpRequest, pk: int) -> Item:
    """The item, for a teacher of its course."""
    user: Any = request.user
    item, _member = selectors.item_get(user=user, pk=pk)
    selectors.must_teach(user=user, course=item.course)
    return item


def taught_course(request: HttpRequest, pk: int) -> Course:
    user: Any = request.user
    course = selectors.course_get(user=user, pk=pk)
    selectors.must_teach(user=user, course=course)
    return course


def by_name(refused: BadInput) -> dict[str, str]:
    """The first fault of each field."""
    found: dict[str, str] = {}
    for fault in refused.faults:
        found.setdefault(fault.path.removeprefix("$."), fault.reason)
    return found


# -- the text of an item


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def item_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """The editor. What was typed stays on the page until it is saved, whatever is refused."""
    item = taught(request, pk)
    if request.method != "POST":
        typed = typed_for(request)
        return _editor(request, item, text=typed.get("text") if typed else None, seen=typed and typed.get("seen"))
    user: Any = request.user
    text, seen = editing.cleaned(request.POST.get("text", "")), number(request.POST.get("seen", ""))
    act, _colon, name = request.POST.get("act", "").partition(":")
    try:
        if act == "place":
            text = editing.placed(item.kind, name, text)
            return _editor(request, item, text=text, seen=seen, placed=True)
        if act == "check":
            kinds.read(item.kind, text)
            return _editor(request, item, text=text, seen=seen, fine=True)
        saved = editing.text_put(by=user, item=item, text=text, seen=seen)
    except BadInput as refused:
        return _editor(request, item, text=text, seen=seen, faults=editing.places(refused.faults), status=422)
    except VpmsError as refused:
        if refused.code == "stale":
            return _editor(request, item, text=text, seen=refused.data["version"], stale=refused.data, status=412)
        if refused.http_status in (403, 404):
            raise
        return _editor(request, item, text=text, seen=seen, refused=refused.message, status=refused.http_status)
    messages.success(request, _("Version %(version)s is saved.") % {"version": saved.version})
    return redirect("item-edit", item.pk)


def _editor(request: HttpRequest, item: Item, *, text: str | None, seen: Any, **more: Any) -> HttpResponse:
    status = more.pop("status", 200)
    item.refresh_from_db(fields=["text", "version"])
    kind = kinds.kind_of(item.kind)
    context = {
        "item": item,
        "kind": kind,
        "text": item.text if text is None else text,
        "seen": item.version if seen is None else seen,
        "unsaved": text is not None and text != item.text,
        "versions": editing.versions_of(item)[:SHOWN_VERSIONS],
        **more,
    }
    return render(request, "courses/item_edit.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def item_version(request: HttpRequest, pk: int, version: int) -> HttpResponse:
    """A version that an item had, against the one that it has; by the form it is brought back as a new version."""
    user: Any = request.user
    item = taught(request, pk)
    found = editing.version_get(user=user, item=item, version=version)
    if request.method == "POST":
        try:
            saved = editing.text_put(by=user, item=item, text=found.text, seen=number(request.POST.get("seen", "")))
        except BadInput as refused:  # the language of its kind has become stricter since
            first = editing.places(refused.faults)[0]
            said = {"version": version, "line": first.line, "reason": first.reason}
            told = _("Version %(version)s cannot be brought back as it is: line %(line)s %(reason)s.")
            messages.warning(request, told % said)
        except VpmsError as refused:
            if refused.http_status in (403, 404):
                raise
            messages.warning(request, refused.message)
        else:
            told = _("The text of version %(version)s is back, as version %(now)s.")
            messages.success(request, told % {"version": version, "now": saved.version})
            return redirect("item-edit", item.pk)
        return redirect("item-version", item.pk, version)
    rows = editing.differences(item.text, found.text)
    return render(request, "courses/item_version.html", {"item": item, "found": found, "rows": rows})


# -- its settings


def _whole(typed: Any, name: str) -> Any:
    """A whole number as typed; what is none stays a text, which is refused with the field's name."""
    text = typed.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else text or 0


def settings_typed(typed: Any) -> dict[str, Any]:
    """The settings in a form; BadInput for times that are none."""
    given: dict[str, Any] = {name: _whole(typed, name) for name in ("points", "late_percent", "tries")}
    given |= {"title": typed.get("title", ""), "late": typed.get("late", Item.Late.FULL)}
    faults: list[Fault] = []
    for name in builder.TIMES:
        try:
            given[name] = deadlines.read(name, typed.get(name, ""))
        except BadInput as refused:
            faults += refused.faults
    if faults:
        raise BadInput(faults)
    return given


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def item_settings(request: HttpRequest, pk: int) -> HttpResponse:
    item = taught(request, pk)
    if request.method != "POST":
        return _settings(request, item, typed=typed_for(request))
    user: Any = request.user
    post = request.POST
    try:
        given = settings_typed(post)
        saved, changed = builder.settings_put(by=user, item=item, given=given, seen=number(post.get("seen", "")))
    except BadInput as refused:
        return _settings(request, item, typed=post, faults=by_name(refused), status=422)
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        stale = refused.data.get("changes")
        more = {"seen": refused.data["version"]} if refused.code == "stale" else {}
        return _settings(
            request, item, typed=post, refused=refused.message, stale=stale, status=refused.http_status, **more
        )
    told = [_("Saved.")]
    if changed:
        words = ngettext("%(count)s mark counts differently now.", "%(count)s marks count differently now.", changed)
        told.append(words % {"count": changed})
    messages.success(request, " ".join(told))
    return redirect(f"/learn/courses/{saved.course_id}/#item-{saved.pk}")


def _settings(request: HttpRequest, item: Item, *, typed: Any, status: int = 200, **more: Any) -> HttpResponse:
    form = {name: value for name, value in builder.settings_of(item).items() if name not in builder.TIMES}
    form |= {name: deadlines.typed(getattr(item, name)) for name in builder.TIMES}
    if typed:
        form |= {name: typed.get(name, "") for name in builder.SETTINGS if name in typed}
    seen = item.settings_version if not typed else number(typed.get("seen", "")) or 0
    context = {
        "item": item,
        "kind": kinds.kind_of(item.kind),
        "form": form,
        "lates": Item.Late.choices,
        "zone": deadlines.zone_name(),
        "rule": deadlines.rule(item),
        "seen": seen,
        **more,
    }
    return render(request, "courses/item_settings.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def item_delete(request: HttpRequest, pk: int) -> HttpResponse:
    """Says what goes with the item, and lets it go."""
    user: Any = request.user
    item = taught(request, pk)
    refused = ""
    if request.method == "POST":
        try:
            builder.item_delete(by=user, item=item, with_work=request.POST.get("with_work") == "1")
        except VpmsError as error:
            if error.http_status in (403, 404):
                raise
            refused = error.message
        else:
            messages.success(request, _("%(title)s is deleted.") % {"title": item.title})
            return redirect("course", item.course_id)
    gone = builder.goes_with(item)
    worked = any(gone[name] for name in ("marks", "attempts", "drafts", "answers"))
    context = {"item": item, "gone": gone, "worked": worked, "refused": refused}
    return render(request, "courses/item_delete.html", context, status=409 if refused else 200)


# -- the course


@require_http_methods(["GET", "HEAD", "POST"])
@signed_in_required
def course_settings(request: HttpRequest, pk: int) -> HttpResponse:
    """Rename it, duplicate it, archive it or bring it back."""
    course = taught_course(request, pk)
    if request.method != "POST":
        return _course_settings(request, course, typed=typed_for(request) or {})
    post = request.POST
    try:
        return _course_done(request, course)
    except BadInput as refused:
        return _course_settings(request, course, typed=post, faults=by_name(refused), status=422)
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        more = {"seen": refused.data["version"], "stale": refused.data["changes"]} if refused.code == "stale" else {}
        return _course_settings(
            request, course, typed=post, refused=refused.message, status=refused.http_status, **more
        )


def _course_done(request: HttpRequest, course: Course) -> HttpResponse:
    user: Any = request.user
    post, act = request.POST, request.POST.get("act", "")
    if act == "save":
        title, summary = post.get("title", ""), post.get("summary", "")
        builder.course_put(by=user, course=course, title=title, summary=summary, seen=number(post.get("seen", "")))
        messages.success(request, _("Saved."))
        return redirect("course", course.pk)
    if act == "copy":
        made = builder.course_copy(by=user, course=course, title=post.get("copy_title", ""), days=_days(post))
        messages.success(request, _("The copy is made. It has no students yet."))
        return redirect("course", made.pk)
    if act in ("archive", "bring-back"):
        builder.course_archive(by=user, course=course, archived=act == "archive")
        gone, back = _("The course is archived: it can be read, and nothing in it changes."), _("The course goes on.")
        messages.success(request, gone if act == "archive" else back)
        return redirect("course", course.pk)
    raise BadInput([Fault("$.act", _("must be save, copy, archive or bring-back"))])


def _days(post: Any) -> int:
    text = post.get("days", "").strip().removeprefix("+")
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 6):
        raise BadInput([Fault("$.days", _("must be a whole number"))])
    return int(text)


def _course_settings(request: HttpRequest, course: Course, *, typed: Any, **more: Any) -> HttpResponse:
    status = more.pop("status", 200)
    form = {
        "title": typed.get("title", course.title),
        "summary": typed.get("summary", course.summary),
        "copy_title": typed.get("copy_title", course.title),
        "days": typed.get("days", "364"),
    }
    seen = course.version if "seen" not in typed else number(typed.get("seen", "")) or 0
    context = {"course": course, "form": form, "seen": seen, "zone": deadlines.zone_name(), **more}
    return render(request, "courses/course_settings.html", context, status=status)


# -- as a student sees it


@require_POST
@signed_in_required
def preview_begin(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    preview.begin(request, by=user, course=selectors.course_get(user=user, pk=pk))
    return redirect("course", pk)


@require_POST
@signed_in_required
def preview_end(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    course = preview.end(request, by=user)
    return redirect("course", course) if course else redirect("courses")
