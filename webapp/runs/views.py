"""Pages of running VMs: a tenant's own, and the operator's hosts."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Count, Subquery, Value
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from webapp.agreements import ladder
from webapp.agreements import selectors as agreed
from webapp.agreements.models import Negotiation
from webapp.errors import BadInput, Fault
from webapp.fleet.models import Host
from webapp.fleet.selectors import host_get, hosts_open
from webapp.pages import window
from webapp.roles import operator_required, tenant_required
from webapp.runs import acts, bulk, overview, selectors, services
from webapp.runs.models import Act, Run
from webapp.runs.picture import OPERATOR
from webapp.tenants.forms import profile_named
from webapp.tenants.models import VirtualMachine, VmQuerySet
from webapp.tenants.selectors import missing, vm_get, vms_found
from webapp.vpms.vocabulary import PROFILES

VMS_A_PAGE: Final = bulk.MOST_VMS
NEGOTIATIONS_SHOWN: Final = 5
NEGOTIATIONS_OF_ALL: Final = 20
ACTS_READ, ACTS_SHOWN = 60, 12
OTHER_ACTS: Final = ("start_vm", "stop_vm", "drill")
HOSTS_OFFERED: Final = 50
FEW_VMS: Final = 5  # up to so many need no filter
ORDERS: Final = {
    "name": gettext_lazy("Name"),
    "-name": gettext_lazy("Name, backwards"),
    "state": gettext_lazy("State"),
    "placement__host__name": gettext_lazy("Host"),
    "-created_at": gettext_lazy("Newest first"),
}


# -- tenants


def _vms_page(request: HttpRequest, found: VmQuerySet) -> Page[Any]:
    """The page of VMs that is asked for, with its facts and the number of all, in one query."""
    user: Any = request.user
    text = request.GET.get("page", "")
    number = max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
    start = (number - 1) * VMS_A_PAGE
    # facts are gathered for the rows of the page only
    part = found.filter(pk__in=found.values("pk")[start : start + VMS_A_PAGE])
    every = found.order_by().annotate(one=Value(1)).values("one").annotate(count=Count("pk")).values("count")
    rows: list[Any] = list(overview.with_facts(user=user, vms=part).annotate(every=Subquery(every)))
    pages = Paginator(found, VMS_A_PAGE)
    pages.__dict__["count"] = rows[0].every if rows else 0  # else it would ask once more
    return Page(rows, number, pages)


@require_GET
@tenant_required
def my_vms(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    chosen = {name: request.GET.get(name, "")[:63] for name in ("text", "state", "order")}
    found = vms_found(user=user, text=chosen["text"], state=chosen["state"], order=chosen["order"])
    page = _vms_page(request, found)
    if page.number > 1 and not page.object_list:  # it was the last and its VMs are gone
        rest = {name: text for name, text in chosen.items() if text}
        return redirect(f"{reverse('my-vms')}{'?' if rest else ''}{urlencode(rest)}")
    pages = page.paginator
    newest = overview.negotiations_about(user=user, vms=page.object_list, most=NEGOTIATIONS_SHOWN)
    context = {
        "vms": overview.my_vms(user=user, vms=page, negotiations=newest),
        "page": page,
        "any": pages.count > 0 or any(chosen.values()),
        "many": pages.count > FEW_VMS or any(chosen.values()),
        "chosen": chosen,
        "query": "&" + urlencode({name: text for name, text in chosen.items() if text}) if any(chosen.values()) else "",
        "states": [(name, words) for name, (words, _look) in overview.STATES.items()],
        "orders": ORDERS,
        "profiles": PROFILES,
        "done": request.session.get("bulk") if request.GET.get("done") else None,
        "waiting": overview.waiting_for(user=user),
        "negotiations": overview.negotiations_shown(negotiations=newest[:NEGOTIATIONS_SHOWN]),
        "refusals": overview.refusals(user=user),
        "asked": overview.asked_shown(user=user),
        "moving": ladder.questions_to(user),
        "topics": [f"tenant/{slug}" for slug in user.tenant_slugs],
    }
    return render(request, "runs/my_vms.html", context)


@require_POST
@tenant_required
def vm_start(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    negotiation = services.vm_start(by=user, vm=vm)
    failed = negotiation.state == Negotiation.State.NO_AGREEMENT
    level = messages.WARNING if failed else messages.INFO if negotiation.state in bulk.HELD else messages.SUCCESS
    messages.add_message(request, level, bulk.started(vm, negotiation))
    return redirect("negotiation", pk=negotiation.pk) if failed else redirect("my-vms")  # there: what can be done now


@require_POST
@tenant_required
def vm_stop(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    services.vm_stop(by=user, vm=vm)
    messages.success(request, bulk.stopped(vm))
    return redirect("my-vms")


ASKED_FIRST: Final = ("delete", "stop", "profile")  # what takes something away is asked once more


@require_POST
@tenant_required
def vms_act(request: HttpRequest) -> HttpResponse:
    """One act on the chosen VMs, with a result for each. What takes something away is done after a second page."""
    user: Any = request.user
    act, names = request.POST.get("act", ""), request.POST.getlist("vm")[: bulk.MOST_VMS]
    vms = [vm_get(user=user, name=name) for name in dict.fromkeys(names)]
    profile = profile_named(request.POST.get("profile", ""))
    if act not in bulk.ACTS or not vms or (act == "profile" and profile is None):
        messages.warning(request, _("Choose VMs and what to do with them. Nothing was changed."))
        return redirect("my-vms")
    if act in ASKED_FIRST and not request.POST.get("sure"):
        return render(request, "runs/vms_sure.html", {"act": act, "vms": vms, "profile": profile})
    rows = bulk.done(by=user, vms=vms, act=act, profile=request.POST.get("profile", ""))
    request.session["bulk"] = {"act": act, "rows": rows, "good": sum(row["good"] for row in rows)}
    return redirect(f"{reverse('my-vms')}?done=1")


@require_GET
@tenant_required
def conduct(request: HttpRequest) -> HttpResponse:
    """What was tried against the person's own VMs and refused."""
    rows = overview.conduct_of(user=request.user)  # type: ignore[arg-type]
    context = {
        "rows": rows,
        "refused": sum(row["count"] for row in rows if row["kind"] == "denied"),
        "drills": sum(row["count"] for row in rows if row["kind"] == "drill"),
        "succeeded": sum(row["count"] for row in rows if row["outcome"] == "SUCCEEDED"),
    }
    return render(request, "runs/conduct.html", context)


