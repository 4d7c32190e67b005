"""Strings that only one tenant knows are looked for in everything that every other tenant can fetch, at every stage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from tests.conftest import again
from tests.web.neighbours import PEOPLE, TENANTS, WISHES, Street, make_street
from tests.web.test_isolation import PUBLIC, body_of, our_routes
from webapp.agreements import ladder, services
from webapp.agreements.keys import key_of
from webapp.agreements.models import Agreement, Conflict, Negotiation, Rung
from webapp.audit.models import Entry
from webapp.notices import payload, sending
from webapp.notices.models import Delivery, Event, Mail, Notice
from webapp.notices.services import choices_set, endpoint_create
from webapp.notices.wording import KINDS, kinds_for
from webapp.runs import engine
from webapp.tenants.models import Policy, VirtualMachine

pytestmark = pytest.mark.django_db
State = Negotiation.State


def labels(vm: str) -> dict[str, Any]:
    return {
        "trustClass": f"trust-canary-{vm}",
        "labels": {
            "conflictClass": [f"class-canary-{vm}"],
            "exhibits": [f"shows-canary-{vm}"],
            "refuses": [f"refuses-canary-{vm}"],
        },
    }


@pytest.fixture
def street(db: None, settings: Any, tmp_path: Any) -> Street:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()
    found = again("street", make_street)
    settings.WEBHOOK_HOSTS = ["hooks.example"]
    for vm, slug in TENANTS.items():  # all that happens from now on is mailed at once and posted too
        person = found.people[vm]
        person.email = f"{PEOPLE[vm]}@mail.example"
        person.save(update_fields=["email"])
        both = {"page": "now", "mail": "now"}
        choices_set(by=person, choices=dict.fromkeys(KINDS, both), every="daily", hour=7)
        endpoint_create(by=person, tenant=slug, url=f"https://hooks.example/{slug}", kinds=list(kinds_for(slug)))
    for vm in TENANTS:
        found.wish(vm, 3, WISHES[vm], **labels(vm))
    return found


def secrets_of(street: Street, vm: str) -> list[str]:
    """What nobody but this VM's people may read anywhere: labels wherever they stand, names as words."""
    tenant = street.vms[vm].tenant
    digests = list(Policy.objects.filter(vm__name=vm).values_list("sha256", flat=True))
    return [vm, tenant.slug, tenant.name, PEOPLE[vm], f"canary-{vm}", key_of(tenant).public, *digests]


def place_of(secret: str, text: str) -> re.Match[str] | None:
    """Where it stands in the text, if it does. Asked some hundred thousand times: the plain look comes first."""
    if secret not in text:
        return None
    return re.search(secret if "canary" in secret else rf"(?<![\w-]){re.escape(secret)}(?![\w-])", text)


NAMED = r"(\w+?)s?/<(?:\w+:)?name>"  # whose name it is that a route asks for
UNFETCHED: set[str] = set()  # routes that answer no GET, found as they are met


def fetched(client: Any, person: Any, own: str = "") -> dict[str, str]:
    """Every page, file and answer of the API that this person can get, with every number filled in and the names of
    both hosts, of its own VM and organisation and a neighbour's (all of them for the operator, who has none)."""
    client.force_login(person)
    vms = list(TENANTS)
    machines = [own, vms[vms.index(own) - 1]] if own else vms
    named = {"host": ["h5", "h6"], "vm": machines, "organisation": [TENANTS[vm] for vm in machines]}
    newest = max([0, *(model.objects.latest("pk").pk for model in (Negotiation, Agreement) if model.objects.exists())])
    found = {}
    for route in our_routes():
        if "sign-out" in route or route in UNFETCHED or route.startswith(PUBLIC):
            continue
        for number in range(max(1, newest - 2), newest + 1) if re.search(r"pk>|number>", route) else [1]:
            for name in next((named[of] for of in re.findall(NAMED, route) if of in named), ["x"]):
                values = {"name": name, "vm": machines[0]}
                path = re.sub(r"<(\w+:)?(\w+)>", lambda m, v=values, k=number: v.get(m[2], str(k)), route).translate(
                    {ord("$"): None, ord("^"): None}
                )
                answer = client.get(path) if route not in UNFETCHED else None
                if answer is None or answer.status_code == 405:
                    UNFETCHED.add(route)
                elif answer.status_code == 200:
                    found[path] = body_of(answer)
    return found


