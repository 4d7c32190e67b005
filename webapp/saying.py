"""English that was put together below the pages, said in the reader's language.

What is stored, sent to several readers or computed by the policy language is English. A page says it here: a text that
the catalogue has is translated; one that fits a template of the catalogue is taken apart, its parts are said likewise
and put into the translated template; a list is said item by item. What the catalogue does not know stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from babel.messages.mofile import read_mo
from django.conf import settings
from django.core.signals import setting_changed
from django.utils import formats
from django.utils.translation import get_language, gettext, to_locale

PLACE = re.compile(r"%\((\w+)\)s")
QUOTED = re.compile("“[^“”]*”")
FEWEST_LETTERS = 5  # of a template's own, unless it begins with them: fewer would fit too much
DEEPEST = 6
LONGEST = 2000  # of a text that is taken apart at its seams
READ = {"says", "title", "label", "words", "text", "cells", "bits", "of", "name", "message", "reason", "state"}
# How English texts are strung together; the words between are translated too.
SEAMS = (r"(?<=[.?!]) ", "; ", ": ", ", ", r" \(", r"\)", " and ", " or ", "(?<=”) |(?= “)", r"\.$")


class Template(NamedTuple):
    """One English template of the catalogue as a pattern, with its translation."""

    pattern: re.Pattern[str]
    longest: str  # the longest piece of its own words: quickly looked for
    said: str


def say(text: str) -> str:
    """The text in the active language."""
    language = get_language() or "en"
    return text if language.split("-")[0] == "en" else _said(language, str(text), 0)


def said_parts(value: Any) -> Any:
    """A text, or what of a structure for the page's script is read by people, in the active language."""
    if isinstance(value, str):
        return say(value)
    if isinstance(value, list | tuple):
        return [said_parts(each) for each in value]
    if isinstance(value, dict):
        return {
            name: said_parts(each) if name in READ or not isinstance(each, str | list) or _rows(each) else each
            for name, each in value.items()
        }
    return value


def _rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


@lru_cache(maxsize=8192)
def _said(language: str, text: str, depth: int) -> str:
    if not re.search(r"[A-Za-z]{2}", text):
        return _number(text)
    bare = text.strip()
    if bare != text:
        return text.replace(bare, _said(language, bare, depth))
    known = gettext(text)
    if known != text or depth >= DEEPEST:
        return known
    if QUOTED.fullmatch(text):
        return gettext("“%(text)s”").replace("%(text)s", _said(language, text[1:-1], depth + 1))
    name, _, value = text.partition(": ")  # "Who may look inside: Nobody": both are known, whatever else would fit
    if value and (said := (gettext(name), gettext(value))) != (name, value) and name not in said and value not in said:
        return ": ".join(said)
    fitted = _fitted(language, text, depth)
    if fitted is None and text[-1].isalnum():  # a sentence within another lacks the full stop of its own template
        fitted = _fitted(language, text + ".", depth)
        fitted = fitted.removesuffix(".") if fitted else None
    return _strung(language, text, depth) if fitted is None else fitted


def _fitted(language: str, text: str, depth: int) -> str | None:
    """The text by the first template that fits it; None: none does."""
    for template in templates(language):
        if template.longest in text and (found := template.pattern.fullmatch(text)) and all(map(whole, found.groups())):
            return PLACE.sub(lambda place: _said(language, found[place[1]], depth + 1), template.said)
    return None


def whole(part: str) -> bool:
    """Does a part open every bracket and quotation mark that it closes, and close what it opens?"""
    depth = 0
    for sign in part:
        depth += (sign in "(“") - (sign in ")”")
        if depth < 0:
            return False
    return depth == 0


def _strung(language: str, text: str, depth: int) -> str:
    """Said piece by piece, at the outermost seam that leaves nothing in English, else at the outermost of all."""
    if len(text) > LONGEST:
        return text
    best = ""
    for seam in SEAMS:
        pieces = re.split(f"({seam})", text)
        if len(pieces) > 1:
            said = [
                _seam(piece) if index % 2 else _said(language, piece, depth + 1) if piece else ""
                for index, piece in enumerate(pieces)
            ]
            best = best or "".join(said)
            if all(
                new != old or not re.search("[a-z]{2}", old) for new, old in list(zip(said, pieces, strict=True))[::2]
            ):
                return "".join(said)
    if best:
        return best
    lower = text[:1].lower() + text[1:]
    known = gettext(lower)
    return known[:1].upper() + known[1:] if known != lower else text


def _seam(seam: str) -> str:
    word = seam.strip()
    return f" {gettext(word)} " if word.isalpha() else seam


def _number(text: str) -> str:
    """`1,000` and `61.2 %` as the language writes them; versions, addresses and operations stay."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+|\d+\.\d+ %", text):
        point, thousands = formats.get_format("DECIMAL_SEPARATOR"), formats.get_format("THOUSAND_SEPARATOR")
        return text.translate({ord("."): point, ord(","): thousands})
    return text


@lru_cache(maxsize=8)
def templates(language: str) -> tuple[Template, ...]:
    """Those with the most words of their own first: they fit the closest."""
    made = sorted(_made(language), key=lambda pair: -pair[0])
    return tuple(template for _, template in made)


def _made(language: str) -> Iterator[tuple[int, Template]]:
    for directory in settings.LOCALE_PATHS:
        path = directory / to_locale(language) / "LC_MESSAGES" / "django.mo"
        if not path.exists():
            continue
        with path.open("rb") as source:
            catalog = read_mo(source)
        for message in catalog:
            if isinstance(message.id, str) and isinstance(message.string, str) and PLACE.search(message.id):
                own = PLACE.split(message.id)[::2]
                letters = sum(map(len, re.findall("[A-Za-z]+", " ".join(own))))
                if letters >= FEWEST_LETTERS or re.match("[A-Za-z]{2}", own[0]):
                    yield letters, Template(_pattern(message.id), max(own, key=len), message.string)


def _pattern(text: str) -> re.Pattern[str]:
    parts, seen = [], set[str]()
    for index, part in enumerate(PLACE.split(text)):
        if index % 2 == 0:
            parts.append(re.escape(part))
        elif part in seen:
            parts.append(f"(?P={part})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>.*?)")
    return re.compile("".join(parts), re.DOTALL)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "LOCALE_PATHS":
        _said.cache_clear()
        templates.cache_clear()


setting_changed.connect(_forget)