@require_POST
@tenant_required
def act_answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Agree to what the operator asks of a VM, or refuse it."""
    user: Any = request.user
    act = selectors.asked_get(user=user, pk=pk)
    consent = request.POST.get("answer") == "agree"
    services.act_answer(by=user, act=act, consent=consent)
    messages.success(request, "Your answer stands; what follows is shown below in a moment.")
    return redirect("my-vms")


@require_GET
@tenant_required
def my_memory(request: HttpRequest, name: str) -> HttpResponse:
    """The map of the host that the VM runs on, with all pages but the person's own in one grey."""
    user: Any = request.user
    vm = vm_get(user=user, name=name)
    moved = selectors.moved_for(tenant=vm.tenant.slug)  # read first: what comes later has the page fetched anew
    host = vm.placement.host if hasattr(vm, "placement") else None
    run = _asked_run(request, host) if host else None
    context: dict[str, Any] = {"vm": vm, "run": run}
    if run is not None:
        context |= _watched(user, run, selectors.view_for(user))
    else:  # the page comes anew when something happens to the tenant's VMs
        context |= {"topic": f"tenant/{vm.tenant.slug}", "moved": moved}
    return render(request, "runs/my_memory.html", context)


def _asked_run(request: HttpRequest, host: Host) -> Run | None:
    """The run of the host that a link names, or its newest."""
    user: Any = request.user
    named = request.GET.get("run", "")
    if named.isascii() and named.isdecimal() and len(named) <= 18:
        found = selectors.runs_of(user=user).filter(pk=int(named), host=host).first()
        if found is None:
            raise missing()
        return found
    return selectors.newest_run(user=user, host=host)


def _watched(user: Any, run: Run, view: str) -> dict[str, Any]:
    """A run that the person was found to see, in the view that is for this person."""
    return {
        **overview.picture_now(run=run, view=view),
        "map_topic": f"run/{run.pk}/map",
        "tlb_topic": f"run/{run.pk}/tlb",
        "counters_topic": f"run/{run.pk}/counters",
        "log_topic": f"run/{run.pk}/log",
        "seed": run.scenario["seed"] if view == OPERATOR else None,
        "events": overview.events_shown(user=user, run=run),
    }


# -- operators


