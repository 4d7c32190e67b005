"""The page of an item, whatever its kind."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from webapp.courses import kinds, selectors
from webapp.roles import signed_in_required


@require_GET
@signed_in_required
def item(request: HttpRequest, pk: int) -> HttpResponse:
    found, member = selectors.item_get(user=request.user, pk=pk)
    return kinds.kind_of(found.kind).page(request, found, member)
