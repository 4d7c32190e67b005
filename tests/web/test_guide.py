"""Help, first steps, tour and the page of all components: complete, true to what was done, closed where it must be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.template import Context, Template
from django.test import RequestFactory

from tests.conftest import Cast
from tests.web.screen import text_of
from webapp.classroom.models import Cell
from webapp.errors import BadInput
from webapp.ops import selectors, services
from webapp.ops.glossary import SECTIONS, TERMS
from webapp.ops.models import Guide
from webapp.ops.styleguide import TOKENS
from webapp.ops.tour import FIRST_STEPS, TOURS
from webapp.runs.models import Act, Mark, Run
from webapp.tenants.models import Policy

pytestmark = pytest.mark.django_db


def classes_of(css: str) -> set[str]:
    text = re.sub(r'/\*.*?\*/|url\([^)]*\)|"[^"]*"', "", css, flags=re.DOTALL)
    return set(re.findall(r"\.(-?[a-zA-Z_][\w-]*)", " ".join(re.findall(r"([^{};]+)\{", text))))


def test_every_class_of_the_stylesheet_stands_on_the_styleguide(client, settings: Any) -> None:
    html = client.get("/styleguide/").content.decode()
    shown = {name for value in re.findall(r'class="([^"]*)"', html) for name in value.split()}
    static = settings.BASE_DIR / "webapp" / "static" / "css"
    on_views = classes_of((static / "views.css").read_text())
    site, guide = (classes_of((static / f"{name}.css").read_text()) for name in ("site", "guide"))
    assert sorted((site | (guide - on_views)) - shown) == []
    assert set(re.findall(r"--([\w-]+): light-dark", (static / "site.css").read_text())) <= set(TOKENS)


def test_the_styleguide_is_closed_where_the_settings_do_not_allow_it(client, settings: Any) -> None:
    settings.STYLEGUIDE = False
    assert client.get("/styleguide/").status_code == 404


def test_the_styleguide_is_off_with_tls_whatever_the_environment_says() -> None:
    import os
    import subprocess
    import sys

    for tls, on in (("1", "False"), ("0", "True")):
        told = subprocess.run(
            [sys.executable, "-c", "import webapp.settings as s; print(s.STYLEGUIDE)"],
            env={**os.environ, "HSVM_TLS": tls},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == on


def test_every_term_is_one_sentence_and_says_where_it_comes_from(client) -> None:
    told = text_of(client.get("/help/"))
    for term in TERMS.values():
        says = str(term.says)
        assert says.endswith(".") and says.count(". ") == 0 and len(says) < 160, term.name
        assert term.section in SECTIONS or term.section == ""
        assert says in told
    silent = sum(term.section == "" for term in TERMS.values())
    assert told.count("Not in the paper: a choice of this product.") == silent > 0


def test_a_term_opens_without_script_and_leads_to_its_section(client) -> None:
    context = Context({"request": RequestFactory().get("/")})
    made = Template('{% load guide %}{% term "tlb" %}{% term "tlb" "TLBs" %}{% term "drill" %}').render(context)
    targets = re.findall(r'popovertarget="([^"]+)"', made)
    assert targets == re.findall(r'<span class="term-tip" id="([^"]+)" popover>', made) and len(set(targets)) == 3
    assert ">TLBs</button>" in made and 'href="/help/#paper-2.1"' in made and 'href="/help/#term-drill"' in made
    page = client.get("/help/").content.decode()
    assert 'id="paper-2.1"' in page and 'id="term-drill"' in page
    with pytest.raises(KeyError):
        Template('{% load guide %}{% term "no such term" %}').render(context)


def done(user: Any, area: str) -> set[str]:
    steps = selectors.first_steps(user=user, area=area)
    assert steps is not None and len(steps.items) == 4
    return {item.name for item, is_done in steps.items if is_done}


def test_first_steps_are_done_by_doing_them(cast: Cast, django_assert_num_queries: Any) -> None:
    assert done(cast.alice, "tenant") == {"wishes"}
    assert done(cast.olga, "operator") == set() == done(cast.ines, "teacher")
    run = Run.objects.create(host=cast.h1, scenario={}, engine_version="1", rate=1)
    Act.objects.create(run=run, vm=cast.b_web, kind="start_vm", by=cast.bob)
    assert done(cast.alice, "tenant") == {"wishes"}  # bob's start is none of hers
    assert done(cast.bob, "tenant") == {"wishes", "start"}
    Act.objects.create(run=run, vm=cast.b_web, kind="drill", by=cast.olga)
    Mark.objects.create(run=run, view="operator", by=cast.olga, text="here", op=1, seq=1, slice_no=0)
    assert done(cast.olga, "operator") == {"run", "act", "mark"}
    Cell.objects.create(attack="A01", architecture="hsvm", state=Cell.State.DONE, skip="owner_check")
    assert done(cast.ines, "teacher") == {"table", "what-if"}
    Policy.objects.all().delete()
    cast.alice.tenant_slugs  # noqa: B018  roles are read once a request
    with django_assert_num_queries(1):
        assert done(cast.alice, "tenant") == set()


def test_what_is_done_by_looking_is_kept_and_leads_there(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    answer = client.post("/guide/", {"opened": "tenant-record"})
    assert (answer.status_code, answer["Location"]) == (302, "/tenant/audit/")
    assert "tenant-record" in done(cast.alice, "tenant") and "tenant-record" not in done(cast.bob, "tenant")
    assert client.post("/guide/", {"opened": "nothing"}).status_code == 422


def test_first_steps_put_away_stay_away_until_they_are_asked_for(cast: Cast, client) -> None:
    client.force_login(cast.ines)
    assert "First steps" in text_of(client.get("/teach/"))
    assert client.post("/guide/", {"area": "teacher", "steps": "hide"}).status_code == 302
    assert "First steps" not in text_of(client.get("/teach/"))
    assert "Show the first steps again: Teachers" in text_of(client.get("/help/"))
    client.post("/guide/", {"area": "teacher", "steps": "show"})
    assert "0 of 4 done" in text_of(client.get("/teach/"))


def test_the_tour_goes_on_where_it_was_left(cast: Cast, client) -> None:
    client.force_login(cast.olga)
    assert client.post("/guide/", {"area": "operator", "stop": "2"}).status_code == 204
    page = client.get("/operator/").content.decode()
    assert 'data-stop="2"' in page and "Go on with the tour" in page
    client.post("/guide/", {"area": "operator", "stop": "-1"})
    assert 'data-stop="-1"' in client.get("/operator/").content.decode()
    for bad in ("9", "-2", "x", "", "1" * 9):
        assert client.post("/guide/", {"area": "operator", "stop": bad}).status_code == 422
    with pytest.raises(BadInput):
        services.guide_stop(by=cast.olga, area="nowhere", stop=0)


def test_another_area_than_ones_own_is_refused_and_nothing_is_kept(cast: Cast, client) -> None:
    assert (
        client.post("/guide/", {"area": "tenant", "stop": "1"}).status_code == 401
    )  # what was typed waits for the sign-in
    client.force_login(cast.alice)
    assert client.post("/guide/", {"area": "operator", "stop": "1"}).status_code == 422
    assert not Guide.objects.exists()


def test_the_tours_stand_in_words_on_the_help_page(client) -> None:
    told = text_of(client.get("/help/"))
    for stops in TOURS.values():
        assert all(str(stop.title) in told and str(stop.says) in told for stop in stops)
    assert {area: len(items) for area, items in FIRST_STEPS.items()} == {"tenant": 4, "operator": 4, "teacher": 4}
