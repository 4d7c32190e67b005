"""Languages for tests: German as it stands in the sources, and one that is made up from the messages themselves.

The made-up language says every message with accents, a third longer and in brackets, so what stands outside of brackets
on a page was not translated, and what is too long for its place shows.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from babel.messages import Catalog
from babel.messages.mofile import write_mo

ACCENTS = str.maketrans("aceinouyACEINOUY", "áçéíñóúýÁÇÉÍÑÓÚÝ")
KEPT = re.compile(r"(%\(\w+\)[sd]|%[sd%]|\{\w+\}|<[^>]+>|&\w+;)")
READ = ("aria-label", "title", "placeholder", "alt", "data-label")
UNREAD = {"script", "style", "code", "pre", "kbd", "textarea"}
VOID = {"meta", "link", "input", "br", "img", "hr", "path", "rect", "circle", "line"}


def offer(settings: Any, directory: Path, code: str, name: str, catalog: Catalog) -> None:
    """The site speaks English and this one language."""
    path = directory / code / "LC_MESSAGES" / "django.mo"
    path.parent.mkdir(parents=True)
    with path.open("wb") as out:
        write_mo(out, catalog)
    settings.LOCALE_PATHS = [directory]
    settings.LANGUAGES = [("en", "English"), (code, name)]


def made_up(found: Catalog) -> Catalog:
    catalog = Catalog(locale="de")  # for its two plural forms
    for message in found:
        if message.id:
            one = message.id if isinstance(message.id, str) else message.id[0]
            many = message.id if isinstance(message.id, str) else message.id[1]
            said = pseudo(one) if isinstance(message.id, str) else (pseudo(one), pseudo(many))
            catalog.add(message.id, said, context=message.context)
    return catalog


def pseudo(text: str) -> str:
    parts = KEPT.split(text)
    words = "".join(part if index % 2 else part.translate(ACCENTS) for index, part in enumerate(parts))
    return f"⟦{words}{'~' * (len(text) // 3)}⟧"


class Reader(HTMLParser):
    """Collects the words that stand outside of brackets; brackets may span elements."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.depth = 0
        self.unread: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = (given.get("class") or "").split()
        if self.unread or tag in UNREAD or "mono" in names or given.get("lang") == "en":
            if tag not in VOID:
                self.unread.append(tag)
            return
        for name in READ:
            self.outside(given.get(name) or "", 0)

    def handle_endtag(self, tag: str) -> None:
        if self.unread and self.unread[-1] == tag:
            self.unread.pop()

    def handle_data(self, data: str) -> None:
        if not self.unread:
            self.depth = self.outside(data, self.depth)

    def outside(self, text: str, depth: int) -> int:
        bare = ""
        for sign in text:
            depth += (sign == "⟦") - (sign == "⟧")
            bare += sign if depth == 0 and sign != "⟧" else " "
        if bare.strip():
            self.found.append(" ".join(bare.split()))
        return depth
