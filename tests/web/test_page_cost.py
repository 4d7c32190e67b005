"""What a page asks of the database: a pinned number of queries, the same for few rows and for many, twelve at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

pytestmark = pytest.mark.django_db
MOST = 12
FEW = {"tenants": 3, "people": 4, "hosts": 2, "vms": 24, "records": 300, "negotiations": 2}
MANY = {"tenants": 10, "people": 14, "hosts": 6, "vms": 150, "records": 1200, "negotiations": 4}
# page, who looks (an owner of the largest organisation, or the operator), and the queries that it may need
PINNED: list[tuple[str, str, int]] = [
    ("/tenant/", "owner", 0),
    ("/tenant/?page=2", "owner", 0),
    ("/tenant/conflicts/", "owner", 0),
    ("/tenant/conflicts/?show=all", "owner", 0),
    ("/tenant/agreements/", "owner", 0),
    ("/tenant/agreements/{paper}/", "owner", 0),
    ("/tenant/keys/", "owner", 0),
    ("/tenant/audit/", "owner", 0),
    ("/tenant/audit/?type=check", "owner", 0),
    ("/tenant/vm/new/", "owner", 0),
    ("/tenant/vm/{vm}/", "owner", 0),
    ("/tenant/vm/{vm}/memory/", "owner", 0),
    ("/tenant/vm/{vm}/drill/", "owner", 0),
    ("/tenant/host/{host}/goals/", "owner", 0),
    ("/tenant/negotiation/{room}/", "owner", 0),
    ("/operator/", "operator", 0),
    ("/operator/conflicts/", "operator", 0),
    ("/operator/conflicts/?show=all", "operator", 0),
    ("/operator/agreements/", "operator", 0),
    ("/operator/keys/", "operator", 0),
    ("/operator/audit/", "operator", 0),
    ("/operator/host/{host}/", "operator", 0),
    ("/operator/host/{host}/goals/", "operator", 0),
    ("/operator/negotiation/{room}/", "operator", 0),
    ("/api/vms", "owner", 0),
    ("/api/vms/{vm}", "owner", 0),
    ("/api/vms/{vm}/policies", "owner", 0),
    ("/api/conflicts", "owner", 0),
    ("/api/negotiations", "owner", 0),
    ("/api/runs", "owner", 0),
    ("/api/audit", "owner", 0),
    ("/api/hosts", "operator", 0),
    ("/api/hosts/{host}/goals", "operator", 0),
    ("/api/runs", "operator", 0),
    ("/api/audit", "operator", 0),
    ("/api/conflicts", "operator", 0),
    ("/api/negotiations", "operator", 0),
]


@pytest.fixture(scope="module")
def counted(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, dict[tuple[str, str], int]]]:
    """The queries of every page on a small and on a larger platform, both loaded as the demo loads the big one."""
    with django_db_blocker.unblock():
        found = {name: queries_of(size) for name, size in (("few", FEW), ("many", MANY))}
    yield found


def queries_of(size: dict[str, int]) -> dict[tuple[str, str], int]:
    from webapp.accounts.models import User
    from webapp.agreements.models import Negotiation
    from webapp.agreements.papers import agreements_of
    from webapp.agreements.selectors import negotiations_of
    from webapp.ops import scale
    from webapp.tenants.models import VirtualMachine

    with transaction.atomic():
        scale.load(scale.Size(**size))
        owner = User.objects.filter(memberships__tenant__slug=scale.slug_of(0), memberships__role="owner").get()
        people = {"owner": owner, "operator": User.objects.get(username=scale.OPERATOR)}
        vm = VirtualMachine.objects.visible_to(owner).filter(seats__isnull=False).select_related("placement__host")[0]
        rooms = negotiations_of(user=owner)
        room = rooms.filter(state=Negotiation.State.PROPOSED).first() or rooms[0]
        names = {"vm": vm.name, "host": vm.placement.host.name, "room": room.pk, "paper": agreements_of(user=owner)[0].pk}
        found = {}
        for path, who, _ in PINNED:
            client = Client()
            client.force_login(people[who])
            client.get(path.format(**names))  # what is read once for a process is read
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(path.format(**names))
            assert answer.status_code == 200, path
            found[path, who] = len(queries)
            if __import__("os").environ.get("DUMP"):
                print(path, who, len(queries))
                if len(queries) > 11: print("\n".join("     " + q["sql"][:230] for q in queries))
        transaction.set_rollback(True)
    return found


@pytest.mark.parametrize(("path", "who", "most"), PINNED)
def test_a_page_needs_its_pinned_number_of_queries(counted: Any, path: str, who: str, most: int) -> None:
    assert counted["many"][path, who] == most <= MOST


@pytest.mark.parametrize(("path", "who"), [row[:2] for row in PINNED])
def test_the_number_of_queries_does_not_grow_with_the_rows(counted: Any, path: str, who: str) -> None:
    assert counted["few"][path, who] == counted["many"][path, who]
