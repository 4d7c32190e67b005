"""Runs the examples of a Markdown page: each block ```sh that begins with curl, and the block ```http after it.

The second block says what must come: the status in its first line, then header lines that must be there, then after an
empty line JSON of which every member must come; "…" stands for anything. Where curl is missing, the same request is
made by urllib: of curl's options only those of OPTIONS may be used.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

OPTIONS = {"-H": "header", "-X": "method", "-d": "data"}
EXAMPLE = re.compile(r"^```sh\n(curl .*?)\n```\n+```http\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    line: int
    command: str
    expected: str


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: str


def examples(page: Path) -> list[Example]:
    text = page.read_text()
    found = [Example(text[: m.start()].count("\n") + 1, m[1], m[2]) for m in EXAMPLE.finditer(text)]
    assert len(found) == text.count("\n```sh\ncurl "), f"{page.name}: an example has no ```http block right after it"
    return found


def filled(command: str, names: Mapping[str, str]) -> list[str]:
    """The words of the command, with $NAME filled in as a shell would."""
    words = shlex.split(command.replace("\\\n", " "))
    return [re.sub(r"\$(\w+)", lambda name: names[name[1]], word) for word in words]


def by_curl(words: list[str]) -> Answer:
    done = subprocess.run([*words, "-s", "-i"], capture_output=True, text=True, timeout=60, check=True)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    return Answer(int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body)


def by_urllib(words: list[str]) -> Answer:
    given: dict[str, list[str]] = {"header": [], "method": [], "data": []}
    address, rest = "", iter(words[1:])
    for word in rest:
        if word in OPTIONS:
            given[OPTIONS[word]].append(next(rest))
        else:
            assert not word.startswith("-"), f"{word}: only {', '.join(OPTIONS)} may be used"
            address = word
    data = given["data"][0].encode() if given["data"] else None
    headers = dict(line.split(": ", 1) for line in given["header"])
    request = urllib.request.Request(address, data, headers, method=given["method"][0] if given["method"] else None)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read().decode())
    except urllib.error.HTTPError as refused:
        return Answer(refused.code, {k.lower(): v for k, v in refused.headers.items()}, refused.read().decode())


def ask(command: str, names: Mapping[str, str], *, real: bool | None = None) -> Answer:
    """By curl itself where it is installed, else by the same request; `real` chooses."""
    words = filled(command, names)
    return by_curl(words) if (shutil.which("curl") if real is None else real) else by_urllib(words)


def lacking(expected: Any, came: Any, at: str = "$") -> list[str]:
    """Where what came is not what is expected; it may hold more members, and a list may be longer."""
    if expected == "…":
        return []
    if isinstance(expected, dict) and isinstance(came, dict):
        missing = [f"{at}.{key} is missing" for key in expected if key not in came]
        return missing + [
            fault for key in expected if key in came for fault in lacking(expected[key], came[key], f"{at}.{key}")
        ]
    if isinstance(expected, list) and isinstance(came, list):
        if len(came) < len(expected):
            return [f"{at} has {len(came)} items, not {len(expected)}"]
        return [fault for i, item in enumerate(expected) for fault in lacking(item, came[i], f"{at}[{i}]")]
    if isinstance(expected, str) and expected.endswith("…") and isinstance(came, str):
        return [] if came.startswith(expected[:-1]) else [f"{at} is {came!r}"]
    return [] if expected == came else [f"{at} is {came!r}, not {expected!r}"]


def faults(example: Example, answer: Answer) -> list[str]:
    """How the answer differs from what the page says comes."""
    head, _, body = example.expected.partition("\n\n")
    first, *lines = head.splitlines()
    found = [] if f"{answer.status}" == first.split()[1] else [f"status {answer.status}, not {first.split()[1]}"]
    for line in lines:
        name, _, value = line.partition(": ")
        found += lacking(value, answer.headers.get(name.lower(), "(none)"), name)
    if body.strip():
        found += lacking(json.loads(body), json.loads(answer.body))
    return [f"line {example.line}: {fault}\n{answer.body[:500]}" for fault in found]
