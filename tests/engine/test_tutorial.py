"""The engine's README is run: its Python in one namespace, its shell lines in one folder, outputs as they are shown."""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hsvm_engine

README = Path(hsvm_engine.__file__).parent / "README.md"
ROOT = README.parent.parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(language: str) -> Iterator[tuple[int, str]]:
    """Line and text of each fenced block of a language."""
    text = README.read_text()
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(1)) + 1, match[1]


def test_the_python_of_the_tutorial_gives_what_it_shows() -> None:
    runner = doctest.DocTestRunner(optionflags=FLAGS | doctest.IGNORE_EXCEPTION_DETAIL)
    parser, names, told = doctest.DocTestParser(), {}, []
    count = 0
    for line, text in blocks("python"):
        test = parser.get_doctest(text, names, "README.md", str(README), line - 1)
        count += len(test.examples)
        runner.run(test, out=told.append, clear_globs=False)
        names = test.globs
    assert not told, "".join(told)
    assert count > 40


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each `$` line of a block, with the `>` lines that belong to it, and the output that is shown for it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        more = next((at for at, line in enumerate(lines[1:], 1) if not line.startswith("> ")), len(lines))
        yield "\n".join([lines[0], *(line[2:] for line in lines[1:more])]), "\n".join(lines[more:])


def test_the_commands_of_the_tutorial_print_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "hsvm"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hsvm_engine "$@"\n')
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    checker = doctest.OutputChecker()
    ran = set()
    for _, block in blocks("sh"):
        for command, shown in commands(block):
            done = subprocess.run(
                ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
            )
            assert (done.returncode, done.stderr) == (0, ""), command
            # an ellipsis at the end of the output stands for any rest of it
            assert checker.check_output(f"{shown}\n" if shown else "", done.stdout, FLAGS), (command, done.stdout)
            ran |= {command.split()[1]} if command.startswith("hsvm ") else set()
    assert ran == {"apply", "attack", "matrix", "walk", "play", "trace", "check"}
