"""What a page says, as a reader of the screen meets it: no marks, no scripts, one line for each block."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from webapp.vpms.explain import explain

BLOCKS = frozenset(
    ("p", "div", "li", "tr", "h1", "h2", "h3", "section", "header", "form", "fieldset", "legend", "summary", "details")
) | {"dt", "ul", "ol", "table", "main"}
SILENT = frozenset(("script", "style", "head", "svg"))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.silent += tag in SILENT
        self.said.append("\n" if tag in BLOCKS else " | " if tag in ("td", "th") else " / " if tag == "option" else "")

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in SILENT
        self.said.append("\n" if tag in BLOCKS else "")

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.said.append(re.sub(r"\s+", " ", data))


def text_of(answer: Any) -> str:
    """The text of a response's main part, or of HTML."""
    html = answer if isinstance(answer, str) else answer.content.decode()
    start = html.find("<main")
    reader = _Reader()
    reader.feed(html[max(start, 0) : html.find("</main>") if start >= 0 else None])
    lines = (re.sub(r" +", " ", line).strip(" |/") for line in "".join(reader.said).split("\n"))
    return "\n".join(line for line in lines if line)


class Story:
    """What the screens say one after another, then what `vpms explain` tells from the log: `make stories` keeps it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parts: list[str] = []

    def screen(self, title: str, answer: Any) -> str:
        said = text_of(answer)
        self.parts.append(f"== {len(self.parts) + 1}. {title}\n\n{said}")
        return said

    def log(self, lines: Iterable[str]) -> str:
        said = explain("".join(lines).encode())
        self.parts.append(f"== {len(self.parts) + 1}. The same from the log, as `vpms explain` tells it\n\n{said}")
        if os.environ.get("STORIES"):
            Path(os.environ["STORIES"], f"{self.name}.txt").write_text("\n\n".join(self.parts).rstrip() + "\n")
        return said
