"""The command line: one document out, exit codes 0, 1 and 2, faults with file, path and reason, no stack trace."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW, b_web, h1
from webapp.vpms import agreement, cli
from webapp.vpms.formats import EVENTS

SEEDS = {party: bytes([number]) * 32 for number, party in enumerate(("a-db", "b-web", "operator"), start=1)}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, document in (("a.json", A_DB), ("b.json", B_WEB), ("h.json", H1)):
        Path(name).write_text(json.dumps(document))
    for party, seed in SEEDS.items():
        Path(f"{party}.ed25519").write_text(seed.hex() + "\n")
    return tmp_path


@pytest.fixture
def vpms(files, capsysbinary):
    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return code, json.loads(out) if out else None, err.decode().splitlines()

    return run


PAIR = ("a.json", "b.json", "--host", "h.json", "--now", NOW)


def test_check_shows_the_conflicts_of_the_example(vpms):
    code, result, err = vpms("check", *PAIR)
    assert (code, err, result["status"]) == (1, [], "conflict_negotiable")
    assert [row["code"] for row in result["conflicts"]] == ["C06", "C07", "C08", "C21"]
    assert set(result) == {"status", "conflicts", "checked_against", "not_checked", "event"}
    code, result, _ = vpms("check", "b.json", "--host", "h.json", "--now", NOW)
    assert (code, result["status"]) == (0, "no_static_conflict_now")


def test_check_with_an_event_decides_it(vpms):
    Path("e.json").write_text(json.dumps({"format": "vpms-event/1", "kind": "vm_stop", "vm": "b-web"}))
    code, result, _ = vpms("check", "b.json", "--host", "h.json", "--now", NOW, "--event", "e.json")
    assert (code, result["event"]["decision"], result["checked_against"]["trigger"]) == (0, "allow", "run")
    Path("e.json").write_text(json.dumps({"format": "vpms-event/1", "kind": "reclaim", "vm": "zz", "pages": 1}))
    code, result, err = vpms("check", "b.json", "--host", "h.json", "--event", "e.json")
    assert (code, result, err) == (2, None, ["vpms: e.json: $.vm: is not the VM of a given policy"])


def test_the_same_input_gives_the_same_bytes_in_any_order(files, capsysbinary):
    outs = set()
    for order in (("a.json", "b.json"), ("b.json", "a.json"), ("a.json", "b.json")):
        assert cli.main(["negotiate", *order, "--host", "h.json", "--now", NOW]) == 0
        outs.add(capsysbinary.readouterr().out)
    assert len(outs) == 1 and b'"gains_exact": {"a-db": "49/80", "b-web": "23/29"}' in outs.pop()


def test_a_negotiated_agreement_is_signed_and_verified(vpms):
    code, result, _ = vpms("negotiate", *PAIR, "--keys", ".", "--out", "agreed.json")
    assert (code, result["status"]) == (0, "agreed")
    Path("keys.json").write_text(json.dumps({p: agreement.public_key(seed) for p, seed in SEEDS.items()}))
    code, verdict, _ = vpms("verify", "agreed.json", "--keys", "keys.json", "--policy", "a.json", "--now", NOW)
    assert (code, verdict["reason"], verdict["identity"], verdict["agreement"]) == (0, "ok", "checked", "h1")
    code, verdict, _ = vpms("verify", "agreed.json", "--now", "2027-01-01T00:00:00Z")
    assert (code, verdict["reason"], verdict["expired"]) == (1, "expired", True)


def test_a_person_in_the_loop_is_not_yet_an_agreement(vpms):
    Path("b.json").write_text(json.dumps(b_web(delegate={"mode": "human"})))
    code, result, _ = vpms("negotiate", *PAIR, "--keys", ".", "--out", "agreed.json")
    assert (code, result["status"], result["human"]) == (1, "needs_human", ["b-web"])
    assert not Path("agreed.json").exists()


def test_a_missing_key_is_bad_input(vpms):
    Path("b-web.ed25519").unlink()
    code, result, err = vpms("negotiate", *PAIR, "--keys", ".", "--out", "agreed.json")
    assert (code, result, err) == (2, None, ["vpms: b-web.ed25519: $: cannot be read (No such file or directory)"])


def test_a_log_is_recognised_by_its_content(vpms):
    body = {"seq": 0, "at": NOW, "type": "t", "actor": "a", "subject": "s", "data": {}, "prev": "0" * 64}
    head = agreement.strictjson.digest(body)
    Path("log.jsonl").write_bytes(agreement.strictjson.canonical({**body, "hash": head}) + b"\n")
    assert vpms("verify", "log.jsonl", "--head", head)[:2] == (
        0,
        {"kind": "log", "valid": True, "reason": "ok", "entries": 1, "first_bad": None, "head": head},
    )
    assert vpms("verify", "log.jsonl", "--head", "0" * 64)[1]["reason"] == "truncated"
    assert vpms("verify", "log.jsonl", "--head", "xyz")[0] == 2


INSTANCE = {
    "format": "vpms-instance/1",
    "issues": [2, 2],
    "parties": [{"d": 0, "u": [[10, 0], [0, 10]]}, {"d": 5, "u": [[0, 10], [10, 0]]}],
    "forbidden": [[0, 0]],
    "facts": [[0, 1, 1, [0, 1]]],
    "capacity": [{"cap": 3, "use": [[0, 3], [0, 0]]}],
}


def test_the_bare_problem_is_solved(vpms):
    Path("i.json").write_text(json.dumps(INSTANCE))
    code, result, _ = vpms("solve", "i.json")
    assert code == 0 and result.pop("elapsed_ms") >= 0
    assert result["bound"].pop("nodes") >= 1
    assert result == {
        "status": "agreed", "assignment": [1, 1], "utilities": [10, 10], "ideals": [10, 20], "gains": [1, 0.333333333],
        "gains_exact": ["1/1", "1/3"], "min_gain": 0.333333333, "nash": -1.094617279,
        "bound": {"proven": True, "stage": None, "min_gain_upper": 0.333333333, "nash_upper": -1.094617279, "gap": 0},
    }  # fmt: skip
    Path("i.json").write_text(json.dumps({**INSTANCE, "forbidden": [[0, 0], [0, 1]]}))
    code, result, _ = vpms("solve", "i.json")
    assert (code, result["status"], result["assignment"], result["bound"]) == (1, "no_agreement", None, None)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"issues": [2, 9]}, "$.issues[1]: must lie between 1 and 8"),
        ({"issues": []}, "$.issues: must not be empty"),
        ({"forbidden": [[2, 0]]}, "$.forbidden[0][0]: there is no issue 2"),
        ({"facts": [[0, 1, 1, []]]}, "$.facts[0][3]: must not be empty"),
        ({"facts": [[0, 1, 0, [0]]]}, "$.facts[0][2]: must be another issue"),
        ({"facts": [[0, 1, 1, [2]]]}, "$.facts[0][3]: issue 1 has 2 values, counted from 0"),
        ({"parties": [{"d": 0, "u": [[1, 2]]}]}, "$.parties[0].u: must have 2 rows, one for each issue"),
        ({"parties": [{"d": 0, "u": [[1], [1, 2]]}]}, "$.parties[0].u[0]: must have 2 numbers, one for each value"),
        ({"parties": [{"d": -1, "u": [[1, 1], [1, 2]]}]}, "$.parties[0].d: must lie between 0 and 1000000000"),
    ],
)
def test_a_wrong_instance_is_refused_where_it_is_wrong(vpms, change, fault):
    Path("i.json").write_text(json.dumps({**INSTANCE, **change}))
    code, result, err = vpms("solve", "i.json")
    assert (code, result, err) == (2, None, [f"vpms: i.json: {fault}"])


def test_bad_files_give_one_line_for_each_fault_with_file_path_and_reason(vpms):
    broken = b_web()
    broken["switches"]["smt"]["weight"] = 1001
    broken["x-y"] = 1
    Path("b.json").write_text(json.dumps(broken))
    Path("h.json").write_text(json.dumps(H1).replace('"vpms-host/1"', "NaN").replace(', "attested": true', ""))
    code, result, err = vpms("check", *PAIR)
    assert (code, result) == (2, None)
    assert err == [
        "vpms: b.json: $.switches.smt.weight: must lie between 0 and 1000",
        "vpms: b.json: $['x-y']: is not a field of this document",
        "vpms: h.json: $.format: NaN is not a number",
        "vpms: h.json: $.attested: is missing",
    ]


def test_faults_of_all_files_are_told_together_and_at_most_twenty(vpms):
    Path("a.json").write_text(json.dumps({**A_DB, **{f"x{number}": 0 for number in range(18)}}))
    Path("e.json").write_text('{"format": "vpms-event/1", "kind": "dance"}')
    code, result, err = vpms("check", "a.json", "no.json", "--host", "h.json", "--event", "e.json")
    assert (code, result, len(err)) == (2, None, 20)
    assert err[18:] == [
        "vpms: no.json: $: cannot be read (No such file or directory)",
        f"vpms: e.json: $.kind: must be one of {', '.join(EVENTS)}",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "vpms: the following arguments are required: command"),
        (("dance",), "vpms: argument command: invalid choice"),
        (("check", "a.json"), "vpms: the following arguments are required: --host"),
        (("check", "no.json", "--host", "h.json"), "vpms: no.json: $: cannot be read"),
        (("check", "a.json", "a.json", "--host", "h.json"), "vpms: a.json: $.vm: a-db is also the VM of another file"),
        (("check", *PAIR[:4], "--now", "yesterday"), "vpms: --now must be a time"),
        (("check", *PAIR, "--time-limit", "0"), "vpms: --time-limit must lie"),
        (("check", *PAIR, "--time-limit", "nan"), "vpms: --time-limit must lie"),
        (("negotiate", *PAIR, "--keys", "."), "vpms: --keys and --out belong together"),
        (("check", ".", "--host", "h.json"), "vpms: .: $: cannot be read (Is a directory)"),
    ],
)
def test_usage_faults_and_unreadable_files_exit_2(vpms, arguments, line):
    code, result, err = vpms(*arguments)
    assert (code, result) == (2, None) and len(err) == 1 and err[0].startswith(line)


def test_a_running_vm_needs_its_policy(vpms):
    Path("h.json").write_text(json.dumps(h1(running=["b-web", "c"])))
    _, _, err = vpms("check", *PAIR)
    assert err == ["vpms: h.json: $.running[1]: the policy of c is not given"]


def test_the_schema_is_printed(vpms):
    code, schema, _ = vpms("schema", "policy")
    assert code == 0 and "smt" in schema["properties"]["switches"]["properties"]
    code, every, _ = vpms("schema")
    assert code == 0 and list(every) == sorted(
        ["policy", "host", "event", "goal", "instance", "fleet", "agreement", "certificate"]
    )


def test_a_result_is_explained_as_plain_text_from_a_file_or_standard_input(files, capsysbinary, monkeypatch):
    assert cli.main(["negotiate", *PAIR]) == 0
    result = capsysbinary.readouterr().out
    Path("n.json").write_bytes(result)
    assert cli.main(["explain", "n.json"]) == 0
    text = capsysbinary.readouterr().out
    assert text.startswith(b"Agreed: every delegate accepts this proposal.\n") and text.endswith(b".\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(result)))
    assert cli.main(["explain", "-"]) == 0 and capsysbinary.readouterr().out == text
    assert cli.main(["explain", "a.json"]) == 2
    out, err = capsysbinary.readouterr()
    assert out == b"" and err.startswith(b"vpms: a.json: $: is no result of check")


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_shows_an_example_that_can_be_read_as_it_is(command, capsysbinary):
    with pytest.raises(SystemExit) as left:
        cli.main([command, "--help"] if command else ["--help"])
    text = capsysbinary.readouterr().out.decode()
    examples = [
        line.split("|")[0].split() for line in text.splitlines() if line.startswith(("  vpms ", "example:    "))
    ]
    assert left.value.code == 0 and examples
    for words in examples:
        arguments = [word for word in words[words.index("vpms") + 1 :] if word != ">"]
        arguments = arguments[:2] if arguments[0] == "schema" else arguments
        assert cli._parser().parse_args(arguments).command == arguments[0]


def test_it_starts_without_the_web_and_without_anything_heavy(files):
    root = Path(cli.__file__).resolve().parents[2]
    script = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from webapp.vpms.cli import main; "
        f"code = main({['negotiate', *PAIR]!r}); "
        "assert not {'django', 'celery', 'channels', 'numpy', 'hsvm_engine'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode in (0, 1) and done.stderr == ""
