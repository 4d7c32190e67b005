"""The language of the pages: how it is chosen, and what the catalogues hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages import Message
from django.utils import translation

from tests.conftest import Cast
from tests.web.languages import Reader, made_up, offer
from tests.web.test_isolation import filled, our_routes
from webapp import catalogues, sentences
from webapp.saying import said_parts, say

# Names are the same in every language: of people, VMs, programs, formats, units, machines, checks and kinds of entry.
NAMES = """
    a-db b-web alpha beta Alpha Clinic Beta Shop h1 alice bob olga ines sqlite3 gzip z1 JSON YAML VPMS H-SVM MiB English
    Deutsch Accents DOI hsvm hsvm-smm check disclosure rwx rw owner_check zero_on_release tlb_shootdown swap_version
    swap_binding context_protection dma_check hv_access_check db web nested shadow
"""
# What is no page for people, or English on purpose.
UNTRANSLATED = ("/api/", "/styleguide/", "/live/newest/", "/sign-out/")


@pytest.fixture(scope="module")
def found() -> Iterator[catalogues.Catalog]:
    yield catalogues.extracted()


@pytest.fixture
def german(settings, tmp_path: Path) -> None:
    offer(settings, tmp_path, "de", "Deutsch", catalogues.stored("de"))


def test_the_language_is_chosen_without_script_and_without_signing_in(client, db: None, german: None) -> None:
    assert '<html lang="en" dir="ltr"' in client.get("/sign-in/").content.decode()
    answer = client.post("/language/", {"language": "de", "next": "/sign-in/"})
    assert answer.status_code == 302 and answer["Location"] == "/sign-in/"
    assert answer.cookies["language"]["samesite"] == "Lax" and answer.cookies["language"]["httponly"]
    page = client.get("/sign-in/").content.decode()
    assert '<html lang="de" dir="ltr"' in page and 'lang="de" title="Deutsch" aria-pressed="true"' in page


def test_without_a_choice_the_browser_says_the_language(client, db: None, german: None) -> None:
    answer = client.get("/", headers={"accept-language": "fr, de-AT;q=0.8, en;q=0.5"})
    assert '<html lang="de"' in answer.content.decode() and answer["Content-Language"] == "de"
    assert {"Accept-Language", "Cookie"} <= set(answer["Vary"].split(", "))


def test_an_unknown_language_is_refused_and_a_foreign_next_is_not_followed(client, db: None, german: None) -> None:
    assert client.post("/language/", {"language": "tlh"}).status_code == 422
    assert client.post("/language/", {"language": "de", "next": "//elsewhere.example/"})["Location"] == "/"
    client.cookies["language"] = "../../de"
    assert '<html lang="en"' in client.get("/").content.decode()


def test_a_site_without_catalogues_offers_no_choice_and_speaks_english(client, db: None, settings) -> None:
    settings.LANGUAGES = [("en", "English")]
    page = client.get("/", headers={"accept-language": "de"}).content.decode()
    assert 'action="/language/"' not in page and '<html lang="en"' in page


def test_messages_are_found_in_python_templates_typescript_and_the_tables(
    found: catalogues.Catalog,
) -> None:
    kinds = {Path(place).suffix for message in found for place, _ in message.locations}
    assert {".py", ".html", ".ts", ".yaml", ".json"} <= kinds
    assert ("webapp/vpms/vocabulary.py", 0) in found["Memory protection"].locations


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (Message("Stop", ""), "missing"),
        (Message("Stop", "Anhalten", flags=["fuzzy"]), "fuzzy"),
        (Message("%(n)s pages", "Seiten"), "placeholders differ"),
        (Message("{n} pages", "{m} Seiten"), "placeholders differ"),
        (Message("See <a>this</a>", "Siehe dies"), "placeholders differ"),
        (Message(("%(n)s page", "%(n)s pages"), ("Eine Seite", "")), "missing"),
        (Message(("%(n)s page", "%(n)s pages"), ("%(n)s Seite",)), "missing"),
        (Message("Stopped.", "Angehalten"), "begins or ends differently"),
    ],
)
def test_a_faulty_translation_is_named(message: Message, fault: str) -> None:
    assert list(catalogues.message_faults(message, plurals=2)) == [fault]


def test_a_sound_translation_has_no_fault() -> None:
    for message in (
        Message("Stop %(vm)s.", "%(vm)s anhalten."),
        Message(("One page", "%(n)s pages"), ("Eine Seite", "%(n)s Seiten")),
    ):
        assert list(catalogues.message_faults(message, plurals=2)) == []


def test_every_language_is_complete_and_fits_the_sources(found: catalogues.Catalog) -> None:
    assert [fault for locale in catalogues.locales() for fault in catalogues.faults(locale, found)] == []


def test_no_page_says_anything_that_cannot_be_translated(
    cast: Cast, client, settings, tmp_path: Path, found: catalogues.Catalog
) -> None:
    from webapp.agreements.services import start_request

    alone = start_request(by=cast.alice, vm=cast.a_db).pk
    offer(settings, tmp_path, "xx", "Accents", made_up(found))
    settings.LANGUAGES_BIDI = ["xx"]
    client.cookies["language"] = "xx"
    english: dict[str, str] = {}
    read: set[str] = set()
    for person in (None, cast.alice, cast.olga, cast.ines):
        if person is not None:
            client.force_login(person)
        for route in our_routes():
            if route in read or route.startswith(UNTRANSLATED):
                continue
            path = filled(route, alone)
            answer = client.get(path.replace("a-db", "h1") if "host" in route else path)
            if answer.status_code != 200 or not answer.headers["Content-Type"].startswith("text/html"):
                continue
            read.add(route)
            page = answer.content.decode()
            assert "<html" not in page or '<html lang="xx" dir="rtl"' in page, route
            english |= {words: route for text in Reader(page).found if (words := unnamed(text))}
    assert not english, "; ".join(f"{route}: {words}" for words, route in english.items())
    assert len(read) >= 35


def unnamed(text: str) -> str:
    """The words of a text that are no names, numbers, addresses or digests."""
    bare = re.sub(r"\b[0-9a-f]{8,}\b|\S*[/:@…]\S*|\b\S+\.\S+", " ", text)
    return " ".join(
        word for word in re.findall(r"\b(?:[A-Za-z]*[a-z]{2}|[A-Z]{4})[\w-]*", bare) if word not in NAMES.split()
    )


SAID = [
    ("Memory protection", "Speicherschutz"),
    ("No choice for Page sharing is offered", "No choice for Page sharing is offered"),
    ("a-db is stopped; only a running VM can be moved.", "a-db ist angehalten; nur eine laufende VM kann umziehen."),
    ("Running: Never, No and Ask me", "Läuft: Nie, Nein und Mich fragen"),
    ("a-db gives 1,024 pages back", "a-db gibt 1.024 Seiten zurück"),
    (
        "Who else is on the host: VMs of the same trust class",
        "Wer sonst auf dem Host ist: VMs derselben Vertrauensklasse",
    ),
    ("61.2 %", "61,2 %"),
    ("engine 1.2.3, 0x1f", "engine 1.2.3, 0x1f"),
    ("Nobody said this before in 7 words", "Nobody said this before in 7 words"),
]  # fmt: skip


@pytest.mark.parametrize(("english", "words"), SAID)
def test_english_that_was_put_together_is_said_in_german(german: None, english: str, words: str) -> None:
    assert say(english) == english
    with translation.override("de"):
        assert say(english) == words


def test_of_a_structure_only_what_people_read_is_said(german: None) -> None:
    with translation.override("de"):
        film = said_parts({"state": "done", "op": "none", "rows": [{"cells": ["none"], "look": "free"}]})
    assert film == {"state": "fertig", "op": "none", "rows": [{"cells": ["keine"], "look": "free"}]}


def test_templates_of_sentences_are_read_off_the_code() -> None:
    source = '''
"""Not this text."""
log.info("nor this one at all")
raise ValueError("nor what only developers read")
raise VpmsError("code", message=f"{vm.name} has no {things[0]:>3} left.")
TITLE_WORDS = {"key": "Never", "other_key": "snake_case"}
kind = "one_of these_names"
'''
    assert set(sentences.said_in(source)) == {"%(vm)s has no %(things)s left.", "Never"}
