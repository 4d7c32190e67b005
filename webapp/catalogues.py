"""The message catalogues, without GNU gettext: `python -m webapp.catalogues extract|compile|check`.

`extract` brings webapp/locale/*/LC_MESSAGES/django.po up to date with the sources: sorted, without dates and line
numbers, so that a commit changes only what it changed. `compile` makes what the site reads: django.mo, and the part
that the live views need as a script of its own. `check` says what a translation lacks.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from babel.messages import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from webapp.sentences import sentences

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ROOT / "webapp" / "locale"
SCRIPTS = ROOT / "webapp" / "static" / "i18n"
LIVE = "frontend/src/"
# What the live views are told by the server: the events of a run and what is named in them.
TOLD = (
    LIVE,
    "webapp/runs/",
    "webapp/live/",
    "webapp/ops/story.py",
    "webapp/classroom/wording.py",
    "webapp/vpms/vocabulary.py",
    "hsvm_engine/",
)
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
LITERALS = r'((?:\s*\+?\s*"(?:[^"\\\n]|\\.)*")+)'  # "one" or "one " + "after the other"
LITERAL = r'"((?:[^"\\\n]|\\.)*)"'
CALLS = re.compile(rf"\b(?:t\({LITERALS}|tn\({LITERALS}\s*,{LITERALS})")
PLACEHOLDERS = re.compile(r"%\(\w+\)[sd]|%[sd%]|\{\w*\}|</?\w+")
KEPT = (b"Language:", b"Plural-Forms", b"MIME-Version", b"Content-T")  # headers: no dates, no names
Found = tuple[str, str | tuple[str, ...], str | None]  # file, message, context


def extracted() -> Catalog:
    """Every message of the sources, untranslated."""
    catalog = Catalog(project="vpms", version="1", fuzzy=False)
    places: dict[tuple[str | tuple[str, ...], str | None], set[str]] = {}
    for place, message, context in [*python(), *templates(), *typescript(), *labels(), *composed()]:
        places.setdefault((message, context), set()).add(place)
    for (message, context), where in places.items():
        catalog.add(message, locations=[(place, 0) for place in sorted(where)], context=context)
    return catalog


def python() -> Iterator[Found]:
    for path in sorted((ROOT / "webapp").rglob("*.py")):
        if "migrations" not in path.parts:
            yield from calls(path, path.read_bytes())


def templates() -> Iterator[Found]:
    from django.utils.translation.template import templatize  # here, so that compiling needs no Django

    for path in sorted((ROOT / "webapp" / "templates").rglob("*.*")):
        # What is left are the calls between blanked-out text, whose indentation means nothing.
        source = "\n".join(line.lstrip() for line in templatize(path.read_text()).splitlines())
        yield from calls(path, source.encode())


def calls(path: Path, source: bytes) -> Iterator[Found]:
    for _, message, _, context in extract("python", io.BytesIO(source), KEYWORDS):
        if message:
            yield str(path.relative_to(ROOT)), message, context


def typescript() -> Iterator[Found]:
    """The literals of t("…") and tn("one", "many", …)."""
    for path in sorted((ROOT / LIVE).glob("*.ts")):
        if path.name.endswith(".test.ts"):
            continue
        for single, one, many in CALLS.findall(path.read_text()):
            found = [json.loads(f'"{"".join(re.findall(LITERAL, text))}"') for text in (single, one, many) if text]
            yield str(path.relative_to(ROOT)), tuple(found) if one else found[0], None
    for path in sorted((ROOT / LIVE).glob("*.json")):
        yield from ((str(path.relative_to(ROOT)), row["says"], None) for row in json.loads(path.read_text()))


def labels() -> Iterator[Found]:
    """The labels of the policy language: plain English data there, translated where a page shows them."""
    from webapp.vpms.vocabulary import PROFILES, QUESTIONS, SWITCHES

    texts: list[str] = []
    for switch in SWITCHES.values():
        texts += [switch.label, switch.help]
        texts += [text for value in switch.values for text in (value.label, value.consequence)]
    for question in QUESTIONS.values():
        texts += [question.text, question.help, question.why]
        texts += [text for answer in question.answers for text in (answer.label, answer.consequence)]
    texts += [text for profile in PROFILES for text in (profile.label, profile.help)]
    yield from (("webapp/vpms/vocabulary.py", text, None) for text in texts)
    for path in sorted((ROOT / "hsvm_engine" / "attacks").glob("*.yaml")):
        attack = yaml.safe_load(path.read_text())
        yield from ((str(path.relative_to(ROOT)), str(attack[part]), None) for part in ("title", "says", "paper"))


def composed() -> Iterator[Found]:
    """What Python code puts together unmarked, and the words that string it together."""
    yield from ((place, text, None) for place, text in sentences())
    yield from (("webapp/saying.py", word, None) for word in ("and", "or", "“%(text)s”"))


def locales() -> list[str]:
    return sorted(path.parent.parent.name for path in LOCALES.glob("*/LC_MESSAGES/django.po"))


def file_of(locale: str, ending: str) -> Path:
    return LOCALES / locale / "LC_MESSAGES" / f"django.{ending}"


def stored(locale: str) -> Catalog:
    with file_of(locale, "po").open("rb") as source:
        return read_po(source, locale=locale)


def updated(locale: str, found: Catalog) -> Catalog:
    """The sources' messages with the translations that there are; what the sources no longer say goes."""
    old = stored(locale)
    fresh = Catalog(locale=locale, project="vpms", version="1", fuzzy=False, header_comment=old.header_comment)
    for message in found:
        if not message.id:
            continue
        known = old.get(message.id, message.context)
        same = known if known is not None and known.id == message.id else None
        fresh.add(
            message.id,
            same.string if same else None,
            locations=message.locations,
            context=message.context,
            flags={"fuzzy"} & same.flags if same else (),
            user_comments=same.user_comments if same else (),
        )
    return fresh


