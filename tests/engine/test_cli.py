"""`hsvm` prints JSON, answers bad input with its place and exit 2, and leaves no traceback."""

import json
from pathlib import Path

import pytest

from hsvm_engine import ARCHITECTURES
from hsvm_engine.attackfile import BUILTIN, builtin_ids
from hsvm_engine.cli import main
from hsvm_engine.commands import check
from hsvm_engine.core.machine import Machine
from hsvm_engine.randomops import pair
from hsvm_engine.twin import Twin

MACHINE = (
    '{"frames": 2048, "hypervisor_frames": 64, "protected_frames": 64, "cores": 2, "architecture": "hsvm", "seed": 1}'
)
OPS = """\
{"op": "create_vm", "vcpus": 1}
{"op": "claim", "mfn": 100}

{"op": "claim", "mfn": 100}
["not", "an", "operation"]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    machine, ops = tmp_path / "machine.json", tmp_path / "ops.jsonl"
    machine.write_text(MACHINE)
    ops.write_text(OPS)
    return machine, ops


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = main([str(arg) for arg in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_apply_prints_one_result_per_operation(capsys: pytest.CaptureFixture[str], files: tuple[Path, Path]) -> None:
    machine, ops = files
    code, out, err = run(capsys, "apply", "--machine", machine, ops, "--dump", "--digest")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line.get("status") for line in lines] == ["OK", "OK", "E_OWNER", "E_INPUT", None, None]
    assert lines[4]["dump"]["vms"] == [[lines[0]["vm"], 1]]
    assert len(lines[5]["digest"]) == 64
    assert run(capsys, "apply", "--machine", machine, ops, "--dump", "--digest")[1] == out


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('{"op": "claim", "mfn": NaN}', "line 2 column 24", "NaN is not an integer"),
        ('{"op": "claim", "mfn": 1, "mfn": 2}', "line 2 column 27", 'duplicate key "mfn"'),
        ('{"op": "claim", "mfn"', "line 2 column 22", "delimiter"),
        ("[" * 500_000, "line 2 column 9", "nested deeper than 8"),
        ("[" + " " * (9 << 20) + "]", f"line 2 column {(8 << 20) + 1}", "a line of more than"),
        ('{"op": "claim", "mfn": ' + "9" * 6000 + "}", "line 2 column 24", "more than 20 digits"),
    ],
)
def test_a_bad_line_is_refused_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], text: str, place: str, reason: str
) -> None:
    machine, ops = files
    ops.write_text('{"op": "create_vm", "vcpus": 1}\n' + text)
    code, out, err = run(capsys, "apply", "--machine", machine, ops)
    assert (code, out) == (2, "")
    assert err.startswith(f"hsvm: {ops}: {place}: ")
    assert reason in err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "must be an object"),
        ('{"frames": 2048}', "hypervisor_frames"),
        (MACHINE.replace("2048", "17"), "frames"),
        (MACHINE.replace("2048", "true"), "frames"),
        (MACHINE.replace('"hsvm"', '"sev"'), "architecture"),
        (MACHINE.replace('"seed"', '"sneed"'), "sneed"),
        (MACHINE[:-1], "delimiter"),
        ("", "Expecting value"),
    ],
)
def test_a_bad_machine_is_refused_with_the_argument(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], text: str, reason: str
) -> None:
    machine, ops = files
    machine.write_text(text)
    code, out, err = run(capsys, "apply", "--machine", machine, ops)
    assert (code, out) == (2, "")
    assert err.startswith(f"hsvm: {machine}: line 1 column ")
    assert reason in err


def test_a_wrong_argument_of_a_machine_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path]
) -> None:
    machine, ops = files
    machine.write_text(MACHINE.replace(", ", ",\n").replace("64", "0", 1))
    code, _, err = run(capsys, "apply", "--machine", machine, ops)
    assert (code, err.startswith(f"hsvm: {machine}: line 2 column 1: hypervisor_frames: must be")) == (2, True)
    machine.write_text(MACHINE.replace("}", ',\n "tlb": {"l1":\n {"sets": 3}}}'))
    code, _, err = run(capsys, "apply", "--machine", machine, ops)
    assert (code, err) == (2, f"hsvm: {machine}: line 3 column 3: tlb.l1.sets: must be a power of two\n")


def test_a_missing_file_and_foreign_bytes_are_bad_input(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path]
) -> None:
    machine, ops = files
    assert run(capsys, "apply", "--machine", machine, "nowhere.jsonl")[0] == 2
    ops.write_bytes(b'{"op": "claim"}\n{"op": "\xff"}\n')
    code, _, err = run(capsys, "apply", "--machine", machine, ops)
    assert (code, err) == (2, f"hsvm: {ops}: line 2 column 9: not UTF-8\n")


@pytest.mark.parametrize(("row", "outcome"), [("nested", "SUCCEEDED"), ("hsvm", "BLOCKED")])
def test_an_attack_runs_by_id_and_by_file(capsys: pytest.CaptureFixture[str], row: str, outcome: str) -> None:
    code, out, _ = run(capsys, "attack", "run", "A01", "--architecture", row, "--json")
    verdict = json.loads(out)
    assert (code, verdict["outcome"]) == (0, outcome)
    assert verdict["steps"][-1]["op"]["op"] == "hv_read"
    by_file = run(capsys, "attack", "run", BUILTIN / "A01.yaml", "--architecture", row, "--json")
    assert json.loads(by_file[1]) == verdict
    code, out, _ = run(capsys, "attack", "run", "A01", "--architecture", row)
    assert code == 0
    assert outcome in out


def test_an_expectation_that_is_missed_is_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text((BUILTIN / "A01.yaml").read_text() + "expect:\n  hsvm: SUCCEEDED\n  nested: SUCCEEDED\n")
    assert run(capsys, "attack", "run", path, "--architecture", "nested")[0] == 0
    assert run(capsys, "attack", "run", path, "--architecture", "hsvm")[0] == 1


def test_a_bad_attack_file_is_exit_2_with_its_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text((BUILTIN / "A01.yaml").read_text().replace("op: hv_read", "op: hv_steal"))
    code, out, err = run(capsys, "attack", "run", path, "--architecture", "hsvm")
    assert (code, out) == (2, "")
    assert err.startswith(f"hsvm: {path}: line ")
    assert err.endswith("unknown operation hv_steal\n")
    assert run(capsys, "attack", "run", "A99", "--architecture", "hsvm")[0] == 2
    path.write_text((BUILTIN / "A01.yaml").read_text().replace("let:", "machine:\n  frames: 300\nlet:"))
    code, out, err = run(capsys, "attack", "run", path, "--architecture", "hsvm")
    assert (code, out) == (2, "")
    line = path.read_text().splitlines().index("machine:") + 2
    assert err.startswith(f"hsvm: {path}: line {line} column 1: ")


def test_the_matrix_has_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "matrix", "--json")
    document = json.loads(out)
    assert code == 0
    assert document.keys() == {"engine", "seed", "cells"}
    assert tuple(document["cells"]) == builtin_ids()
    for row in document["cells"].values():
        assert tuple(row) == tuple(ARCHITECTURES)
        assert all(cell.keys() == {"outcome", "evidence", "check", "digest"} for cell in row.values())


def test_the_matrix_can_be_narrowed_and_its_checks_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "matrix", "--architecture", "hsvm", "--skip", "hv_access_check", "--json")
    cells = json.loads(out)["cells"]
    assert code == 0
    assert cells["A01"]["hsvm"]["outcome"] == "SUCCEEDED"
    assert cells["A03"]["hsvm"]["outcome"] == "BLOCKED"


def test_a_check_or_option_that_does_not_exist_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("--skip", "gravity"), ("--option", "colour=blue"), ("--option", "colour")):
        code, out, err = run(capsys, "matrix", "--architecture", "hsvm", *words)
        assert (code, out) == (2, "")
        assert err.startswith("hsvm: ")


def test_the_printed_matrix_fits_100_columns_and_says_what_held(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "matrix")
    lines = out.splitlines()
    assert code == 0
    assert max(map(len, lines)) <= 100
    assert [line[:4].strip() for line in lines[1 : 1 + len(builtin_ids())]] == list(builtin_ids())
    assert lines[0].split() == ["attack", *ARCHITECTURES]
    assert lines[1].split()[-4:] == ["SUCCEEDED", "SUCCEEDED", "BLOCKED", "SUCCEEDED"] or "m" in lines[1].split()
    assert "hsvm was held by " in out
    assert "hv_access_check A01" in out


def test_options_reach_the_machine_and_a_wrong_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def outcome(*words: str) -> str:
        code, out, _ = run(capsys, "attack", "run", "A05", "--architecture", "hsvm", "--json", *words)
        assert code == 0
        return str(json.loads(out)["outcome"])

    assert outcome() == "BLOCKED"
    assert outcome("--option", "page_map_rule=literal") == "SUCCEEDED"
    for words, name in (
        (("--option", "page_map_rule=loose"), "page_map_rule"),
        (("--option", "smi_period=never"), "smi_period"),
        (("--option", "page_map_rule=literal", "--option", "page_map_rule=strict"), "page_map_rule"),
        (("--option", "fault={broken"), "fault"),
        (("--seed", "-1"), "seed"),
        (("--skip", "owner_check", "--option", 'skip=["owner_check"]'), "skip"),
    ):
        code, out, err = run(capsys, "attack", "run", "A05", "--architecture", "hsvm", *words)
        assert (code, out) == (2, ""), words
        assert name in err


def test_check_compares_every_row_and_rule_with_the_twin(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--ops", 1500, "--seed", 4)
    report = json.loads(out)
    assert (code, report["ok"]) == (0, True)
    rows = [(row["architecture"], row["options"].get("page_map_rule", "strict")) for row in report["rows"]]
    assert rows == [
        *(("nested", "strict"), ("shadow", "strict"), ("hsvm", "strict"), ("hsvm", "literal")),
        *(("hsvm-smm", "strict"), ("hsvm-smm", "literal")),
    ]
    code, out, _ = run(capsys, "check", "--ops", 200, "--architecture", "hsvm", "--text")
    assert code == 0
    assert out.startswith("hsvm: 200 operations, machine and twin agree")
    assert run(capsys, "check", "--ops", 0)[0] == 2


def test_a_difference_from_the_twin_is_exit_1_with_what_replays_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lame(name: str, **options: object) -> tuple[Machine, Twin]:
        machine, _ = pair(name, skip=["owner_check"])
        return machine, pair(name)[1]

    monkeypatch.setattr(check, "pair", lame)
    code, out, _ = run(capsys, "check", "--ops", 3000, "--seed", 4, "--architecture", "hsvm")
    row = json.loads(out)["rows"][0]
    assert (code, row["ok"]) == (1, False)
    assert row["difference"]["number"] > 0
    code, out, _ = run(capsys, "check", "--ops", 3000, "--seed", 4, "--architecture", "hsvm", "--text")
    assert code == 1
    assert f"differ at operation {row['difference']['number']}" in out


def test_an_unknown_command_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["conquer"])
    assert stop.value.code == 2
