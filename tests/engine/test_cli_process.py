"""`hsvm` as a process: examples that run, exit codes, signals, pipes, terminals, files of every unlucky kind."""

import argparse
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsvm_engine.attackfile import builtin_ids
from hsvm_engine.cli import build_parser, main

ROOT = Path(__file__).resolve().parent.parent.parent
HSVM = (sys.executable, "-m", "hsvm_engine")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LONG = {"hsvm trace record", "hsvm bench"}  # these need Valgrind or a C compiler, and minutes
MACHINE = '{"frames": 2048, "hypervisor_frames": 64, "protected_frames": 64}'


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)


PARSERS = {parser.prog: parser for parser in parsers(build_parser())}


def example(parser: argparse.ArgumentParser) -> str:
    words, _, script = (parser.epilog or "").partition("\n")
    assert words == "example:"
    return "\n".join(line.removeprefix("  ") for line in script.partition("\n\n")[0].splitlines())


def hsvm(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 120, "env": ENVIRONMENT, **more}
    return subprocess.run([*HSVM, *map(str, words)], **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("name", PARSERS)
def test_every_command_says_in_a_line_what_it_is_for_and_shows_an_example(name: str) -> None:
    parser = PARSERS[name]
    assert parser.description is not None
    assert parser.description.endswith(".")
    assert "\n" not in parser.description
    assert example(parser).splitlines()[-1].startswith(name if " " in name else "hsvm ")
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction) or action.dest in ("output", "file")
    for line in parser.format_help().splitlines():
        assert len(line) <= 130, line


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in LONG])
def test_every_example_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "hsvm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hsvm_engine "$@"\n')
    (folder / "hsvm").chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{folder}:{os.environ['PATH']}"}
    script = ["sh", "-e", "-c", example(PARSERS[name])]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def inside(capsys: pytest.CaptureFixture[str], words: tuple[object, ...]) -> tuple[int, str, str]:
    """The command in this process: quicker, and an error that would be a traceback fails the test by itself."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:  # argparse's own refusal
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


# Signals, pipes, terminals


def test_an_interrupt_ends_quietly_with_130(tmp_path: Path) -> None:
    machine, pipe = tmp_path / "machine.json", tmp_path / "ops"
    machine.write_text(MACHINE)
    os.mkfifo(pipe)
    words = [*HSVM, "apply", "--machine", str(machine), str(pipe)]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore it otherwise
    child = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, heard)
    with pipe.open("w"):  # opens when the child does: it is inside the command
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_goes_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(MACHINE)
    (tmp_path / "ops.jsonl").write_text('{"op": "claim", "mfn": 100}\n' * 20_000)
    script = f'"{sys.executable}" -m hsvm_engine apply --machine machine.json ops.jsonl | head -n 1'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ('{"status":"OK"}\n', "")


def test_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = hsvm("trace", "info", "gzip", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "hsvm: standard output: No space left on device\n")


def test_operations_can_come_through_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(MACHINE)
    words = ("apply", "--machine", tmp_path / "machine.json", "/dev/stdin")
    done = hsvm(*words, input='{"op": "claim", "mfn": 100}\n{"op": "claim", "mfn": 100}\n')
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    done = hsvm(*words, input='{"op": "claim", "mfn": 100}\nrubbish\n')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hsvm: /dev/stdin: line 2 column 1: ")


def test_progress_is_shown_on_a_terminal_only() -> None:
    words = ("matrix", "--architecture", "hsvm")
    quiet = hsvm(*words)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    ours, theirs = pty.openpty()
    child = subprocess.Popen([*HSVM, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert child.stdout is not None
    out = child.stdout.read().decode()
    child.wait(timeout=60)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other side is closed
        pass
    os.close(ours)
    assert out == quiet.stdout
    assert f"attacks: 1 of {len(builtin_ids())}".encode() in shown
    assert shown.count(b"\n") == 0, "one line, rewritten"
    assert shown.endswith(b"\r\x1b[K"), "and gone in the end"


# Unlucky files


def commands_on(file: object, machine: object, ops: object) -> list[tuple[object, ...]]:
    """Every command that reads a file, with this file."""
    return [
        ("apply", "--machine", file, ops),
        ("apply", "--machine", machine, file),
        ("walk", "--machine", file, ops, "--gva", 0),
        ("walk", "--machine", machine, file, "--gva", 0),
        ("attack", "run", file, "--architecture", "hsvm"),
        ("play", file),
        ("play", "demo", "--trace", f"gzip={file}"),
        ("trace", "info", file),
        ("trace", "import", file, "-o", f"{ops}.hsvmtrace"),
    ]


@pytest.mark.parametrize("kind", ["missing", "folder", "empty name", "garbage", "text", "zeros", "no end", "surrogate"])
def test_an_unlucky_file_is_exit_2_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    machine, ops, bad = tmp_path / "machine.json", tmp_path / "ops.jsonl", tmp_path / "bad"
    machine.write_text(MACHINE)
    ops.write_text('{"op": "claim", "mfn": 100}\n')
    name: object = bad
    if kind == "folder":
        bad.mkdir()
    elif kind == "empty name":
        name = ""
    elif kind == "garbage":
        bad.write_bytes(bytes(range(256)) * 400)
    elif kind == "text":
        bad.write_text("hello\nworld: [\n")
    elif kind == "zeros":
        bad.write_bytes(bytes(1 << 20))
    elif kind == "no end":
        name = "/dev/zero"
    elif kind == "surrogate":
        name = os.fsdecode(b"bad\xff")
    for words in commands_on(name, machine, ops):
        code, out, err = inside(capsys, words)
        assert (code, out) == (2, ""), words
        assert err.startswith("hsvm: "), err
        assert err.count("\n") == 1, err
        if kind not in ("empty name", "surrogate"):
            assert Path(str(name)).name in err
    assert not [path for path in tmp_path.iterdir() if path not in (machine, ops, bad)], "nothing is left behind"


@pytest.mark.parametrize(
    "words",
    [
        ("conquer",),
        (),
        ("attack",),
        ("trace",),
        ("attack", "run", "A01"),
        ("attack", "run", "A01", "--architecture", "tdx"),
        ("matrix", "--architecture", "tdx"),
        ("matrix", "--seed", "x"),
        ("matrix", "--seed", "9" * 5000),
        ("play", "nowhere"),
        ("play", "demo", "--steps", "0"),
        ("play", "demo", "--accesses", "-1"),
        ("play", "demo", "--trace", "gzip"),
        ("check", "--ops", "-1"),
        ("check", "--every", "0", "--ops", "1"),
        ("trace", "record", "--", "no-such-program-anywhere"),
        ("trace", "import", "x", "--limit", "0"),
        ("walk", "--machine", "x", "y", "--gva", "zero"),
        ("matrix", "--arch", "hsvm"),
    ],
)
def test_wrong_words_are_exit_2_with_a_reason(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = inside(capsys, words)
    assert (code, out) == (2, "")
    assert "hsvm" in err


def test_as_a_process_it_ends_the_same_way() -> None:
    done = hsvm("play", "nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "hsvm: nowhere: No such file or directory\n")
    assert hsvm("conquer").returncode == 2
