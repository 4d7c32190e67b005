"""Lab tasks and their grades: predicates over what was executed, each with points and a reason."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsvm_engine.attackfile import builtin_ids
from hsvm_engine.attacktext import AttackFileError
from hsvm_engine.goals import grade, grade_text, told
from hsvm_engine.interpreter import run_attack, secret_of
from hsvm_engine.labtask import public_text, read_answer, read_task
from tests.web.lab import MODELS

ROOT = Path(__file__).resolve().parent.parent.parent
TASKS = {path.stem: path.read_text() for path in sorted((ROOT / "webapp" / "courses" / "labs").glob("*.yaml"))}
PLAIN = TASKS["read-the-secret"]


def graded(name: str, change: Any = None, seed: int = 7) -> dict[str, Any]:
    task = read_task(TASKS[name])
    return grade(task, read_answer(task, change(task.starter) if change else task.starter), seed)


def with_goals(*goals: str) -> str:
    """The first task with other goals."""
    head = (
        PLAIN[: PLAIN.index("goals:")]
        .replace("setup: given", "setup: free")
        .replace("port: hypervisor\nsetup", "port: free\nsetup")
    )
    return head + "goals:\n" + "".join(goals)


def goal(predicate: str, points: int = 1) -> str:
    return f"  - points: {points}\n    says: a goal\n    {predicate}\n"


def attack(*steps: str) -> str:
    start = read_task(PLAIN).starter
    return start[: start.index("attacker:")] + "attacker:\n" + "".join(steps)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("seed", [0, 7, 2**48 - 1])
def test_the_model_solution_of_a_shipped_task_gets_every_point(name: str, seed: int) -> None:
    found = graded(name, MODELS[name], seed)
    assert found["points"] == found["of"] == 10, [row for row in found["goals"] if not row["met"]]
    assert all(row["says"].endswith(".") for row in found["goals"])


@pytest.mark.parametrize("name", TASKS)
def test_the_untouched_starter_of_a_shipped_task_gets_nothing(name: str) -> None:
    assert graded(name)["points"] == 0


def test_a_half_right_attack_gets_a_part_with_a_reason_for_each_goal() -> None:
    found = graded("read-the-secret", lambda text: MODELS["read-the-secret"](text).replace("length: 16", "length: 4"))
    assert [row["points"] for row in found["goals"]] == [2, 1, 2, 1] and found["points"] == 7
    assert (
        found["goals"][1]["says"] == "On nested 4 of the bytes 0 to 15 of the secret came out of the attacker's port."
    )
    found = graded("three-refusals", lambda text: text.replace("mfn: 512", "mfn: $frame"))
    assert [row["met"] for row in found["goals"]] == [True, False, False, True]
    assert "owner_check refused no step of the attack; hv_access_check did." in found["goals"][1]["says"]
    found = graded(
        "stale-entry", lambda text: text.replace("op: guest_read\n    core: 1", "op: guest_read\n    core: 0")
    )
    assert found["points"] == 0 and "could not be carried out" in found["goals"][0]["says"]


def test_the_same_file_task_and_seed_give_the_same_grade_byte_for_byte(tmp_path: Path) -> None:
    """Also in another process: the command line prints exactly what the site stores."""
    name = "stale-entry"
    task = read_task(TASKS[name])
    answer = MODELS[name](task.starter)
    (tmp_path / "mine.yaml").write_text(answer)
    (tmp_path / "task.yaml").write_text(TASKS[name])
    here = grade_text(graded(name, MODELS[name], 11))
    command = [
        sys.executable,
        "-m",
        "hsvm_engine",
        "attack",
        "grade",
        "mine.yaml",
        "--task",
        "task.yaml",
        "--seed",
        "11",
    ]
    printed = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True, env=_env())
    assert printed.stdout.rstrip("\n") == here == grade_text(graded(name, MODELS[name], 11))
    words = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=_env())
    assert words.stdout.startswith("Read through a stale TLB entry: 10 of 10 points, seed 11\n")
    for column, found in json.loads(here)["columns"].items():
        verdict = run_attack(read_answer(task, answer), column, seed=11)
        assert (verdict.outcome, verdict.reason, verdict.digest) == (found["outcome"], found["reason"], found["digest"])


def _env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_command_line_fails_with_the_place_of_a_fault_and_with_points_missing(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(PLAIN)
    (tmp_path / "mine.yaml").write_text(read_task(PLAIN).starter)
    command = [sys.executable, "-m", "hsvm_engine", "attack", "grade", "mine.yaml", "--task", "task.yaml"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, env=_env()).returncode == 1
    (tmp_path / "mine.yaml").write_text(read_task(PLAIN).starter.replace("hv_read", "hv_peek"))
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=_env())
    assert failed.returncode == 2 and failed.stderr.startswith("hsvm: mine.yaml: line 29 column 9: unknown operation")


# -- predicates


def test_a_byte_counts_as_read_only_where_it_follows_the_secret() -> None:
    """Neither a page of every value, nor noise, nor another byte of the same value is taken for it."""
    everything = "".join(f"{value:02x}" for value in range(256))
    write = f"  - op: hv_write\n    mfn: 2000\n    offset: 0\n    data: {everything}\n"
    read = "  - op: hv_read\n    mfn: 2000\n    offset: 0\n    length: 256\n    as: seen\n"
    swap = "  - op: swap_out\n    vm: $victim\n    gpn: 0\n    as: image\n"
    task = read_task(
        with_goals(goal("read: 0-15\n    on: nested"), goal("read: 0-15\n    on: hsvm")).replace(
            "  steps: 50", "  steps: 60"
        )
    )
    found = grade(task, read_answer(task, attack(write, read)), 3)
    assert found["points"] == 0
    found = grade(task, read_answer(task, attack(swap)), 3)
    assert [row["points"] for row in found["goals"]] == [1, 0]  # plain on nested, sealed on H-SVM
    one = "  - op: hv_read\n    mfn: $frame\n    offset: {}\n    length: 1\n    as: seen\n"
    for seed in range(6):
        for place in (0, 5, 15):
            task = read_task(with_goals(*(goal(f"read: {n}\n    on: nested") for n in range(16))))
            found = grade(task, read_answer(task, attack(one.format(2048 + place))), seed)
            assert [n for n, row in enumerate(found["goals"]) if row["met"]] == [place]


def test_what_an_idle_attack_has_for_nothing_counts_only_beside_another_goal() -> None:
    task = read_task(with_goals(goal("operations: 5"), goal("not_used: hv_write"), goal("read: 0\n    on: nested")))
    idle = "  - op: hv_read\n    mfn: 512\n    offset: 0\n    length: 1\n    as: seen\n"
    found = grade(task, read_answer(task, attack(idle)), 1)
    assert found["points"] == 0 and found["goals"][0]["says"].endswith("It counts when another goal is reached.")
    real = idle.replace("512", "$frame").replace("offset: 0", "offset: 2048")
    assert grade(task, read_answer(task, attack(real)), 1)["points"] == 3
    assert grade(task, read_answer(task, attack(real, *[idle] * 5)), 1)["points"] == 2


def test_a_harmless_attack_was_not_blocked() -> None:
    task = read_task(with_goals(goal("outcome: BLOCKED\n    on: hsvm")))
    idle = "  - op: hv_read\n    mfn: 512\n    offset: 0\n    length: 1\n    as: seen\n"
    assert grade(task, read_answer(task, attack(idle)), 1)["points"] == 0
    assert grade(task, read_answer(task, attack(idle.replace("512", "$frame"))), 1)["points"] == 1


def test_a_grade_that_counts_tells_nothing_of_its_seed() -> None:
    for name in TASKS:
        for seed in (123_456_789_012, 999_999_999_999):
            text = json.dumps(told(graded(name, MODELS[name], seed)))
            secret = secret_of(seed).hex()
            assert str(seed) not in text and f"{seed:x}" not in text and "columns" not in text
            assert not any(secret[i : i + 8] in text for i in range(24))
        assert told(graded(name, MODELS[name], 5)) == told(graded(name, MODELS[name], 6))


def test_a_hidden_test_tells_the_teachers_message_and_nothing_else() -> None:
    found = graded("read-the-secret")
    assert set(found["hidden"][0]) == {"name", "points", "of", "met", "says"}
    assert found["hidden"][0]["name"] == "" and found["hidden"][0]["says"].startswith("Do not tear")
    copy = public_text(PLAIN)
    assert "Do not tear" not in copy and "hidden" not in copy and "hints" not in copy
    assert read_task(copy).goals == read_task(PLAIN).goals and not read_task(copy).hidden


# -- what a file may do

PORTS = "port:\n  - hypervisor\n  - physical\n"
DECLARED = "declared:\n  nested:\n    outcome: OUT_OF_SCOPE\n    reason: mine\nlet:\n"
REPEAT = "  - repeat: 60\n    steps:\n      - op: claim\n        mfn: 3\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("gpa: 2048", "gpa: 1024"), "line 22 .*victim is given"),
        (lambda text: text.replace("frame: 4096", "frame: 4097"), "let frame belongs to the given setup"),
        (lambda text: text.replace("vcpus: 1", "vcpus: 2"), "line 8 .*setup is given"),
        (lambda text: text.replace("port: hypervisor\n", PORTS), "gives only hypervisor, not physical"),
        (lambda text: text.replace("let:\n", "machine:\n  cores: 2\nlet:\n"), "machine of this task is given"),
        (lambda text: text.replace("let:\n", DECLARED), "line 5 .*an outcome is observed"),
        (lambda text: text + REPEAT, "more than 50 executed steps"),
    ],
)  # fmt: skip
def test_a_file_that_leaves_the_task_is_refused_with_its_place(change: Any, reason: str) -> None:
    task = read_task(PLAIN)
    with pytest.raises(AttackFileError, match=reason):
        read_answer(task, change(task.starter))


def test_a_machine_beyond_the_limits_is_refused() -> None:
    task = read_task(with_goals(goal("read: 0\n    on: nested")))
    with pytest.raises(AttackFileError, match="at most 16,384 frames"):
        read_answer(task, task.starter.replace("let:\n", "machine:\n  frames: 16385\nlet:\n"))
    impossible = task.starter.replace("let:\n", "machine:\n  frames: 10\nlet:\n")
    with pytest.raises(AttackFileError, match="line"):
        grade(task, read_answer(task, impossible), 1)


# -- the language


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("schema: hsvm/lab-1", "schema: hsvm/lab-2", "line 1 column 9: schema is one of"),
        ("port: hypervisor\nsetup", "port: root\nsetup", "port is one of free"),
        ("  - nested\n  - hsvm", "  - nested\n  - nested", "a column is named twice"),
        ("  - nested\n  - hsvm", "  - nested\n  - plain", "a column is one of"),
        ("    read: 0\n", "    read: 16\n", "read is the number of a byte"),
        ("    read: 0-15\n", "    read: 15-0\n", "read is the number of a byte"),
        ("    blocked: hv_access_check", "    blocked: the_check", "blocked is one of"),
        ("    operations: 2", "    operations: 0", "operations must be an integer from 1"),
        ("    operations: 2", "    operations: 2\n    on: nested", "operations is about the file and has no column"),
        ("    read: 0\n    on: nested", "    read: 0", "read needs a column: on"),
        ("    read: 0\n", "    read: 0\n    outcome: BLOCKED\n", "exactly one of"),
        ("    on: hsvm\n", "    on: shadow\n", "on is one of nested, hsvm"),
        ("    cost: 30", "    cost: 95", "more than 100 percent"),
        ("  steps: 50", "  steps: 3", "the starter breaks the task's own rules"),
        ("  steps: 50", "  seconds: 50", "unknown key seconds"),
        ("    - op: hv_read", "    - op: hv_peek", "line 42 column 11: unknown operation hv_peek"),
        ("points: 2\n    says: Read byte", "points: 0\n    says: Read byte", "points must be an integer from 1"),
        ("goals:", "goal:", "unknown key goal"),
        ("starter: |", "starter: >", "literal block"),
    ],
)  # fmt: skip
def test_a_faulty_task_is_refused_with_its_place(old: str, new: str, reason: str) -> None:
    assert old in PLAIN
    with pytest.raises(AttackFileError, match=reason):
        read_task(PLAIN.replace(old, new, 1))


def test_damaged_tasks_and_attacks_are_refused_and_nothing_else_happens() -> None:
    source = random.Random(1)
    tasks = list(TASKS.values())
    read = 0
    for _ in range(1500):
        text = damaged(source.choice(tasks), source)
        try:
            task = read_task(text)
        except AttackFileError as wrong:
            assert wrong.line >= 1 and wrong.column >= 1 and wrong.reason
            continue
        read += 1
        assert read_task(public_text(text)).goals == task.goals
    assert read
    task = read_task(TASKS["stale-entry"])
    answer = MODELS["stale-entry"](task.starter)
    for _ in range(400):
        try:
            found = grade(task, read_answer(task, damaged(answer, source)), 1)
        except AttackFileError as wrong:
            assert wrong.line >= 1 and wrong.column >= 1
            continue
        assert 0 <= found["points"] <= found["of"]


def damaged(text: str, source: random.Random) -> str:
    """The text with one to three things done to it."""
    lines = text.splitlines(keepends=True)
    for _ in range(source.randint(1, 3)):
        at, other = source.randrange(len(lines)), source.randrange(len(lines))
        match source.randrange(6):
            case 0:
                del lines[at : at + source.randint(1, 4)]
            case 1:
                lines.insert(at, lines[other])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = lines[at].replace(
                    ":", source.choice(("", ": !!int", ": &a", ": *a", ":\t", ": [", ": 99999999999999999999")), 1
                )
            case 4:
                place = source.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:place] + source.choice(("\0", "\ud800", "é", "$", "-", "0x", "\x85")) + lines[at][place:]
                )
            case _:
                lines[at] = " " * source.randrange(9) + lines[at].lstrip()
        lines = lines or [""]
    return "".join(lines)


def test_every_built_in_attack_is_graded_quickly_enough_for_a_class() -> None:
    """No file of the built-in ones, which reach further than a student's, keeps a worker for long."""
    task = read_task(
        with_goals(goal("read: 0\n    on: nested")).replace(
            "  steps: 50", "  steps: 10000\n  frames: 1048576\n  cores: 16"
        )
    )
    assert len(builtin_ids()) == 25
    assert task.limits == {"steps": 10_000, "frames": 1 << 20, "cores": 16}
