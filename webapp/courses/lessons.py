"""The language of lessons: front matter, CommonMark, and fenced blocks that hold views and questions.

`read` refuses a faulty text whole, with the line and column of each fault; what it gives is data, executed nowhere yet.
The format is told in docs/course-formats.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from django.utils.text import slugify
from markdown_it import MarkdownIt
from markdown_it.token import Token

from webapp.courses import lesson_blocks
from webapp.courses.questions import Choice, Question
from webapp.courses.texts import Text as Yaml
from webapp.courses.texts import at
from webapp.errors import BadInput, Fault
from webapp.vpms.shapes import ID_PATTERN, Array, Integer, Matching, Object, OneOf, Text

FOLDER: Final = Path(__file__).parent / "lessons"
SCHEMA: Final = "vpms/lesson-1"
MOST_BLOCKS: Final = 60
NAME: Final = Matching(ID_PATTERN, "a name (a-z, 0-9, . _ -)")
HEAD: Final = Object(
    {
        "schema": OneOf([SCHEMA]),
        "id": NAME,
        "title": Text(),
        "minutes": Integer(1, 60),
        "summary": Text(),
    },
    {"language": OneOf(["en", "de"])},
)
CHOICE: Final = Object({"name": NAME, "text": Text()}, {"misconception": Text()})
QUESTION: Final = Object(
    {"key": NAME, "text": Text(), "choices": Array(CHOICE, least=2, most=6), "right": NAME, "why": Text()}
)
LINK: Final = re.compile(r"(/(?!/)|https://|#)[^\s]*")
BLANKS: Final = Path(__file__).parent / "blanks"
BLANK: Final = (BLANKS / "lesson.md").read_text()
BLOCKS: Final = BLANKS / "blocks"


@dataclass(frozen=True)
class Part:
    """A piece of a section: text (`html`), a view (`view`, its number in the lesson from 1) or a question."""

    html: str = ""
    view: Any = None
    number: int = 0
    question: Question | None = None


@dataclass(frozen=True)
class Section:
    anchor: str
    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Lesson:
    id: str
    title: str
    minutes: int
    summary: str
    language: str
    sections: Sequence[Section]
    questions: Mapping[str, Question] = field(default_factory=dict)


def read(text: str) -> Lesson:
    """The lesson in a text; BadInput with line and column for a faulty one."""
    head, body, first = _split(text.replace("\r\n", "\n"))
    facts = head.check(HEAD)
    sections, questions = _sections(body, first, facts["title"])
    return Lesson(
        *(facts["id"], facts["title"], facts["minutes"], facts["summary"], facts.get("language", "en")),
        sections,
        questions,
    )


def _split(text: str) -> tuple[Yaml, str, int]:
    """The front matter, the rest, and the number of the line that the rest begins at."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        raise at(1, 1, "must begin with a line ---, the facts of the lesson and a second line ---")
    end = next((n for n, line in enumerate(lines[1:60], 1) if line.rstrip() == "---"), 0)
    if not end:
        raise at(1, 1, "has no second line --- after the facts of the lesson")
    return Yaml("\n".join(lines[1:end]), first=2), "\n".join(lines[end + 1 :]), end + 2


def _sections(body: str, first: int, title: str) -> tuple[list[Section], dict[str, Question]]:
    """Sections begin at headings of the second level; what stands before the first has no title."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(body)
    _check(tokens, first)
    found: list[tuple[str, list[Token]]] = [("", [])]
    for token, name in _headed(tokens, title):
        if name is not None:
            found.append((name, []))
        else:
            found[-1][1].append(token)
    questions: dict[str, Question] = {}
    numbers = iter(range(1, MOST_BLOCKS + 1))
    sections = []
    for n, (name, inside) in enumerate(found):
        parts = list(_parts(markdown, inside, first, questions, numbers))
        if name or parts:
            sections.append(Section(f"s{n}-{slugify(name)}".rstrip("-"), name, parts))
    return sections, questions


def _headed(tokens: list[Token], title: str) -> Iterator[tuple[Token, str | None]]:
    """Each token, or the title of a section for the heading that begins it. The lesson's own title is left out."""
    skip = 0
    for n, token in enumerate(tokens):
        if skip:
            skip -= 1
        elif token.type == "heading_open" and token.tag == "h2":
            skip = 2
            yield token, tokens[n + 1].content
        elif token.type == "heading_open" and token.tag == "h1" and tokens[n + 1].content == title:
            skip = 2
        else:
            yield token, None


