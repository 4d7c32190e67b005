"""The ten lessons: every view executes, and what they claim is what engine and solver show."""
# ruff: noqa: E501 - tables of claims: one row, one line

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from django.urls import resolve

from hsvm_engine import Machine
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import builtin
from webapp.classroom import replay, walk
from webapp.classroom.replay import Execution
from webapp.courses import lesson_conflict, lessons
from webapp.errors import BadInput
from webapp.vpms import documents
from webapp.vpms.negotiation import negotiate

FOLDER = Path(lesson_conflict.__file__).parent / "lessons"
FILES = sorted(FOLDER.glob("*.md"))
GERMAN = sorted(FOLDER.glob("de/*.md"))
FENCE = re.compile(r"^```(view|question)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = {"script", "map", "tlb", "registers"}


@cache
def lesson(path: Path) -> dict[str, Any]:
    """Front matter, blocks in order, and the text as it stands."""
    _, head, body = path.read_text().split("---\n", 2)
    blocks = [(kind, yaml.safe_load(text)) for kind, text in FENCE.findall(body)]
    return {**yaml.safe_load(head), "blocks": blocks, "body": body}


def blocks(path: Path, kind: str) -> list[dict[str, Any]]:
    return [block for each, block in lesson(path)["blocks"] if each == kind]


def by_id(name: str) -> Path:
    return next(path for path in FILES if lesson(path)["id"] == name)


def test_there_are_ten_lessons() -> None:
    assert [path.name[:2] for path in FILES] == [f"{n:02}" for n in range(1, 11)]
    assert len({lesson(path)["id"] for path in FILES}) == 10
    assert [path.name for path in GERMAN] == [path.name for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_lesson_has_the_shape_that_was_agreed(path: Path) -> None:
    told = lesson(path)
    assert path.stem[3:] and told["schema"] == "vpms/lesson-1" and told["language"] == "en"
    assert 10 <= told["minutes"] <= 20 and told["title"] and told["summary"]
    assert re.search(r"<[a-zA-Z/!]|!\[", FENCE.sub("", told["body"])) is None  # neither HTML nor pictures
    assert told["body"].count("```") == 2 * len(told["blocks"])
    assert 3 <= len(blocks(path, "view")) <= 6 and 4 <= len(blocks(path, "question")) <= 7
    assert all(view["title"] for view in blocks(path, "view"))
    keys = [question["key"] for question in blocks(path, "question")]
    assert len(set(keys)) == len(keys)
    kinds = [kind for kind, _ in told["blocks"]]
    assert kinds[0] == "question"  # predict first, then look
    for question in blocks(path, "question"):
        names = [choice["name"] for choice in question["choices"]]
        assert 2 <= len(names) <= 6 and question["right"] in names and question["why"]
        for choice in question["choices"]:
            assert set(choice) <= {"name", "text", "misconception"}
            assert ("misconception" in choice) == (choice["name"] != question["right"])
            assert len(choice.get("misconception", "")) <= 80


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_lesson_is_read_within_its_minutes(path: Path) -> None:
    words = len(re.sub(r"^```view\n.*?^```$", "", lesson(path)["body"], flags=re.MULTILINE | re.DOTALL).split())
    needed = words / 200 + 1.5 * len(blocks(path, "view")) + 0.5 * len(blocks(path, "question"))
    assert needed <= lesson(path)["minutes"] <= needed + 4


@pytest.mark.parametrize("path", [*FILES, *GERMAN], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_reader_of_lessons_takes_it(path: Path) -> None:
    read = lessons.read(path.read_text())
    shown = [part.view.shown() for section in read.sections for part in section.parts if part.view]
    assert len(shown) == len(blocks(path, "view"))
    assert list(read.questions) == [question["key"] for question in blocks(path, "question")]


def bare(kind: str, block: dict[str, Any]) -> Any:
    """What must be the same in every language."""
    if kind == "view":
        return {name: value for name, value in block.items() if name != "title"}
    return block["key"], block["right"], [choice["name"] for choice in block["choices"]]


@pytest.mark.parametrize("path", GERMAN, ids=lambda path: path.stem)
def test_the_german_lesson_has_the_same_questions_answers_and_views(path: Path) -> None:
    german, english = lesson(path), lesson(FOLDER / path.name)
    assert german["language"] == "de"
    assert (german["id"], german["minutes"]) == (english["id"], english["minutes"])
    assert [(kind, bare(kind, block)) for kind, block in german["blocks"]] == [
        (kind, bare(kind, block)) for kind, block in english["blocks"]
    ]
    assert german["title"] != english["title"] and german["body"] != english["body"]
    for one, other in zip(blocks(path, "question"), blocks(FOLDER / path.name, "question"), strict=True):
        for mine, theirs in zip(one["choices"], other["choices"], strict=True):
            assert ("misconception" in mine) == ("misconception" in theirs)
    assert lessons.shipped()[german["id"]].keys() >= {"en", "de"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_view_executes(path: Path) -> None:
    for view in blocks(path, "view"):
        if view["view"] == "walk":
            assert 0 <= view["step"] <= len(walk.walk_of(view["case"])["references"])
        elif view["view"] == "replay":
            assert 1 <= len(view["columns"]) <= 2 and set(view["show"]) <= SHOWN
            for column in view["columns"]:
                film = replay.film_of(Execution(view["attack"], column))
                assert view["step"] in {step["n"] for step in film["steps"]}
        elif view["view"] == "matrix":
            assert set(view["columns"]) <= set(ARCHITECTURES)
            assert [builtin(attack).id for attack in view["attacks"]] == view["attacks"]
        else:
            begun = time.process_time()
            shown = lesson_conflict.render(lesson_conflict.read(view))
            assert time.process_time() - begun < 0.5  # some 30 ms where nothing else runs
            assert shown["parties"] and shown["wishes"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", lesson(path)["body"])
    assert any(link.startswith("/learn/") for link in links)
    for link in links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https"
            continue
        resolve(parts.path)
        for case in parse_qs(parts.query).get("case", []):
            assert case in walk.CASES


# What the lessons say of an attack: column, outcome, and the check that decided ("": none did).
OUTCOMES = [
    ("A01", "nested", "SUCCEEDED", ""), ("A01", "hsvm", "BLOCKED", "hv_access_check"), ("A01", "hsvm-smm", "SUCCEEDED", ""),
    ("A03", "nested", "SUCCEEDED", ""), ("A03", "hsvm", "BLOCKED", "owner_check"), ("A03", "hsvm-smm", "BLOCKED", "owner_check"),
    ("A05", "hsvm", "BLOCKED", "owner_check"),
    ("A06", "hsvm", "SUCCEEDED", ""),
    ("A08", "nested", "SUCCEEDED", ""), ("A08", "hsvm", "BLOCKED", "swap_version"),
    ("A09", "nested", "SUCCEEDED", ""), ("A09", "hsvm", "BLOCKED", "npt_protection"), ("A09", "hsvm-smm", "DETECTED", ""),
    ("A10", "nested", "SUCCEEDED", ""), ("A10", "hsvm", "BLOCKED", "npt_root_protection"), ("A10", "hsvm-smm", "SUCCEEDED", ""),
    ("A11", "nested", "SUCCEEDED", ""), ("A11", "hsvm", "BLOCKED", "context_protection"), ("A11", "hsvm-smm", "SUCCEEDED", ""),
    ("A12", "nested", "SUCCEEDED", ""), ("A12", "hsvm", "BLOCKED", "context_protection"),
    ("A13", "nested", "SUCCEEDED", ""), ("A13", "hsvm", "BLOCKED", "zero_on_release"),
    ("A14", "nested", "SUCCEEDED", ""), ("A14", "hsvm", "BLOCKED", "tlb_shootdown"), ("A14", "hsvm-smm", "BLOCKED", "tlb_shootdown"),
    ("A15", "nested", "SUCCEEDED", ""), ("A15", "hsvm", "BLOCKED", "handle_check"),
    ("A16", "hsvm", "SUCCEEDED", ""), ("A17", "hsvm", "SUCCEEDED", ""), ("A18", "hsvm", "SUCCEEDED", ""), ("A20", "hsvm", "SUCCEEDED", ""),
    ("A19", "hsvm-smm", "SUCCEEDED", ""),
    ("A22", "hsvm", "BLOCKED", "hv_access_check"), ("A22", "hsvm-smm", "BLOCKED", "smram_lock"),
    ("A23", "hsvm", "BLOCKED", "owner_check"),
    ("A24", "nested", "SUCCEEDED", ""), ("A24", "hsvm", "OUT_OF_SCOPE", ""), ("A25", "hsvm", "OUT_OF_SCOPE", ""),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "column", "outcome", "check"), OUTCOMES)
def test_an_attack_ends_as_the_lessons_say(attack: str, column: str, outcome: str, check: str) -> None:
    end = replay.summary_of(Execution(attack, column))
    assert (end.outcome, end.check) == (outcome, check)


# What the lessons say of single steps: attack, column, step, answer.
STEPS = [
    ("A01", "nested", 5, "OK"), ("A01", "hsvm", 5, "F_OWNER"), ("A01", "hsvm-smm", 5, "OK"),
    ("A03", "hsvm", 2, "OK"), ("A03", "hsvm", 7, "E_OWNER"), ("A03", "hsvm", 8, "F_NOT_PRESENT"), ("A03", "hsvm-smm", 7, "E_OWNER"),
    ("A06", "hsvm", 5, "OK"), ("A06", "hsvm", 6, "OK"), ("A06", "hsvm", 8, "OK"),
    ("A08", "hsvm", 12, "E_REPLAY"), ("A08", "hsvm", 13, "OK"), ("A08", "hsvm", 22, "E_INTEGRITY"),
    ("A08", "nested", 12, "OK"), ("A08", "nested", 22, "OK"),
    ("A09", "hsvm", 10, "F_PROTECTED"), ("A09", "hsvm-smm", 10, "OK"), ("A09", "hsvm-smm", 64, "OK"), ("A09", "hsvm-smm", 65, "F_TAMPERED"),
    ("A10", "hsvm", 6, "OK"), ("A10", "hsvm", 9, "OK"), ("A10", "hsvm", 10, "E_PROT"), ("A10", "hsvm", 12, "F_NOT_PRESENT"),
    ("A11", "hsvm", 5, "F_PROTECTED"), ("A11", "hsvm", 6, "F_PROTECTED"), ("A11", "nested", 6, "OK"),
    ("A12", "hsvm", 5, "F_PROTECTED"), ("A12", "hsvm", 9, "SKIPPED"),
    ("A13", "hsvm", 8, "OK"),
    ("A14", "hsvm", 10, "F_NOT_PRESENT"), ("A14", "nested", 10, "OK"),
    ("A15", "hsvm", 7, "E_NOVM"),
    ("A16", "hsvm", 8, "F_NOT_PRESENT"),
    ("A20", "hsvm", 5, "OK"), ("A20", "hsvm", 6, "OK"),
    ("A22", "hsvm", 7, "F_PROTECTED"), ("A22", "hsvm", 8, "E_OWNER"),
    ("A23", "hsvm", 9, "OK"), ("A23", "hsvm", 10, "E_OWNER"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "column", "step", "status"), STEPS)
def test_a_step_is_answered_as_the_lessons_say(attack: str, column: str, step: int, status: str) -> None:
    assert replay.summary_of(Execution(attack, column)).answers[step - 1][0] == status


def changes(attack: str, column: str, number: int) -> str:
    film = replay.film_of(Execution(attack, column))
    return " ".join(next(step for step in film["steps"] if step["n"] == number)["changes"])


def rows(attack: str, column: str, number: int, part: str) -> str:
    film = replay.film_of(Execution(attack, column))
    step = next(step for step in film["steps"] if step["n"] == number)
    return str([row["cells"] for row in replay.tables(film, step)[part]])


def test_what_changes_at_a_step_is_what_the_lessons_say() -> None:
    assert "free → VM A (victim)" in changes("A03", "hsvm", 2)
    assert "VM A (victim) page 0x0 rw and VM B (attacker) page 0x0 rw" in changes("A03", "nested", 7)
    assert "VM B (attacker) page 0x0 rwx" in changes("A09", "nested", 10)
    assert "holds bytes → zeros" in changes("A13", "hsvm", 7) and "zeros" not in changes("A13", "nested", 7)
    assert "STALE" in changes("A14", "nested", 5) and "STALE" not in changes("A14", "hsvm", 5)
    assert "STALE" not in changes("A14", "nested", 4)
    assert "L1, L2" in rows("A14", "nested", 10, "tlb") and rows("A14", "hsvm", 9, "tlb").count("VM B") == 0
    assert "0x63" in rows("A12", "hsvm", 11, "cpus") and "0x64" in rows("A12", "nested", 11, "cpus")
    assert replay.compared(Execution("A08", "hsvm"), Execution("A08", "nested"))[0].first == 8
    assert replay.compared(Execution("A14", "hsvm"), Execution("A14", "hsvm", "tlb_shootdown"))[0].first == 5


def test_a_check_that_is_switched_off_lets_the_attack_through() -> None:
    for attack, off, step in (("A14", "tlb_shootdown", 10), ("A08", "swap_version", 14), ("A08", "swap_binding", 23)):
        end = replay.summary_of(Execution(attack, "hsvm", off))
        assert (end.outcome, end.step) == ("SUCCEEDED", step)


def count(column: str, outcome: str) -> int:
    return sum(replay.summary_of(Execution(f"A{n:02}", column)).outcome == outcome for n in range(1, 26))


def notes() -> list[int]:
    verdict = Execution("A16", "hsvm").run()
    return [int(step.op["value"]) for step in verdict.steps if step.op["op"] == "note"]


def cycles_of_a_map(column: str, cores: int, *, unmap: bool = False) -> int:
    """Cycles of one map, or of the unmap after it, by the engine's cost table."""
    machine = Machine(
        frames=8192,
        hypervisor_frames=1024,
        protected_frames=0 if column == "nested" else 1024,
        architecture=column,
        cores=cores,
        seed=1,
    )
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    before = machine.counters()["cycles"]
    assert machine.hypervisor.page_map(vm=vm, gpn=0, mfn=4096, perm="rw")["status"] == "OK"
    if unmap:
        before = machine.counters()["cycles"]
        assert machine.hypervisor.page_unmap(vm=vm, gpn=0)["status"] == "OK"
    return int(machine.counters()["cycles"] - before)


def image_of(column: str) -> bytes:
    """The image of a page that holds 0x11 throughout."""
    protected = 1024 if column == "hsvm" else 0
    machine = Machine(frames=8192, hypervisor_frames=1024, protected_frames=protected, architecture=column, seed=1)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    machine.hypervisor.page_map(vm=vm, gpn=0, mfn=4096, perm="rw")
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    machine.guest.guest_write(core=0, gpa=0, data=b"\x11" * 4096)
    return bytes.fromhex(machine.hypervisor.swap_out(vm=vm, gpn=0)["image"])


def test_an_image_is_sealed_under_hsvm_and_clear_on_nested() -> None:
    clear, sealed = image_of("nested"), image_of("hsvm")
    assert len(clear) == len(sealed) == 4141
    assert b"\x11" * 4096 in clear and b"\x11\x11\x11\x11\x11\x11" not in sealed


def conflict(name: str, number: int) -> dict[str, Any]:
    views = [view for view in blocks(by_id(name), "view") if view["view"] == "conflict"]
    return lesson_conflict.render(lesson_conflict.read(views[number]))


def points(name: str, number: int) -> dict[str, int]:
    return {row["party"]: row["points"] for row in conflict(name, number)["totals"]}


def lie(number: int) -> dict[str, Any]:
    return dict(conflict("fairness-and-lying", number)["misreport"])


def settled(name: str, number: int, label: str) -> str:
    return next(str(row["value"]) for row in conflict(name, number)["values"] if row["label"] == label)


GIB = 1 << 20  # pages of 4 KiB in 4 GiB
# What the right choice of a question says, computed: lesson, question, words of its text.
ANSWERS: list[tuple[str, str, Callable[[], str]]] = [
    ("two-translations", "guess-count", lambda: str(walk.walk_of("nested")["read"])),
    ("two-translations", "who-is-sixth", lambda: "top nested table" if walk.walk_of("nested")["references"][5]["place"] == "g3n4" else ""),
    ("two-translations", "fault-place", lambda: f"{walk.walk_of('guest-fault')['read']}, when the guest's level-1"),
    ("two-translations", "cached-count", lambda: str(walk.walk_of("cached")["read"])),
    ("two-translations", "huge-count", lambda: f"{walk.walk_of('huge')['read']}: one nested walk"),
    ("who-owns-a-page", "first-map", lambda: "VM A" if "free → VM A" in changes("A03", "hsvm", 2) else ""),
    ("who-owns-a-page", "second-map", lambda: "refused; nothing changes" if not changes("A03", "hsvm", 7) else ""),
    ("who-owns-a-page", "edit-table", lambda: "refused: the table lies in frames that H-SVM owns" if "'0x1c02', 'H-SVM'" in rows("A22", "hsvm", 7, "frames") else ""),
    ("compromised-hypervisor", "just-read", lambda: "delivers the bytes" if replay.summary_of(Execution("A01", "nested")).outcome == "SUCCEEDED" else ""),
    ("compromised-hypervisor", "two-mappings", lambda: "Both VMs" if " and VM B" in changes("A03", "nested", 7) else ""),
    ("compromised-hypervisor", "own-tree", lambda: "VM B's root" if replay.summary_of(Execution("A10", "hsvm")).step == 10 else ""),
    ("compromised-hypervisor", "how-many-nested", lambda: {0: "None"}.get(count("nested", "BLOCKED"), "")),
    ("six-operations", "leftovers", lambda: "OK, and zeros" if replay.summary_of(Execution("A13", "hsvm")).answers[7][1].removeprefix("data ").strip("0") == "" else ""),
    ("six-operations", "old-context", lambda: "99 (0x63)" if "0x63" in rows("A12", "hsvm", 11, "cpus") else ""),
    ("six-operations", "price", lambda: {0: "None: 24"}.get(walk.costs()[1]["miss"] - walk.costs()[0]["miss"], "")),
    ("stale-tlb-entries", "stale-when", lambda: next(f"Step {n}" for n in range(1, 11) if "STALE" in changes("A14", "nested", n))),
    ("swap-seals-replay", "replay-nested", lambda: f"{replay.summary_of(Execution('A08', 'nested')).answers[13][1][-2:]}…"),
    ("swap-seals-replay", "splice", lambda: replay.summary_of(Execution("A08", "hsvm")).answers[21][0]),
    ("what-hsvm-does-not-stop", "guess-open", lambda: str(count("hsvm", "SUCCEEDED"))),
    ("what-hsvm-does-not-stop", "zero-page", lambda: "Zeros" if set(replay.summary_of(Execution("A06", "hsvm")).answers[7][1].removeprefix("data ").split(",")[0]) == {"0"} else ""),
    ("what-hsvm-does-not-stop", "fault-tells", lambda: "Which guest page" if set(notes()) == {1, 2} and len(notes()) == 128 else ""),
    ("smm-or-microcode", "smm-map", lambda: "Refused, by the same" if replay.summary_of(Execution("A03", "hsvm-smm")).check == "owner_check" else ""),
    ("smm-or-microcode", "smm-load", lambda: "secret is read" if replay.summary_of(Execution("A01", "hsvm-smm")).outcome == "SUCCEEDED" else ""),
    ("smm-or-microcode", "a09-smm", lambda: replay.summary_of(Execution("A09", "hsvm-smm")).outcome),
    ("smm-or-microcode", "big-vm", lambda: f"About {GIB * cycles_of_a_map('hsvm-smm', 1) / 3e9:.0f} seconds"),
    ("wishes-that-clash", "how-many", lambda: {3: "Three, all negotiable"}.get(len([row for row in conflict("wishes-that-clash", 0)["conflicts"] if row["severity"] == "negotiable"]), "")),
    ("wishes-that-clash", "middle", lambda: "a-db {a-db}, b-web {b-web}".format_map(middle())),
    ("wishes-that-clash", "third-party", lambda: "both settings go to the middle" if {settled("wishes-that-clash", 1, "Two threads on one core"), settled("wishes-that-clash", 1, "Protection against processor leaks")} == {"Only one tenant per core", "When the VM changes"} else ""),
    ("wishes-that-clash", "hard-core", lambda: "any one of the three" if [row["code"] for row in conflict("wishes-that-clash", 2)["conflicts"] if row["severity"] == "hard"] == ["C28"] else ""),
    ("wishes-that-clash", "fact", lambda: settled("wishes-that-clash", 3, "Page sharing")),
    ("fairness-and-lying", "exaggerate", lambda: {"loses": "It loses"}.get(lie(0)["outcome"], "")),
    ("fairness-and-lying", "hopeless", lambda: f"It gains {points_of_liar(1)[1] - points_of_liar(1)[0]} points"),
    ("fairness-and-lying", "all-musts", lambda: "{1} instead of {0}".format(*points_of_liar(2))),
    ("fairness-and-lying", "least-defends", lambda: {"ruins": "there is no settlement"}.get(lie(3)["outcome"], "")),
]  # fmt: skip


def points_of_liar(number: int) -> tuple[int, int]:
    row = next(row for row in lie(number)["rows"] if row["liar"])
    return row["honest"], row["lying"]


def middle() -> dict[str, int]:
    """What the middle of both settings would be worth in the first example of lesson 9."""
    found = {}
    for party in blocks(by_id("wishes-that-clash"), "view")[0]["parties"]:
        weights = {name: 100 * wish["weight"] for name, wish in party["wishes"].items()}
        sharing = weights["page_sharing"] if party["wishes"]["page_sharing"]["value"] == "off" else 0
        found[party["name"]] = sharing + (weights["smt"] + weights["mitigations"]) // 2
    return found


@pytest.mark.parametrize(("name", "key", "computed"), ANSWERS, ids=[f"{row[0]}-{row[1]}" for row in ANSWERS])
def test_the_right_answer_is_what_the_engine_shows(name: str, key: str, computed: Callable[[], str]) -> None:
    question = next(question for question in blocks(by_id(name), "question") if question["key"] == key)
    words = computed()
    holds = [choice["name"] for choice in question["choices"] if words and words in choice["text"]]
    assert question["right"] in holds


# Numbers in the text, computed.
NUMBERS: list[tuple[str, Callable[[], str]]] = [
    ("two-translations", lambda: f"is in frame {walk.walk_of('nested')['references'][4]['mfn']}."),
    ("two-translations", lambda: f"read the same frame, {walk.walk_of('nested')['references'][0]['mfn']}."),
    ("two-translations", lambda: f"{walk.walk_of('cached')['read']} made, {walk.walk_of('cached')['saved']} saved"),
    ("two-translations", lambda: f"A walk is then {walk.costs()[2]['miss']} references"),
    ("compromised-hypervisor", lambda: f"{count('nested', 'SUCCEEDED')} succeed and two are NOT APPLICABLE"),
    ("what-hsvm-does-not-stop", lambda: f"{count('hsvm', 'BLOCKED')} are BLOCKED, {count('hsvm', 'SUCCEEDED')} SUCCEEDED"),
    ("what-hsvm-does-not-stop", lambda: f"{len(Execution('A16', 'hsvm').run().steps):,} steps later"),
    ("smm-or-microcode", lambda: f"({count('hsvm-smm', 'SUCCEEDED')}, {count('hsvm-smm', 'BLOCKED')} and {count('hsvm-smm', 'DETECTED')};"),
    ("smm-or-microcode", lambda: f"| nested | {cycles_of_a_map('nested', 1):,} cycles | {cycles_of_a_map('nested', 2):,} cycles |"),
    ("smm-or-microcode", lambda: f"| hsvm | {cycles_of_a_map('hsvm', 1):,} cycles | {cycles_of_a_map('hsvm', 2):,} cycles |"),
    ("smm-or-microcode", lambda: f"| hsvm-smm | {cycles_of_a_map('hsvm-smm', 1):,} cycles | {cycles_of_a_map('hsvm-smm', 2):,} cycles |"),
    ("smm-or-microcode", lambda: f"at 3 GHz {GIB * cycles_of_a_map('hsvm-smm', 1) / 3e9:.1f} seconds"),
    ("six-operations", lambda: f"a map takes {cycles_of_a_map('nested', 1)} cycles on *nested* and {cycles_of_a_map('hsvm', 1)} under *hsvm*"),
    ("six-operations", lambda: f"An unmap takes {cycles_of_a_map('nested', 1, unmap=True)} on *nested* and {cycles_of_a_map('hsvm', 1, unmap=True):,} under"),
    ("swap-seals-replay", lambda: f"has {len(image_of('hsvm')):,} bytes"),
    ("wishes-that-clash", lambda: f"`b-web` has {points('wishes-that-clash', 0)['b-web']} of {conflict('wishes-that-clash', 0)['totals'][1]['most']}, which is {conflict('wishes-that-clash', 0)['totals'][1]['gain']}"),
    ("fairness-and-lying", lambda: f"`b-web` falls from {points_of_liar(0)[0]} to {points_of_liar(0)[1]}".replace("`", "")),
    ("fairness-and-lying", lambda: f"= {points_of_liar(1)[1]} instead of {points_of_liar(1)[0]}"),
    ("fairness-and-lying", lambda: f"loses the {points_of_liar(3)[0]} that the truth"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "computed"), NUMBERS)
def test_a_number_in_the_text_is_the_engines(name: str, computed: Callable[[], str]) -> None:
    assert computed() in " ".join(lesson(by_id(name))["body"].split())


def test_the_first_byte_of_the_secret_is_what_the_notes_of_a16_say() -> None:
    assert sum((note == 2) << place for place, note in enumerate(notes()[:8])) == 0x3E
    assert notes()[0] == 1


def test_no_other_outcome_of_the_first_example_has_a_greater_smallest_share() -> None:
    best = 0.0
    for thread, trace in product((0, 0.5, 1), repeat=2):  # from what a-db wants to what b-web wants
        shares = (300 + 300 * (1 - thread) + 400 * (1 - trace)) / 1000, (500 * thread + 300 * trace) / 800
        best = max(best, min(shares))
    assert best == 0.625


def test_the_reduced_host_of_a_view_settles_as_the_whole_host_does() -> None:
    for name in ("wishes-that-clash", "fairness-and-lying"):
        for view in blocks(by_id(name), "view"):
            whole = lesson_conflict.render(lesson_conflict.read({**view, "host": dict(lesson_conflict.HOST)}))
            shown = lesson_conflict.render(lesson_conflict.read(view))
            assert whole["totals"] == shown["totals"]
            assert [(r["label"], r["value"]) for r in whole["values"]] == [
                (r["label"], r["value"]) for r in shown["values"]
            ]
            assert (whole["status"], whole["misreport"]) == (shown["status"], shown["misreport"])


def test_the_view_shows_what_the_mediator_would_propose() -> None:
    view = blocks(by_id("wishes-that-clash"), "view")[1]
    policies = [lesson_conflict._document(party, party["name"], "$", []) for party in view["parties"]]
    read = [documents.read_policy(policy) for policy in policies]
    result = negotiate(read, documents.read_host(dict(lesson_conflict.HOST)), lesson_conflict.NOW)
    shown = lesson_conflict.render(lesson_conflict.read(view))
    assert {row["party"]: row["points"] for row in shown["totals"]} == {
        party: points // 1000 for party, points in result["utilities"].items()
    }


TWO = [{"name": "a", "wishes": {"smt": {"value": "off"}}}, {"name": "b", "wishes": {"smt": {"value": "shared"}}}]
FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"parties": TWO[:1]}, "$.parties"),
    ({"parties": TWO, "colour": "red"}, "$.colour"),
    ({"parties": [TWO[0], TWO[0]]}, "$.parties[1].name"),
    ({"parties": [TWO[0], {"name": "b"}]}, "$.parties[1]"),
    ({"parties": [TWO[0], {"name": "b", "wishes": {}}]}, "$.parties[1].wishes"),
    ({"parties": [TWO[0], {"name": "b", "wishes": {"speed": {"value": "on"}}}]}, "$.parties[1].wishes.speed"),
    ({"parties": [TWO[0], {"name": "b", "wishes": {"smt": {"value": False}}}]}, "$.parties[1].wishes.smt.value"),
    ({"parties": [TWO[0], {"name": "b", "wishes": {"smt": {"value": "on"}}}]}, "$.parties[1].wishes.smt.value"),
    ({"parties": [TWO[0], {"name": "b", "wishes": {"smt": {"value": "off", "weight": 0}}}]}, "$.parties[1].wishes.smt.weight"),
    ({"parties": [TWO[0], {"name": "b", "policy": {"format": "vpms-policy/1"}}]}, "$.parties[1].policy.vm"),
    ({"parties": TWO, "misreport": {"party": "c", "wishes": TWO[0]["wishes"]}}, "$.misreport.party"),
    ({"parties": TWO, "host": {"format": "vpms-host/1"}}, "$.host.host"),
]  # fmt: skip


@pytest.mark.parametrize(("block", "path"), FAULTY, ids=[row[1] for row in FAULTY])
def test_a_faulty_block_is_refused_with_the_place_of_the_fault(block: dict[str, Any], path: str) -> None:
    with pytest.raises(BadInput) as refused:
        lesson_conflict.read({"view": "conflict", **block})
    assert path in [fault.path for fault in refused.value.faults]


def test_a_party_may_bring_its_own_policy_document() -> None:
    short = lesson_conflict.read({"view": "conflict", "parties": TWO})
    policy = lesson_conflict._document(TWO[1], "b", "$", [])
    own = lesson_conflict.read({"view": "conflict", "parties": [TWO[0], {"name": "b", "policy": policy}]})
    assert lesson_conflict.render(own)["totals"] == lesson_conflict.render(short)["totals"]