def written(catalog: Catalog) -> bytes:
    out = io.BytesIO()
    write_po(out, catalog, width=110, sort_output=True, include_lineno=False, ignore_obsolete=True)
    header, _, messages = out.getvalue().partition(b"\n\n")
    kept = [line for line in header.splitlines() if line[:1] != b'"' or line[1:].startswith(KEPT)]
    return b"\n".join([*kept, b"", messages])


def faults(locale: str, found: Catalog) -> Iterator[str]:
    """What is wrong with one language, as lines for a person."""
    catalog = stored(locale)
    if written(updated(locale, found)) != file_of(locale, "po").read_bytes():
        yield f"{locale}: not what the sources say: run extract"
    for message in updated(locale, found):
        if message.id:
            for fault in message_faults(message, catalog.num_plurals):
                yield f"{locale}: {fault}: {first_of(message)!r}"


def message_faults(message: Message, plurals: int) -> Iterator[str]:
    forms = forms_of(message)
    if not forms or not all(forms) or (message.pluralizable and len(forms) != plurals):
        yield "missing"
        return
    if message.fuzzy:
        yield "fuzzy"
    said = [placeholders(text) for text in ([message.id] if isinstance(message.id, str) else message.id)]
    for number, form in enumerate(forms):
        # The form for one may leave the number out, in each language as it likes.
        may_lack = message.pluralizable and number == 0
        told = placeholders(form)
        if told != said[-1] and not (may_lack and told <= said[-1]):
            yield "placeholders differ"
            return
    if forms[0][:1].isspace() != first_of(message)[:1].isspace() or forms[-1][-1:] != last_of(message)[-1:] in ".:?":
        yield "begins or ends differently"


def forms_of(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string or ())


def placeholders(text: str) -> Counter[str]:
    return Counter(PLACEHOLDERS.findall(text))


def first_of(message: Message) -> str:
    return str(message.id if isinstance(message.id, str) else message.id[0])


def last_of(message: Message) -> str:
    return str(message.id if isinstance(message.id, str) else message.id[-1])


def live_messages(catalog: Catalog) -> dict[str, str | list[str]]:
    """What the live views say, by the English of the singular."""
    return {
        first_of(message): forms_of(message) if message.pluralizable else forms_of(message)[0]
        for message in catalog
        if message.id and any(forms_of(message)) and any(place.startswith(TOLD) for place, _ in message.locations)
    }


def update() -> int:
    found = extracted()
    for locale in locales():
        file_of(locale, "po").write_bytes(written(updated(locale, found)))
    return 0


def build() -> int:
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    for locale in locales():
        catalog = stored(locale)
        with file_of(locale, "mo").open("wb") as out:
            write_mo(out, catalog)
        words = json.dumps(live_messages(catalog), ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        (SCRIPTS / f"{locale}.js").write_text(f"globalThis.vpmsWords={words};\n")
    return 0


def check() -> int:
    found = extracted()
    told = [fault for locale in locales() for fault in faults(locale, found)]
    print("\n".join(told), file=sys.stderr, end="\n" if told else "")
    return 1 if told else 0


COMMANDS: dict[str, Callable[[], int]] = {"extract": update, "compile": build, "check": check}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"python -m webapp.catalogues {'|'.join(COMMANDS)}")
    sys.exit(COMMANDS[sys.argv[1]]())