def told(vm: str, person: Any) -> dict[str, str]:
    """Every notice, e-mail and webhook that the VM's people were sent, as text."""
    found = {f"event {row.pk}": row.text + json.dumps(row.data) for row in Event.objects.filter(tenant=TENANTS[vm])}
    for mail in Mail.objects.filter(user=person).select_related("user"):
        message = sending.message_of(mail, list(Notice.objects.filter(mail=mail).select_related("event")))
        found[f"mail {mail.pk}"] = message.message().as_string()
    for row in Delivery.objects.filter(endpoint__tenant=TENANTS[vm]).select_related("endpoint", "event"):
        found[f"webhook {row.pk}"] = payload.body_of(row).decode()
    return found


def look_everywhere(client: Any, street: Street, vms: Iterable[str] = tuple(TENANTS)) -> int:
    """How many pages, files and messages of these VMs' people, and of the operator, hold nobody else's strings."""
    count = 0
    for vm in vms:
        sent = told(vm, street.people[vm])
        assert {name.split()[0] for name in sent} >= {"event", "mail", "webhook"}
        seen = {**fetched(client, street.people[vm], vm), **sent}
        count += len(seen)
        for other in TENANTS:
            for secret in secrets_of(street, other) if other != vm else ():
                for path, text in seen.items():
                    found = place_of(secret, text)
                    assert found is None, (vm, path, text[max(0, found.start() - 120) : found.end() + 40])
    for path, text in fetched(client, street.operator).items():  # who takes part it knows, what they wrote it does not
        assert "canary" not in text, path
    return count


def say(street: Street, negotiation: Negotiation, vm: str, **given: Any) -> Negotiation:
    row = Negotiation.objects.get(pk=negotiation.pk)
    services.answer(
        by=street.people[vm], negotiation=row, vm=street.vms[vm], round=row.round, version=row.version, **given
    )
    return services.negotiation_advance(negotiation_id=row.pk)


@pytest.mark.long
def test_nobodys_strings_are_in_anything_that_others_can_fetch(street: Street, client) -> None:
    negotiation = street.start("e-new")
    assert negotiation.state == State.PROPOSED
    counter = {"accept": False, "reason": "veto:nested_virt", "suggestion": {"nested_virt": "off"}}
    assert say(street, negotiation, "e-new", **counter).round == 2
    assert look_everywhere(client, street) > 100
    ended = say(street, negotiation, "d-game", accept=False, reason="final")
    assert ended.state == State.NO_AGREEMENT
    ladder.choose(by=street.people["e-new"], negotiation=ended, step="relocate_requester", host="h6")
    assert VirtualMachine.objects.get(name="e-new").placement.host == street.other
    look_everywhere(client, street, ("d-game", "e-new"))  # who ended it, and who went elsewhere


@pytest.mark.long
def test_neither_are_those_of_a_core_with_labels_and_of_a_neighbour_that_is_asked_to_move(
    street: Street, client
) -> None:
    """b-shop refuses what e-new shows: hard. The others, who are seated too, learn neither label nor whose it is."""
    shown = {**labels("b-shop"), "labels": {**labels("b-shop")["labels"], "refuses": ["shows-canary-e-new"]}}
    street.wish("b-shop", 4, WISHES["b-shop"], **shown)
    ended = street.start("e-new")
    assert ended.state == State.NO_AGREEMENT and any("shows-canary" in name for name in ended.protocol["core"])
    asked = ladder.choose(by=street.people["e-new"], negotiation=ended, step="migrate_willing")
    assert asked.state == Rung.State.ASKED and asked.vm.name == "b-shop"
    known = "shows-canary-e-new"  # b-shop has named it itself
    for vm in TENANTS:
        seen = {**fetched(client, street.people[vm], vm), **told(vm, street.people[vm])}
        for other in TENANTS:
            for secret in secrets_of(street, other) if other != vm else ():
                for path, text in seen.items():
                    text = text.replace(known, "") if vm == "b-shop" else text
                    assert place_of(secret, text) is None, (vm, path, secret)
    assert ladder.move_answer(by=street.people["b-shop"], rung=asked, consent=True).next_id
    client.force_login(street.people["e-new"])
    page = client.get(f"/tenant/negotiation/{ended.pk}/").content.decode()
    assert "A neighbour agreed to move" in page and "b-shop" not in page


@pytest.mark.long
def test_the_walk_finds_a_string_that_is_planted(street: Street, client) -> None:
    """Were it blind, the tests above would say nothing."""
    street.start("e-new")
    assert Entry.objects.exists()
    Event.objects.filter(tenant="beta", code="proposal").update(
        data={"vm": "trust-canary-a-bank", "round": 1, "number": 1, "until": ""}
    )
    sent = told("b-shop", street.people["b-shop"])
    assert {name.split()[0] for name, text in sent.items() if "canary" in text} == {"event", "mail", "webhook"}
    Conflict.objects.update(text="shows-canary-a-bank")
    with pytest.raises(AssertionError, match="canary"):
        look_everywhere(client, street, ("b-shop",))
