"""The page of the nested walk: what it counts is what the engine counts, and what it is asked wrongly it says."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from tests.web.screen import text_of
from webapp.classroom import walk

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", walk.CASES)
def test_the_view_counts_what_the_engine_counts(name: str) -> None:
    case, walked = walk.CASES[name], walk.walk_of(name)
    machine = walk.machine_of(case)
    access = machine.guest.guest_access(core=0, gva=case.gva, kind="r")
    assert access["status"] == walked["status"]
    if walked["status"] == "OK":  # the status of a fault carries no count
        assert (access["references"], access["mfn"]) == (walked["read"], walked["mfn"])
    assert [row["order"] for row in walked["references"]] == list(range(1, walked["read"] + walked["saved"] + 1))
    places = [cell["reference"] for row in walk.grid(walked) for cell in row["cells"] if cell["reference"]]
    assert sorted(row["order"] for row in places) == [row["order"] for row in walked["references"]]


def test_the_counts_of_the_textbook_come_out_of_executions() -> None:
    made = {name: (walk.walk_of(name)["read"], walk.walk_of(name)["saved"]) for name in walk.CASES}
    assert made == {
        "nested": (24, 0), "huge": (23, 0), "cached": (3, 21), "plain": (4, 0), "guest-fault": (20, 0),
        "nested-fault": (4, 0),
    }  # fmt: skip
    assert [(row["miss"], row["hit"]) for row in walk.costs()] == [(24, 0), (24, 0), (4, 0), (4, 0)]


def test_a_link_opens_at_its_case_and_step_and_says_it_without_script(client) -> None:
    page = text_of(client.get("/learn/walk/?case=guest-fault&step=20"))
    assert "Reference 20 of 20: entry 9 of the guest's own level-1 table is read. It is not present" in page
    assert "20 made, 0 saved" in page and "Skip to the fault" in page and "Simulation: engine" in page
    page = text_of(client.get("/learn/walk/?case=cached&step=18"))
    assert "0 made, 18 saved" in page and "a page-walk cache still knows the answer" in page
    assert "Nothing is read yet" in text_of(client.get("/learn/walk/"))


WRONG = [
    ("case=flat", "is no case"),
    ("step=25", "it has steps 0 to 24"),
    ("step=-1", "no step"),
    ("step=%C2%B2", "no step"),
]


@pytest.mark.parametrize(("query", "reason"), WRONG)
def test_a_wrong_link_is_refused_with_what_and_why(client, query: str, reason: str) -> None:
    answer = client.get(f"/learn/walk/?{query}")
    assert answer.status_code == 422 and reason in answer.content.decode()


def test_files_say_that_they_are_a_simulation_and_hold_every_reference(client) -> None:
    strip = ElementTree.fromstring(client.get("/learn/walk/nested.svg").content)
    words = "".join(strip.itertext())
    assert "24 of 24" in words and "Simulation: engine" in words
    table = client.get("/learn/walk/nested.csv").content.decode().splitlines()
    assert table[0].startswith("# simulation") and len(table) == 26
    assert json.loads(client.get("/learn/walk/nested.json").content)["simulation"] is True
    assert client.get("/learn/walk/nested.exe").status_code == client.get("/learn/walk/flat.svg").status_code == 404