@require_GET
@operator_required
def hosts(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    moved = selectors.moved_for(tenant=None)  # read first: what comes later has the page fetched anew
    negotiations = agreed.negotiations_of(user=user).defer("protocol").order_by("-id")
    retired = request.GET.get("show") == "retired"
    page = window(request, overview.hosts_of(hosts=Host.objects.filter(retired_at__isnull=not retired)))
    context = {
        "moved": moved,
        "retired": retired,
        "pages_query": "&show=retired" if retired else "",
        "hosts": overview.hosts_shown(hosts=page.rows),
        "pages": page,
        "conflicts": agreed.conflicts_shown(user=user, conflicts=agreed.conflicts_of(user=user, open_only=True)[:20]),
        "negotiations": overview.negotiations_shown(negotiations=negotiations[:NEGOTIATIONS_OF_ALL]),
    }
    return render(request, "runs/hosts.html", context)


def _host(request: HttpRequest, name: str) -> tuple[Host, Run | None]:
    user: Any = request.user
    host = host_get(user=user, name=name)
    return host, selectors.newest_run(user=user, host=host)


@require_GET
@operator_required
def host(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    found = overview.host_watched(user=user, name=name)
    newest = selectors.newest_runs(runs=Run.objects.all(), hosts=[found.pk]).get(found.pk)
    this = newest is not None and request.GET.get("run", "") in ("", str(newest.pk))
    run = newest if this else _asked_run(request, found)
    values = agreed.values_of(found.terms) if found.terms else {}
    context: dict[str, Any] = {
        "moved": found.moved,
        "host": found,
        "run": run,
        "guests": overview.vms_on(host=found, values=values),
        "agreement": found.terms,
        "drills": services.DRILLS,
        "row": overview.host_row(found, newest, found.terms),
        "conflicts": agreed.conflicts_shown(
            user=user, conflicts=agreed.conflicts_of(user=user, open_only=True).filter(host=found)[:10]
        ),
    }
    if run is not None:
        context |= _watched(user, run, selectors.view_for(user))
        context["machines"] = json.dumps({run.pk: services.tlb_facts(run=run, host=found, values=values)})
        done = list(selectors.acts_of(run=run)[:ACTS_READ])
        # one that is over takes up nothing
        waiting = [act for act in reversed(done) if act.state == Act.State.PENDING and act.kind in OTHER_ACTS]
        context["asked"] = waiting if this else ()
        context["acts_done"] = overview.acts_after(acts_done=done)[:ACTS_SHOWN]
        if this and run.state == Run.State.RUNNING:
            context |= _gate(request, run, found, context["guests"])
    return render(request, "runs/host.html", context)


def _gate(request: HttpRequest, run: Run, host: Any, guests: list[dict[str, Any]]) -> dict[str, Any]:
    """The acts on the VM that the page's address names, or on the first that runs."""
    running = [row["vm"] for row in guests if row["vm"].state == VirtualMachine.State.RUNNING]
    names = [vm.name for vm in running]
    if not names:
        return {}
    chosen = request.GET.get("vm", "")
    chosen = chosen if chosen in names else names[0]
    rows = overview.acts_before(run=run, host=host, agreement=host.terms, vms=running, vm=chosen)
    moving = overview.move_before(run=run, host=host, agreement=host.terms, vms=running, vm=chosen)
    return {"acts": rows, "moving": moving, "chosen": chosen, "running": names}


@require_GET
@operator_required
def move(request: HttpRequest, name: str, vm: str) -> HttpResponse:
    """Where a running VM might go, with what its agreement says to each host; its owner decides."""
    user: Any = request.user
    found = overview.host_watched(user=user, name=name)
    run = selectors.newest_run(user=user, host=found)
    named = selectors.vm_on(user=user, host=found, name=vm)
    if run is None:
        raise missing()
    hosts = hosts_open(user=user).exclude(pk=found.pk).order_by("name")[:HOSTS_OFFERED]
    rows = overview.acts_before(run=run, host=found, agreement=found.terms, vms=[named], vm=vm, hosts=hosts)
    row = next((row for row in rows if row["kind"].name == "migrate"), None)
    live = named.state == VirtualMachine.State.RUNNING and run.state == Run.State.RUNNING
    return render(request, "runs/move_asked.html", {"host": found, "vm": named, "row": row, "live": live})


@require_POST
@operator_required
def act(request: HttpRequest, name: str) -> HttpResponse:
    """Ask something of a VM (webapp.runs.acts), or attack it as a compromised hypervisor would."""
    user: Any = request.user
    found, run = _host(request, name)
    if run is None:
        raise missing()
    vm = selectors.vm_on(user=user, host=found, name=request.POST.get("vm", ""))
    kind = request.POST.get("kind", "")
    services.act_request(by=user, run=run, kind=kind, vm=vm, data=_act_data(kind, request))
    words = {"vm": vm.name}
    if kind == "drill":
        messages.info(
            request, _("The drill against %(vm)s is held; what came of it stands in the events in a moment.") % words
        )
        return redirect("host", name=found.name)
    title = acts.KINDS[kind].title
    messages.info(
        request,
        _("%(act)s, %(vm)s: it is asked. What came of it stands under “What came of it” in a moment.")
        % {**words, "act": title},
    )
    return redirect(f"{reverse('host', args=[found.name])}?{urlencode(words)}#acts")


def _act_data(kind: str, request: HttpRequest) -> dict[str, Any]:
    fields = acts.KINDS[kind].fields if kind in acts.KINDS else ("attack",)
    data: dict[str, Any] = {name: request.POST.get(name, "") for name in fields}
    text = data.get("pages", "1")
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise BadInput([Fault("$.pages", "must be a whole number")])
    return {**data, "pages": int(text)} if "pages" in data else data


@require_POST
@operator_required
def run_want(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    found, run = _host(request, name)
    if run is None:
        raise missing()
    wanted = request.POST.get("wanted", "")
    services.run_want(by=user, run=run, wanted=wanted)
    words = {
        "pause": "pauses at its next step",
        "resume": "goes on",
        "cancel": "stops at its next step; its VMs end with it",
    }
    messages.info(request, f"The run of {found.name} {words[wanted]}.")
    return redirect("host", name=found.name)
