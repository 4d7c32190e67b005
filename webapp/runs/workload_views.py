"""Workload traces: the tenant's own recorded programs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from webapp.errors import BadInput, VpmsError
from webapp.roles import tenant_required
from webapp.runs import workloads
from webapp.tenants import quotas
from webapp.tenants.selectors import active_of, workloads_of


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """What is there, and a form for one more; after it a VM can be declared with it at once."""
    user: Any = request.user
    fault, status = "", 200
    if request.method == "POST":
        file = request.FILES.get("file")
        data = file.read(workloads.MOST_BYTES + 1) if file else b""
        title = request.POST.get("title", "").strip() or (file.name if file and file.name else "")
        try:
            row = workloads.workload_add(by=user, tenant=active_of(user=user), title=title, data=data)
        except VpmsError as refused:
            told = [one.reason for one in refused.faults] if isinstance(refused, BadInput) else [refused.message]
            fault, status = "; ".join(told), refused.http_status
        else:
            words = _("%(title)s is kept as %(name)s. A VM can run it now.")
            messages.success(request, words % {"title": row.title, "name": row.name})
            return redirect(f"{reverse('vm-new')}?trace={row.name}")
    rows = list(workloads_of(user=user))
    storage = quotas.level("storage", tenant=active_of(user=user))
    context = {
        "rows": rows,
        "fault": fault,
        "storage": storage,
        "most": settings.TENANT_REFERENCES,
        "typed": request.POST,
    }
    return render(request, "runs/workloads.html", context, status=status)


@tenant_required
@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    row = workloads.workload_delete(by=user, pk=pk)
    messages.success(request, _("%(title)s is deleted.") % {"title": row.title})
    return redirect("workloads")
