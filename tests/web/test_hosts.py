"""Hosts: their documents and versions, what stands against an edit, what happens to the platform, and their end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import HOST, Cast
from tests.web.neighbours import put_in_force
from webapp.agreements import hosting, services
from webapp.agreements.models import Conflict, Negotiation
from webapp.agreements.selectors import values_in_force
from webapp.audit.models import Entry
from webapp.errors import BadInput, VpmsError
from webapp.fleet import services as fleet
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.notices.models import Event
from webapp.tenants.models import VirtualMachine

pytestmark = pytest.mark.django_db


@pytest.fixture
def running(cast: Cast) -> Cast:
    """a-db runs on h1 under an agreement of its own, without a machine; b-web is there and stopped."""
    put_in_force(start(cast.a_db, cast.alice))
    return cast


def start(vm: VirtualMachine, by: Any) -> Negotiation:
    negotiation = services.start_request(by=by, vm=vm)
    return services.negotiation_advance(negotiation_id=negotiation.pk)


def operator_with(**changed: Any) -> dict[str, Any]:
    return {**HOST["operator"], **changed}


def in_force(cast: Cast, switch: str) -> str:
    return values_in_force(host=cast.h1)["a-db"][switch]


def test_an_edit_is_the_next_version_and_keeps_the_document_exactly(cast: Cast) -> None:
    edited = {**HOST, "operator": operator_with(prices={"relocate": 7})}
    row = hosting.host_edit(by=cast.olga, host=cast.h1, document=edited, seen=1)
    assert row.version == 2 and document_of(row) == edited
    assert [version.version for version in row.versions.all()] == [2, 1]
    entry = Entry.objects.get(type="host.edit")
    assert json.loads(entry.line)["data"]["version"] == 2


def test_an_edit_of_what_somebody_else_has_changed_meanwhile_is_refused_with_the_difference(cast: Cast) -> None:
    hosting.host_edit(by=cast.olga, host=cast.h1, document={**HOST, "zone": "z2"}, seen=1)
    with pytest.raises(VpmsError) as refused:
        hosting.host_edit(by=cast.olga, host=cast.h1, document={**HOST, "zone": "z3"}, seen=1)
    assert refused.value.http_status == 412
    assert refused.value.data["changed"] == [{"setting": "Zone", "now": "z1", "then": "z2"}]
    assert refused.value.data["changes"] == [{"setting": "Zone", "now": "z2", "then": "z3"}]
    assert Host.objects.get(name="h1").version == 2


def test_a_document_that_contradicts_an_agreement_is_refused_with_the_list_and_nothing_is_stored(
    running: Cast,
) -> None:
    value = in_force(running, "mitigations")
    left = [name for name in ("full", "default", "off") if name != value]
    edited = {**HOST, "operator": operator_with(offers={"mitigations": left})}
    with pytest.raises(VpmsError) as refused:
        hosting.host_edit(by=running.olga, host=running.h1, document=edited)
    assert refused.value.code == "contradicts_agreements"
    [agreement] = refused.value.data["agreements"]
    assert agreement["agreement"] == "h1" and agreement["version"] == 1
    [broken] = agreement["broken"]
    assert broken["switch"] == "mitigations" and broken["vms"] == ["a-db"]
    assert Host.objects.get(name="h1").version == 1


@pytest.mark.parametrize(
    ("changed", "switch"),
    [
        ({"capacity": {**HOST["capacity"], "memory_mib": 4}}, "overcommit"),
        ({"per_vm": []}, "balloon"),
        ({"operator": operator_with(law={"co_residence": ["any"]})}, "co_residence"),
    ],
)
def test_what_is_promised_shared_and_lawful_is_looked_at_too(running: Cast, changed: Any, switch: str) -> None:
    with pytest.raises(VpmsError) as refused:
        hosting.host_edit(by=running.olga, host=running.h1, document={**HOST, **changed})
    [agreement] = refused.value.data["agreements"]
    assert switch in [row["switch"] for row in agreement["broken"]]


def test_prices_can_be_changed_under_a_running_agreement(running: Cast) -> None:
    edited = {**HOST, "operator": operator_with(prices={}, actions=[])}
    assert hosting.host_edit(by=running.olga, host=running.h1, document=edited).version == 2


def test_an_offer_is_not_changed_while_a_start_is_negotiated_under_it(running: Cast) -> None:
    negotiation = start(running.b_web, running.bob)
    assert negotiation.state == Negotiation.State.PROPOSED
    edited = {**HOST, "capacity": {**HOST["capacity"], "memory_mib": 512}}
    with pytest.raises(VpmsError, match="is being negotiated") as refused:
        hosting.host_edit(by=running.olga, host=running.h1, document=edited)
    assert refused.value.data["negotiations"] == [negotiation.pk]


def test_a_change_of_the_platform_is_never_refused_and_those_who_lose_by_it_are_told(running: Cast) -> None:
    negotiation, value = start(running.b_web, running.bob), in_force(running, "mitigations")
    fact = hosting.fact_report(
        by=running.olga, host=running.h1, reason="Microcode 0x42 takes a flush away", lost=[("mitigations", value)]
    )
    assert [row["broken"][0]["switch"] for row in fact.agreements] == ["mitigations"]
    row = Host.objects.get(name="h1")
    assert row.version == 2 and value not in document_of(row)["capabilities"]["mitigations"]
    assert row.versions.get(version=2).reason == "Microcode 0x42 takes a flush away"
    conflicts = Conflict.objects.filter(code="C26", closed_at=None)
    assert sorted(vm.name for each in conflicts for vm in each.vms.all()) == ["a-db"]
    assert set(Event.objects.filter(code="platform.lost").values_list("tenant", flat=True)) == {"alpha"}
    assert VirtualMachine.objects.get(name="a-db").state == "running", "nothing that runs is stopped"
    negotiation.refresh_from_db()
    assert negotiation.state == "NO_AGREEMENT" and "changed meanwhile" in negotiation.reason


def test_what_was_lost_and_comes_back_closes_its_conflict(running: Cast) -> None:
    value = in_force(running, "mitigations")
    for part in ("lost", "gained"):
        hosting.fact_report(by=running.olga, host=running.h1, reason="firmware", **{part: [("mitigations", value)]})
    assert not Conflict.objects.filter(code="C26", closed_at=None).exists()
    assert Event.objects.filter(code="platform.back").count() == 1


def test_a_host_that_is_no_longer_attested_is_told_to_those_whose_terms_rest_on_proof(running: Cast) -> None:
    fact = hosting.fact_report(by=running.olga, host=running.h1, reason="measured boot fails", attested=False)
    switches = {row["switch"] for row in fact.agreements[0]["broken"]}
    assert "memory_protection" in switches and switches <= {switch for switch, _ in hosting.ON_PROOF}
    with pytest.raises(BadInput, match="nothing of the platform"):
        hosting.fact_report(by=running.olga, host=running.h1, reason="again", attested=False)


def test_an_offer_of_what_is_gone_becomes_an_offer_of_what_is_left(cast: Cast) -> None:
    edited = {**HOST, "operator": operator_with(offers={"mitigations": ["full"]})}
    hosting.host_edit(by=cast.olga, host=cast.h1, document=edited)
    hosting.fact_report(by=cast.olga, host=cast.h1, reason="no full flush", lost=[("mitigations", "full")])
    after = document_of(Host.objects.get(name="h1"))
    assert after["capabilities"]["mitigations"] == ["default", "off"] and after["operator"]["offers"] == {}


def test_a_host_is_retired_only_when_nobody_lives_there(cast: Cast) -> None:
    with pytest.raises(VpmsError) as refused:
        hosting.host_retire(by=cast.olga, host=cast.h1)
    assert [row["vm"] for row in refused.value.data["vms"]] == ["a-db", "b-web"]
    h2 = fleet.host_create(by=cast.olga, document={**HOST, "host": "h2"})
    for vm in (cast.a_db, cast.b_web):
        fleet.placement_set(by=cast.olga, vm=vm, host=h2)
    hosting.host_retire(by=cast.olga, host=cast.h1)
    with pytest.raises(VpmsError, match="was retired"):
        fleet.placement_set(by=cast.olga, vm=cast.a_db, host=cast.h1)
    with pytest.raises(VpmsError, match="was retired"):
        hosting.host_edit(by=cast.olga, host=cast.h1, document={**HOST, "zone": "z9"})


@pytest.mark.parametrize("act", ["edit", "fact", "retire"])
def test_a_tenant_changes_no_host(cast: Cast, act: str) -> None:
    with pytest.raises(VpmsError) as refused:
        if act == "edit":
            hosting.host_edit(by=cast.alice, host=cast.h1, document={**HOST, "zone": "z2"})
        elif act == "fact":
            hosting.fact_report(by=cast.alice, host=cast.h1, reason="x", attested=False)
        else:
            hosting.host_retire(by=cast.alice, host=cast.h1)
    assert refused.value.http_status == 404


def test_a_host_that_says_nothing_of_its_capabilities_is_plain(cast: Cast) -> None:
    document = {name: value for name, value in HOST.items() if name not in ("capabilities", "offers")}
    assert fleet.host_create(by=cast.olga, document={**document, "host": "h7"}).architecture == "nested"
