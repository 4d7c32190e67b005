"""Stakeholders of a host: whose goal, against whom, for what; where goals meet and clash, and who may know it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import again, wishes
from tests.web.neighbours import TENANTS, WISHES, Street, make_street, put_in_force
from tests.web.screen import text_of
from webapp.agreements import declaring, services
from webapp.agreements.models import Negotiation, Waiver
from webapp.audit.models import Entry


@pytest.fixture
def street(db: None) -> Street:
    return again("street", make_street)


@pytest.fixture
def proposed(street: Street) -> Negotiation:
    return street.start("e-new")


def page(client, person, path: str) -> str:
    client.force_login(person)
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_tenant_sees_its_own_goals_in_full_and_others_by_number_where_contested(
    street: Street, proposed: Negotiation, client
) -> None:
    told = page(client, street.people["a-bank"], "/tenant/host/h5/goals/")
    assert "a-bank" in told and "Memory protection" in told and "<svg" in told and "the teacher" in told
    assert re.search(r"\bT-\d", told) and f"from negotiation {proposed.pk}" in told
    for vm, slug in TENANTS.items():
        if vm != "a-bank":
            assert vm not in told and slug.capitalize() not in told and street.people[vm].username not in told
    rows = client.get("/api/hosts/h5/goals").json()["items"]
    others = [row for row in rows if row["owner"].startswith("T-")]
    contested = {name.partition("/")[2] for name in proposed.protocol["result"]["contested"]}
    assert others and {row["switches"][0] for row in others} <= contested
    assert not any(row["switches"] == ["balloon"] for row in others)  # b-shop's and e-new's own matter


def test_before_any_negotiation_nothing_of_others_is_told(street: Street, client) -> None:
    told = page(client, street.people["e-new"], "/tenant/host/h5/goals/")
    assert "T-1" not in told and "a-bank" not in told and "the operator" in told
    assert {row["owner"] for row in client.get("/api/hosts/h5/goals").json()["items"]} == {
        "e-new",
        "operator",
        "teacher",
    }


def test_the_operator_sees_what_binds_and_what_is_contested_and_nobodys_wishes(
    street: Street, proposed: Negotiation, client
) -> None:
    told = text_of(page(client, street.operator, "/operator/host/h5/goals/"))
    assert "To take memory back" in told and "the teacher" in told and "not told" in told
    rows = client.get("/api/hosts/h5/goals").json()["items"]
    by_vm = [row for row in rows if row["owner"] in TENANTS]
    assert by_vm and all(
        "agreement" in row["rationale"] or "Contested in negotiation" in row["rationale"] for row in by_vm
    )
    own = {row["switches"][0] for row in rows if row["owner"] == "a-bank"}
    assert "memory_protection" not in own and "swap" not in own


def test_after_the_agreement_the_goals_read_agreed(street: Street, proposed: Negotiation, client) -> None:
    for vm, person in street.people.items():
        services.answer(
            by=person,
            negotiation=proposed,
            vm=street.vms[vm],
            round=1,
            version=proposed.version,
            accept=True,
            reason="",
        )
    put_in_force(services.negotiation_advance(negotiation_id=proposed.pk))
    client.force_login(street.people["a-bank"])
    rows = client.get("/api/hosts/h5/goals").json()["items"]
    mine = next(row for row in rows if row["owner"] == "a-bank" and row["switches"] == ["mitigations"])
    assert mine["status"] == "agreed" and mine["agreement"] == "h5 version 5" and mine["conflicting"]


def test_colour_is_never_the_only_sign(street: Street, proposed: Negotiation, client) -> None:
    told = page(client, street.people["a-bank"], "/tenant/host/h5/goals/")
    drawing = told[told.index("<svg") : told.index("</svg>")]
    assert drawing.count("<title>") >= 5 and ">clash</text>" in drawing and ">nobody else</text>" in drawing
    assert "style=" not in drawing and json.dumps(drawing)


def test_the_page_is_for_those_who_may_see_hosts(street: Street, client) -> None:
    client.force_login(street.people["a-bank"])
    assert client.get("/operator/host/h5/goals/").status_code == 403
    assert client.get("/tenant/host/h9/goals/").status_code == 404


def test_ones_own_two_vms_are_never_shown_as_strangers(street: Street, client) -> None:
    from webapp.fleet.services import placement_set
    from webapp.tenants.services import policy_save, vm_create

    anna, alpha = street.people["a-bank"], street.vms["a-bank"].tenant
    second = vm_create(by=anna, tenant=alpha, name="a-two", trace="gzip")
    placement_set(by=anna, vm=second, host=street.host)
    policy_save(by=anna, vm=second, document=wishes(WISHES["d-game"], vm="a-two", tenant="alpha"))
    negotiation = services.start_request(by=anna, vm=second)
    proposed = services.negotiation_advance(negotiation_id=negotiation.pk)
    own = {proposed.protocol["pseudonyms"][vm] for vm in ("a-bank", "a-two")}
    client.force_login(anna)
    owners = {row["owner"] for row in client.get("/api/hosts/h5/goals").json()["items"]}
    assert {"a-bank", "a-two"} <= owners and not owners & own and any(name.startswith("T-") for name in owners)


# -- a goal given up


def give_up(client: Any, vm: str, switch: str, act: str = "down") -> Any:
    return client.post(f"/tenant/vm/{vm}/goal/", {"switch": switch, "act": act})


def row_of(client: Any, switch: str, owner: str = "a-bank") -> dict[str, Any]:
    rows = client.get("/api/hosts/h5/goals").json()["items"]
    return next(row for row in rows if row["owner"] == owner and row["switches"] == [switch])


def entries(*types: str) -> list[Entry]:
    return list(Entry.objects.filter(type__in=types or ("goal.waived", "goal.resumed")).order_by("seq"))


def test_an_owner_gives_a_goal_up_and_takes_it_up_again_and_no_wish_changes(street: Street, client) -> None:
    before = page(client, street.people["a-bank"], "/tenant/host/h5/goals/")
    assert "I give this goal up" in before and "Take it up again" not in before
    wishes_before = client.get("/api/vms/a-bank/policy").json()
    assert row_of(client, "mitigations")["status"] != "waived"
    answer = give_up(client, "a-bank", "mitigations")
    assert answer.status_code == 302 and answer["Location"] == "/tenant/host/h5/goals/"
    told = page(client, street.people["a-bank"], "/tenant/host/h5/goals/")
    drawing = told[told.index("<svg") : told.index("</svg>")]
    assert ">given up</text>" in drawing and ">given up</span>" in told and "Take it up again" in told
    assert "It changes no wish" in told and "by anna" in told
    assert (
        row_of(client, "mitigations")["status"] == "waived"
        and row_of(client, "memory_protection")["status"] != "waived"
    )
    assert client.get("/api/vms/a-bank/policy").json() == wishes_before
    give_up(client, "a-bank", "mitigations", act="up")
    assert row_of(client, "mitigations")["status"] != "waived"
    assert [entry.type for entry in entries()] == ["goal.waived", "goal.resumed"]


def test_giving_up_twice_is_harmless_and_logged_once_without_the_setting(street: Street, client) -> None:
    client.force_login(street.people["a-bank"])
    path = "/api/vms/a-bank/goals/mitigations"
    for _ in range(2):
        answer = client.put(path, {"given_up": True}, content_type="application/json")
        assert answer.json() == {"vm": "a-bank", "switch": "mitigations", "given_up": True}
    assert Waiver.objects.count() == 1
    (entry,) = entries()
    assert (entry.actor, entry.subject) == (street.people["a-bank"].alias, "vm:a-bank")
    assert "mitigations" not in entry.line
    assert entry.audience.get().tenant == "alpha"
    for _ in range(2):
        assert client.put(path, {"given_up": False}, content_type="application/json").status_code == 200
    assert len(entries()) == 2 and not Waiver.objects.filter(ended_at__isnull=True).exists()
    assert "given up by its owner" in text_of(client.get("/tenant/audit/").content.decode())


def test_nobody_but_the_owner_gives_a_goal_up(street: Street, client) -> None:
    for person, refused in ((street.people["b-shop"], 404), (street.operator, 403)):
        client.force_login(person)
        assert give_up(client, "a-bank", "mitigations").status_code == refused
        answer = client.put("/api/vms/a-bank/goals/mitigations", {"given_up": True}, content_type="application/json")
        assert answer.status_code == 404
        missing = client.put("/api/vms/no-such/goals/mitigations", {"given_up": True}, content_type="application/json")
        assert missing.json() == answer.json()
    client.logout()
    assert give_up(client, "a-bank", "mitigations").status_code == 401
    assert not Waiver.objects.exists() and not entries()


def test_a_goal_that_the_wishes_do_not_have_cannot_be_given_up(street: Street, client) -> None:
    client.force_login(street.people["a-bank"])
    for switch in ("balloon", "warp", "", "\x00"):
        assert give_up(client, "a-bank", switch).status_code == 404
    assert not Waiver.objects.exists()


def test_others_learn_nothing_of_a_goal_that_was_given_up(street: Street, proposed: Negotiation, client) -> None:
    pages = {"b-shop": "/tenant/host/h5/goals/", "e-new": "/tenant/host/h5/goals/"}

    def seen() -> list[str]:
        rows = []
        for vm, path in pages.items():
            rows.append(text_of(page(client, street.people[vm], path)))
            rows.append(client.get("/api/hosts/h5/goals").content.decode())
        rows.append(text_of(page(client, street.operator, "/operator/host/h5/goals/")))
        return [*rows, client.get("/api/hosts/h5/goals").content.decode()]

    before = seen()
    declaring.goal_waive(by=street.people["a-bank"], vm="a-bank", switch="mitigations", given_up=True)
    assert Waiver.objects.count() == 1
    assert seen() == before
