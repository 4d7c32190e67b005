"""What the Python code says in English, read off the sources: literals and f-strings that hold words.

Much of what a page shows is put together below the pages: by the policy language, which knows no web, and by services
whose words go into the log and to several readers. It stays English there, in every process and for every reader;
`webapp.saying` says it in the reader's language where it is shown. So that nothing need be marked twice, the templates
of those sentences are found here: `f"No choice for {switch} is offered."` is "No choice for %(switch)s is offered.".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
# What no page shows: the site's machinery, the command lines, and what is said to developers.
SILENT: Final = re.compile(
    r"webapp/(settings|safety|keys|probe|catalogues|sentences|saying|celery|asgi|jobs|urls|logs|tally|observed)\.py|webapp/[a-z]+/(migrations|management)/.*"
    r"|webapp/live/(publish|places|feed|mailbox|records|topics)\.py|webapp/ops/(keeper|supervisor|demo|styleguide|scale|backup|retention|exchange|figures)\.py"
    r"|webapp/rest/(document|paging)\.py|webapp/([a-z]+/)?[a-z_]*api\.py|.*/(apps|urls|topics)\.py|webapp/lti/(platforms|keys)\.py"
    r"|webapp/vpms/(cli|explain|agreement|fleet|instance|vocabulary|reference)\.py|webapp/solver/.*"
)
ENGINE: Final = ("play.py", "goals.py", "labtask.py", "attackfile.py", "attackscope.py", "attacktext.py")
LOGGED: Final = ("log", "logger", "logging")
MARKED: Final = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy", "filter"}
OURS: Final = {"VpmsError", "BadInput", "Fault", "ValidationError", "HttpError", "Refused"}
NOT_WORDS: Final = re.compile(
    r"[\w ]*_[\w ,|_]*|.*(charset=|; filename=|no-store|PRAGMA|SELECT |=\").*|[a-z]+(-[a-z]+)+ .*|[a-z]+\.[a-z]+ .*"
)
LOOKS = {"ok", "neutral", "accent", "warning", "violation", "progress", "unknown", "info", "blocked", "detected"}
LOOKS |= {"succeeded", "error", "stale", "out-of-scope"}  # names of looks in tables of words
# Words that stand alone are told apart from names in documents by where they stand: tables of words.
TABLES: Final = re.compile(
    r".*(WORDS|CHIPS|LABELS|OUTCOMES|TITLES|NAMES_SHOWN|STAGES|PROPERTIES|AGAINST|STATES|VERDICTS)$"
)

# Words that stand alone and in no such table: names of owners, states, answers, kinds, and of the facts of an event.
ALONE: Final = """
    Idle Swap you always tagged free hypervisor other accepted agreed rejected refused countered agree refuse on off
    stopped held starting running stopping paused done failed cancelled queued reclaim drill law wish must prefer
    STALE PENDING REFUSED DENIED ALLOWED WAITING pages reason event agreement operation moment op step bytes zeros
    Late nobody none yes no changed present absent counters digest host switch value lost open clashes shared
