"""`hsvm walk` shows every reference of a walk; `hsvm play` plays scenarios with their attacks."""

import json
from pathlib import Path
from typing import Any

import pytest

from hsvm_engine.cli import main
from hsvm_engine.tracefile import builtin_trace, write_trace

VM = 65537
MACHINE = {"frames": 2048, "hypervisor_frames": 64, "protected_frames": 64, "cores": 2}
OPS: list[dict[str, Any]] = [
    {"op": "create_vm", "vcpus": 1},
    *({"op": "page_map", "vm": VM, "gpn": gpn, "mfn": 300 + gpn, "perm": "rw", "size": 1} for gpn in range(6)),
    {"op": "page_map", "vm": VM, "gpn": 0, "mfn": 400, "perm": "rw", "size": 1},
    {"op": "context_restore", "vm": VM, "vcpu": 0, "core": 1},
    {"op": "guest_map", "core": 1, "gva": 0x7000, "gpn": 0, "perm": "rw"},
]
SCENARIO: dict[str, Any] = {
    "format": "hsvm-scenario/1",
    "machine": {"frames": 8192, "hypervisor_frames": 1024, "protected_frames": 0, "architecture": "nested"},
    "vms": [{"name": "a-db", "vm_pages": 1024, "trace": "sqlite3"}],
    "seed": 7,
    "attacks": [{"step": 2, "attack": "A01", "victim": "a-db"}],
}


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def host(tmp_path: Path) -> tuple[object, ...]:
    machine, ops = tmp_path / "machine.json", tmp_path / "ops.jsonl"
    machine.write_text(json.dumps(MACHINE))
    ops.write_text("\n".join(map(json.dumps, OPS)))
    return "--machine", machine, ops


def test_walk_gives_all_24_references_as_json(capsys: pytest.CaptureFixture[str], host: tuple[object, ...]) -> None:
    code, out, _ = run(capsys, "walk", *host, "--core", 1, "--gva", "0x7010", "--json")
    walk = json.loads(out)
    assert code == 0
    assert (walk["status"], walk["gpa"], walk["mfn"], walk["core"], walk["gva"]) == ("OK", 0x10, 300, 1, 0x7010)
    assert [row["order"] for row in walk["references"]] == list(range(1, 25))
    assert (walk["operations"], walk["refused"]) == (10, [{"line": 8, "op": OPS[7], "status": "E_EXIST"}])


def test_walk_prints_a_table_for_people(capsys: pytest.CaptureFixture[str], host: tuple[object, ...]) -> None:
    code, out, _ = run(capsys, "walk", *host, "--core", 1, "--gva", 0x7010)
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "core 1, guest-virtual 0x7010: guest-physical 0x10 in frame 300; 24 references"
    assert lines[1] == "operation in line 8 was answered with E_EXIST"
    assert lines[2].split()[:2] == ["order", "stage"]
    assert len(lines) == 3 + 24
    assert max(map(len, lines)) <= 100


def test_walk_on_an_idle_core_says_so(capsys: pytest.CaptureFixture[str], host: tuple[object, ...]) -> None:
    code, out, _ = run(capsys, "walk", *host, "--core", 0, "--gva", 0)
    assert (code, out.splitlines()[0]) == (0, "core 0, guest-virtual 0x0: E_STATE, no guest runs there; 0 references")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--core", 2, "--gva", 0), "--core 2: the machine has the cores 0 to 1"),
        (("--core", -1, "--gva", 0), "--core -1: the machine has the cores 0 to 1"),
        (("--gva", 1 << 48), "--gva: must be below 2^48"),
    ],
)
def test_walk_refuses_what_is_not_there(
    capsys: pytest.CaptureFixture[str], host: tuple[object, ...], words: tuple[object, ...], reason: str
) -> None:
    code, out, err = run(capsys, "walk", *host, *words)
    assert (code, out, err) == (2, "", f"hsvm: {reason}\n")


def scenario(tmp_path: Path, **changed: Any) -> Path:
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps({**SCENARIO, **changed}))
    return path


def test_play_prints_a_json_line_a_step_and_the_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = scenario(tmp_path)
    words = ("play", path, "--steps", 3, "--accesses", 500, "--json")
    code, out, _ = run(capsys, *words)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line.get("step") for line in lines] == [1, 2, 3, None]
    drills = [(line["step"], event) for line in lines[:3] for event in line["events"] if event["kind"] == "drill"]
    assert [(step, event["outcome"]) for step, event in drills] == [(2, "SUCCEEDED")]
    assert lines[1]["counters"]["references"] == 1_000
    assert lines[3]["end"] is True
    assert len(lines[3]["digest"]) == 64
    assert run(capsys, *words)[1] == out, "the same scenario gives the same run"


def test_play_tells_people_what_happened(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "play", scenario(tmp_path), "--accesses", 100)
    lines = out.splitlines()
    assert code == 0
    assert "  a-db: A01 read a guest's frame: SUCCEEDED" in lines
    assert sum(line.startswith("step ") for line in lines) == 20
    assert lines[-1].startswith("digest ")


def test_a_scenario_plays_a_trace_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trace = builtin_trace("gzip")
    write_trace(tmp_path / "mine.hsvmtrace", [(trace.addresses[:900], trace.kinds[:900])], {})
    path = scenario(tmp_path, attacks=[], vms=[{"name": "a", "vm_pages": 512, "trace": "mine"}])
    assert run(capsys, "play", path)[0] == 2
    code, out, _ = run(
        capsys, "play", path, "--trace", f"mine={tmp_path}/mine.hsvmtrace", "--steps", 2, "--accesses", 900
    )
    assert code == 0
    assert "  a: mine ended and starts again: OK" in out.splitlines()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"attacks": [{"step": 1, "attack": "A77", "victim": "a-db"}]}, "attacks[0].attack: one of A01, "),
        ({"attacks": [{"step": 1, "attack": "A01", "victim": "b"}]}, "attacks[0].victim: no VM is named b"),
        ({"vms": [{"name": "a-db", "vm_pages": 1024, "trace": "sqlite9"}]}, "no trace is named 'sqlite9'"),
        ({"vms": [{"name": "a-db", "vm_pages": 1024}]}, "vms[0].trace: missing"),
        ({"machine": {**SCENARIO["machine"], "frames": 300}}, "hypervisor_frames"),
        ({"machine": {**SCENARIO["machine"], "architecture": "tdx"}}, "architecture"),
        ({"machine": {**SCENARIO["machine"], "options": {"colour": 1}}}, "colour"),
        ({"speed": 1}, "speed: unknown field"),
    ],
)
def test_a_bad_scenario_is_exit_2_with_file_and_path(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    path = scenario(tmp_path, **changed)
    code, out, err = run(capsys, "play", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"hsvm: {path}: ")
    assert reason in err


def test_an_attack_that_cannot_be_held_is_exit_2_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    attacks = [{"step": 1, "attack": "A13", "victim": "a-db"}, {"step": 2, "attack": "A01", "victim": "a-db"}]
    path = scenario(tmp_path, attacks=attacks)
    code, _, err = run(capsys, "play", path, "--accesses", 50)
    if code:  # A13 may end its victim: then the second attack has nobody left
        assert (code, err) == (2, f"hsvm: {path}: attacks[1]: a-db is not running\n")
