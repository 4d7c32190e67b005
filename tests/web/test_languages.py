"""The language of the pages: how it is chosen, and what the catalogues hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages import Message

from tests.web.languages import offer
from webapp import catalogues


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


def test_messages_are_found_in_python_templates_and_the_vocabulary(found: catalogues.Catalog) -> None:
    kinds = {Path(place).suffix for message in found for place, _ in message.locations}
    assert kinds == {".py", ".html"}
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