def _check(tokens: list[Token], first: int) -> None:
    blocks = 0
    for token in tokens:
        line = (token.map[0] if token.map else 0) + first
        if token.type == "fence" and token.info.strip() in ("view", "question"):
            blocks += 1
            if blocks > MOST_BLOCKS:
                raise at(line, 1, f"has more than {MOST_BLOCKS} views and questions")
            if token.level:
                raise at(line, 1, "a view or a question stands by itself, in no list and no quotation")
        for inner in token.children or ():
            if inner.type == "image":
                raise at(line, 1, "pictures are not allowed: a view shows what the engine does")
            if inner.type == "link_open" and not LINK.fullmatch(str(inner.attrs.get("href", ""))):
                raise at(
                    line, 1, "a link must lead to a page of this site (/…), a heading (#…) or an address (https://…)"
                )


def _parts(
    markdown: MarkdownIt, tokens: list[Token], first: int, questions: dict[str, Question], numbers: Iterator[int]
) -> Iterator[Part]:
    plain: list[Token] = []
    for token in tokens:
        if token.type != "fence" or token.info.strip() not in ("view", "question"):
            plain.append(token)
            continue
        if plain:
            yield Part(html=markdown.renderer.render(plain, markdown.options, {}))
            plain = []
        block = Yaml(token.content, first=(token.map or [0])[0] + first + 1)
        if token.info.strip() == "view":
            yield Part(view=_view(block), number=next(numbers))
        else:
            question = _question(block, questions)
            questions[question.key] = question
            yield Part(question=question)
    if plain:
        yield Part(html=markdown.renderer.render(plain, markdown.options, {}))


def _view(block: Yaml) -> Any:
    kind = block.value.get("view") if isinstance(block.value, dict) else None
    view = lesson_blocks.VIEWS.get(kind) if isinstance(kind, str) else None
    if view is None:
        raise block.refused([Fault("$.view", f"must be one of {', '.join(lesson_blocks.VIEWS)}")])
    block.check(view.shape)
    try:
        return lesson_blocks.Block(view, view.read(block.value), str(block.value.get("title", "")))
    except BadInput as refused:
        raise block.refused(refused.faults) from None


def _question(block: Yaml, others: Mapping[str, Question]) -> Question:
    told = block.check(QUESTION)
    choices = [Choice(each["name"], each["text"], each.get("misconception", "")) for each in told["choices"]]
    names = [choice.name for choice in choices]
    faults = []
    if told["key"] in others:
        faults.append(Fault("$.key", "is the key of another question of this lesson"))
    if len(set(names)) < len(names):
        faults.append(Fault("$.choices", "has a name twice"))
    if told["right"] not in names:
        faults.append(Fault("$.right", "must be the name of a choice"))
    if faults:
        raise block.refused(faults)
    return Question(told["key"], told["text"], choices, told["right"], told["why"])


@lru_cache(maxsize=256)
def known(text: str) -> Lesson:
    """The same for a text that is stored: read once a process."""
    return read(text)


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Mapping[str, str]]:
    """The shipped lessons in their order: by id the text in each language that there is."""
    found: dict[str, dict[str, str]] = {}
    for path in [*sorted(FOLDER.glob("*.md")), *sorted(FOLDER.glob("*/*.md"))]:
        text = path.read_text()
        lesson = known(text)
        found.setdefault(lesson.id, {})[lesson.language] = text
    return found