"""


# What sentences of the engine and of a replay are strung from, and no literal of the site says by itself.
PHRASES: Final = (
    "the operator",
    "the operator, %(others)s",
    "the attacker",
    "the victim",
    "the victim meanwhile",
    "encrypted",
    "holds bytes",
    "Step %(n)s of %(total)s, %(whose)s: %(what)s",
    "The attacker's bytes contain the victim's %(count)s secret bytes",
    "The attacker's %(count)s notes of what it saw are the victim's secret, bit by bit",
    "The victim could run and made no progress for %(steps)s steps",
    "VM %(letter)s (victim)",
    "VM %(letter)s (attacker)",
    "VM %(letter)s (victim) page %(page)s",
    "VM %(letter)s (attacker) page %(page)s",
)


def sentences() -> Iterator[tuple[str, str]]:
    """File and template of every sentence, and the words that stand alone."""
    yield from (("webapp/runs/overview.py", word) for word in ALONE.split())
    yield from (("webapp/classroom/replay.py", phrase) for phrase in PHRASES)
    for path in [*sorted((ROOT / "webapp").rglob("*.py")), *(ROOT / "hsvm_engine" / name for name in ENGINE)]:
        place = str(path.relative_to(ROOT))
        if not SILENT.fullmatch(place):
            for text in said_in(path.read_text()):
                yield place, text


def said_in(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    silent = {id(node) for node in unsaid(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            yield from table(node)
        if id(node) in silent:
            continue
        text = template_of(node)
        if text is not None and holds_words(text):
            yield text.strip()


def unsaid(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose text is for nobody: documentation, what is logged, other errors than ours, what is marked anyway."""
    for node in ast.walk(tree):
        skipped: list[ast.AST] = []
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped = [node.value]
        elif isinstance(node, ast.Call):
            name = called(node)
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if name in MARKED or (isinstance(owner, ast.Name) and owner.id in LOGGED):
                skipped = [*node.args, *node.keywords]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and called(node.exc) not in OURS:
            skipped = [] if called(node.exc)[:1].islower() else [node.exc]
        elif isinstance(node, ast.Assert):
            skipped = [node]
        elif isinstance(node, ast.JoinedStr):
            skipped = [part for part in node.values if isinstance(part, ast.Constant)]
            skipped += [
                part.format_spec for part in node.values if isinstance(part, ast.FormattedValue) and part.format_spec
            ]
        for part in skipped:
            yield from ast.walk(part)


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def template_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return named(node.value)
    if not isinstance(node, ast.JoinedStr):
        return None
    names: dict[str, str] = {}
    parts = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            code = ast.unparse(part.value)
            if code not in names:
                names[code] = free(name_of(part.value), set(names.values()))
            parts.append(f"%({names[code]})s")
        elif isinstance(part, ast.Constant):
            parts.append(str(part.value))
    return named("".join(parts))


def named(text: str) -> str:
    """The places of str.format are written as those of an f-string."""
    return re.sub(r"\{(\w+)[^{}]*\}", r"%(\1)s", text)


def name_of(value: ast.expr) -> str:
    """What a translator reads in place of an expression."""
    if isinstance(value, ast.Name):
        return value.id
    if isinstance(value, ast.Attribute):
        return name_of(value.value) if value.attr in ("name", "pk", "slug", "label") else value.attr
    if isinstance(value, ast.Subscript):
        key = value.slice
        return key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else name_of(value.value)
    if isinstance(value, ast.Call):
        return name_of(value.args[0]) if value.args else name_of(value.func)
    if isinstance(value, ast.BinOp):
        return name_of(value.left)
    return "what"


def free(name: str, taken: set[str]) -> str:
    name = re.sub(r"\W", "", name) or "what"
    return next(each for each in (name, *(f"{name}{n}" for n in range(2, 99))) if each not in taken)


def holds_words(text: str) -> bool:
    words = re.sub(r"%\(\w+\)s", "X", text)
    plain = re.search(r"(?<![\w./:&?=-])[a-z]{2,}(?![\w/=:-]*[=/])|\b[A-Z][a-z]+ ", words)
    return bool(
        " " in words.strip() and plain and not NOT_WORDS.fullmatch(words) and "%s" not in words and "\\" not in words
    )


def table(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """The single words of a table of words, and the labels that Django makes of a list of choices."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if not any(isinstance(target, ast.Name) and TABLES.fullmatch(target.id) for target in targets) or not node.value:
        return
    keys = {id(key) for found in ast.walk(node.value) if isinstance(found, ast.Dict) for key in found.keys if key}
    for found in ast.walk(node.value):
        text = found.value if isinstance(found, ast.Constant) and id(found) not in keys else None
        if isinstance(text, str) and re.search(r"[A-Za-z]{2}", text) and "_" not in text and text not in LOOKS:
            yield named(text)
