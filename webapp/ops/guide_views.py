"""Help, first steps and tour; and in development the page of all components."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.http import require_POST, require_safe

from webapp.errors import BadInput, Fault
from webapp.ops import services
from webapp.ops.glossary import PAPER, SECTIONS, TERMS
from webapp.ops.styleguide import GROUPS
from webapp.ops.tour import FIRST_STEPS, LABELS, TOURS
from webapp.roles import role_names, signed_in_required

FIRST_PAGES = {"tenant": "/tenant/", "operator": "/operator/", "teacher": "/teach/"}


@require_safe
def help_page(request: HttpRequest) -> HttpResponse:
    """Glossary, how to do the usual things, keys, and the tours in words; open to everybody."""
    hidden = []
    if request.user.is_authenticated:
        row = services.guide_of(user=request.user)
        hidden = [(area, LABELS[area]) for area in row.hidden if area in role_names(request.user)] if row else []
    context = {
        "terms": sorted(TERMS.values(), key=lambda term: str(term.word).casefold()),
        "sections": [
            (section, [t for t in TERMS.values() if t.section == section.number]) for section in SECTIONS.values()
        ],
        "tours": [(area, LABELS[area], stops) for area, stops in TOURS.items()],
        "paper": PAPER,
        "hidden": hidden,
    }
    return render(request, "ops/help.html", context)


def area_of(request: HttpRequest) -> str:
    """The area that the form is about; one of the person's own."""
    area = request.POST.get("area", "")
    if area not in FIRST_STEPS or area not in role_names(request.user):
        raise BadInput([Fault("$.area", gettext("is none of your areas"))])
    return area


@signed_in_required
@require_POST
def guide(request: HttpRequest) -> HttpResponse:
    """What the list of first steps and the tour ask for: put away, show again, open a step, remember a stop."""
    by, asked = request.user, request.POST
    if "opened" in asked:
        return HttpResponseRedirect(services.guide_opened(by=by, name=asked["opened"]).where)
    area = area_of(request)
    if "stop" in asked:
        if not asked["stop"].removeprefix("-").isdecimal() or len(asked["stop"]) > 3:
            raise BadInput([Fault("$.stop", gettext("is no stop of this tour"))])
        services.guide_stop(by=by, area=area, stop=int(asked["stop"]))
        return HttpResponse(status=204)
    services.guide_hide(by=by, area=area, hidden=asked.get("steps") != "show")
    return HttpResponseRedirect(FIRST_PAGES[area])


@require_safe
def styleguide(request: HttpRequest) -> HttpResponse:
    """Every component in its states; only where the site runs without TLS on loopback: development and demo."""
    if not settings.STYLEGUIDE:
        raise Http404
    return render(request, "ops/styleguide.html", {"groups": GROUPS})
