"""Where a VM can run, and where it could start at once because nobody has to be asked first."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Exists, OuterRef, Subquery
from django.utils.translation import gettext as _

from webapp.agreements import checks, maintenance
from webapp.agreements.models import Negotiation
from webapp.fleet.models import Host, Placement
from webapp.fleet.selectors import document_of as host_document
from webapp.fleet.selectors import hosts_open
from webapp.strictjson import canonical
from webapp.tenants.models import Policy, VirtualMachine

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOST_HOSTS: Final = 50  # that are checked for a page
Vm = VirtualMachine.State


def places_of(*, user: User, policy: Policy) -> list[dict[str, Any]]:
    """Each host, whether these wishes can be kept there, why not, and whether the VM could start there at once.

    What stands against it is only what the host, its operator and the wishes themselves say. Of neighbours it tells
    that there are some, who are asked when the VM starts: never what they wish, whatever is typed into the form.
    """
    found: dict[str, tuple[list[str], int]] = {}  # hosts that differ in nothing but their name are checked once
    return [_place(host, policy, found) for host in hosts_for(user, policy.vm)]


def hosts_for(user: User, vm: VirtualMachine) -> list[Any]:
    """The hosts; `busy`: anybody else runs there, is about to, or has a start there that is being settled; `taken`: one
    of them has the host to itself; `closed`: when the maintenance ends that keeps VMs from starting there."""
    others = Placement.objects.filter(host=OuterRef("pk")).exclude(vm__state=Vm.STOPPED).exclude(vm_id=vm.pk)
    settled = Negotiation.objects.filter(host=OuterRef("pk"), state__in=Negotiation.OPEN).exclude(requester_id=vm.pk)
    found = hosts_open(user=user).annotate(
        busy=Exists(others) | Exists(settled),
        taken=Exists(others.filter(alone=True)),
        closed=Subquery(maintenance.going_on().filter(host=OuterRef("pk")).values("end")[:1]),
    )
    return list(found.order_by("name")[:MOST_HOSTS])


def host_for(*, user: User, vm: VirtualMachine, document_on: Callable[[Host | None], dict[str, Any]]) -> Host | None:
    """The host for a new VM whose wishes are `document_on` a host, and as they are meant without one: of those that can
    keep them the one that takes least away from what was meant, and among equals one where it could start at once."""
    meant = document_on(None)
    found: dict[str, tuple[list[str], int]] = {}
    ranked = []
    for host in hosts_for(user, vm):
        document = document_on(host)
        policy = Policy(vm=vm, version=1, document=canonical(document).decode())
        row = _place(host, policy, found)
        ranked.append(((not row["can"], _given_up(meant, document), not row["at_once"], host.name), host))
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _given_up(meant: dict[str, Any], document: dict[str, Any]) -> int:
    """In how many settings the document's best value is another one than was meant: the host cannot do that."""
    new = document["switches"]
    return sum(new.get(switch, {}).get("values") != wish["values"] for switch, wish in meant["switches"].items())


def _place(host: Any, policy: Policy, found: dict[str, tuple[list[str], int]]) -> dict[str, Any]:
    kind = json.dumps({**host_document(host), "host": "", "running": [], "agreement": None}, sort_keys=True)
    if kind not in found:
        rows = checks.create_check(host=host, policy=policy)["conflicts"]
        words = [checks.finding_words(row) for row in rows if row["severity"] == "hard"]
        open_points = sum(row["severity"] == "negotiable" for row in rows)
        if any(host.name in text for text in words):  # it is said of this host alone
            return _placed(host, words, open_points)
        found[kind] = words, open_points
    return _placed(host, *found[kind])


def _placed(host: Any, words: list[str], open_points: int) -> dict[str, Any]:
    why = [*words, _("The host is given to one VM alone.")] if host.taken else list(words)
    if host.closed:
        end = maintenance.text_of(host.closed)
        why.append(_("The host is under maintenance until %(end)s UTC.") % {"end": end})
    return {
        "host": host,
        "can": not why,
        "why": why,
        "open": open_points,
        "busy": host.busy,
        "at_once": not why and not open_points and not host.busy,
    }
