"""Stakeholders of a host: whose goal, against whom, for what; where goals meet and clash, and who may know it."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import HOST, wishes
from tests.web.neighbours import TENANTS, WISHES, Street, make_street, put_in_force
from tests.web.screen import text_of
from webapp.agreements import goals, services
from webapp.agreements.models import Negotiation
from webapp.vpms import documents
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

NOW = "2026-11-28T08:00:00Z"


def situation(*vms: str) -> Situation:
    host = documents.read_host({**HOST, "host": "h5", "capacity": {**HOST["capacity"], "memory_mib": 256, "cores": 8}})
    read = [documents.read_policy(wishes(WISHES[vm], vm=vm, tenant=TENANTS[vm])) for vm in vms]
    return Situation(read, host, NOW)


def of(found: list[goals.Goal], owner: str, switch: str) -> goals.Goal:
    return next(goal for goal in found if goal["owner"] == owner and goal["switches"] == [switch])


def all_goals(here: Situation, agreed: dict[str, str] | None = None) -> list[goals.Goal]:
    mine = [goal for vm in here.vms for goal in goals.vm_goals(here, vm)]
    public = [*goals.operator_goals(here.host), *goals.teacher_goals()]
    shared = [name for name in SWITCHES if here.host.is_shared(name)]
    return goals.related([*mine, *public], shared=shared, agreed=agreed or {})


def test_every_switch_has_a_meaning_and_every_record_the_fields_of_the_format() -> None:
    assert set(goals.MEANINGS) == set(SWITCHES)
    fields = {"format", "goal", "owner", "against", "functionality", "property", "switches", "mutual", "conflicting"}
    for goal in all_goals(situation("a-bank", "b-shop")):
        assert fields | {"status", "rationale", "validity"} <= set(goal)
        assert goal["against"] and 1 <= len(goal["functionality"]) <= 200 and 1 <= len(goal["rationale"]) <= 1000


def test_who_shares_and_who_contradicts_is_computed_from_the_wishes() -> None:
    found = all_goals(situation("a-bank", "b-shop", "d-game"))
    assert of(found, "a-bank", "mitigations")["conflicting"] == ["b-shop", "d-game"]
    assert of(found, "b-shop", "mitigations")["mutual"] == ["d-game"]
    assert of(found, "b-shop", "mitigations")["property"] == "availability"
    assert of(found, "a-bank", "mitigations")["property"] == "confidentiality"
    assert of(found, "a-bank", "memory_protection")["conflicting"] == []  # nobody else's business


def test_the_operators_plans_and_the_teachers_need_meet_the_wishes_they_touch() -> None:
    found = all_goals(situation("c-lab", "b-shop"))
    plan = next(goal for goal in found if goal["goal"] == "operator.plan.reclaim")
    assert (plan["mutual"], plan["conflicting"], plan["status"]) == (["b-shop"], ["c-lab"], "conflict")
    assert next(goal for goal in found if goal["owner"] == goals.TEACHER)["mutual"] == ["operator"]


def test_what_was_given_up_in_an_agreement_is_agreed_and_names_it() -> None:
    found = all_goals(situation("a-bank", "b-shop"), {"a-bank": "h5 version 2", "b-shop": "h5 version 2"})
    mine = of(found, "a-bank", "mitigations")
    assert (mine["status"], mine["agreement"], mine["conflicting"]) == ("agreed", "h5 version 2", ["b-shop"])


def test_the_order_of_policies_changes_nothing() -> None:
    def key(goal: goals.Goal) -> str:
        return str(goal["goal"])

    one, other = all_goals(situation("a-bank", "b-shop", "c-lab")), all_goals(situation("c-lab", "a-bank", "b-shop"))
    assert sorted(one, key=key) == sorted(other, key=key)


# -- pages


@pytest.fixture
def street(db: None) -> Street:
    return make_street()


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
    rows = client.get("/api/hosts/h5/goals").json()
    others = [row for row in rows if row["owner"].startswith("T-")]
    contested = {name.partition("/")[2] for name in proposed.protocol["result"]["contested"]}
    assert others and {row["switches"][0] for row in others} <= contested
    assert not any(row["switches"] == ["balloon"] for row in others)  # b-shop's and e-new's own matter


def test_before_any_negotiation_nothing_of_others_is_told(street: Street, client) -> None:
    told = page(client, street.people["e-new"], "/tenant/host/h5/goals/")
    assert "T-1" not in told and "a-bank" not in told and "the operator" in told
    assert {row["owner"] for row in client.get("/api/hosts/h5/goals").json()} == {"e-new", "operator", "teacher"}


def test_the_operator_sees_what_binds_and_what_is_contested_and_nobodys_wishes(
    street: Street, proposed: Negotiation, client
) -> None:
    told = text_of(page(client, street.operator, "/operator/host/h5/goals/"))
    assert "To take memory back" in told and "the teacher" in told and "not told" in told
    rows = client.get("/api/hosts/h5/goals").json()
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
    rows = client.get("/api/hosts/h5/goals").json()
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
    owners = {row["owner"] for row in client.get("/api/hosts/h5/goals").json()}
    assert {"a-bank", "a-two"} <= owners and not owners & own and any(name.startswith("T-") for name in owners)
