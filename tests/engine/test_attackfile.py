"""Attack files are refused with file, line, column and reason, within a second, whatever they hold."""

import json
import time

import pytest

from hsvm_engine.attackfile import (
    AttackFileError,
    NoteStep,
    OperationStep,
    Reference,
    RepeatStep,
    TurnStep,
    attacks,
    load_attack,
    read_attack,
)

GOOD = """\
schema: 1
id: T1
says: The hypervisor reads a frame.
port: hypervisor
let:
  frame: 4096
setup:
  - op: create_vm
    vcpus: 1
    as: victim
  - op: page_map
    vm: $victim
    gpn: 0
    mfn: $frame
    perm: rw
    size: 1
  - op: context_restore
    vm: $victim
    vcpu: 0
    core: 0
victim:
  - op: guest_write
    core: 0
    gpa: 0
    data: $secret
attacker:
  - op: hv_read
    mfn: $frame
    offset: 0
    length: 32
    as: seen
"""


def place_of(text: str | bytes) -> AttackFileError:
    """The refusal of a text; it must cost less than a second."""
    start = time.process_time()
    with pytest.raises(AttackFileError) as caught:
        read_attack(text, "t.yaml")
    assert time.process_time() - start < 1.0
    error = caught.value
    assert str(error) == f"t.yaml: line {error.line} column {error.column}: {error.reason}"
    return error


def refused(old: str, new: str, reason: str, line: int | None = None) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    error = place_of(text)
    assert reason in error.reason
    if line is not None:
        assert error.line == line


def test_a_good_file_is_read_as_it_stands() -> None:
    attack = read_attack(GOOD)
    assert attack.id == "T1"
    assert attack.ports == {"hypervisor"}
    assert attack.let.names == {"frame": 4096}
    (read,) = attack.phases["attacker"]
    assert isinstance(read, OperationStep)
    assert read.fields == {"mfn": Reference("frame"), "offset": 0, "length": 32}
    assert (read.bind, read.line) == ("seen", 27)


def test_the_same_attack_as_json_is_the_same_attack() -> None:
    step = {"op": "page_map", "vm": "$victim", "gpn": 0, "mfn": "$frame", "perm": "rw", "size": 1}
    document = {
        "schema": 1,
        "id": "T1",
        "says": "The hypervisor reads a frame.",
        "port": "hypervisor",
        "let": {"frame": 4096},
        "setup": [
            {"op": "create_vm", "vcpus": 1, "as": "victim"},
            step,
            {"op": "context_restore", "vm": "$victim", "vcpu": 0, "core": 0},
        ],
        "victim": [{"op": "guest_write", "core": 0, "gpa": 0, "data": "$secret"}],
        "attacker": [{"op": "hv_read", "mfn": "$frame", "offset": 0, "length": 32, "as": "seen"}],
    }
    for text in (json.dumps(document), json.dumps(document, indent="\t")):
        from_json, from_yaml = read_attack(text), read_attack(GOOD)
        assert from_json.let.names == from_yaml.let.names
        for phase, steps in from_yaml.phases.items():
            pairs = zip(steps, from_json.phases[phase], strict=True)
            assert all((a.op, a.fields, a.bind) == (b.op, b.fields, b.bind) for a, b in pairs)  # type: ignore[union-attr]


def test_every_built_in_attack_is_read() -> None:
    assert list(attacks()) == [f"A{number:02}" for number in range(1, 26)]
    for attack_id, attack in attacks().items():
        assert attack.id == attack_id
        assert attack.paper and attack.title != attack_id
        assert load_attack(attack_id) is attack


@pytest.mark.parametrize(
    ("old", "new", "reason", "line"),
    [
        ("op: hv_read", "op: hv_steal", "unknown operation hv_steal", 27),
        ("op: hv_read", "op: [hv_read]", "flow style is not allowed", 27),
        ("op: hv_read", "op: &a hv_read", "anchors are not allowed", 27),
        ("op: hv_read", "op: *a", "aliases are not allowed", 27),
        ("op: hv_read", "op: !!python/name:os.system hv_read", "tags are not allowed", 27),
        ("length: 32", "<<: 32", "merge keys are not allowed", 30),
        ("length: 32", "length: 32\n    length: 16", "duplicate key length", 31),
        ("length: 32", "length: 32\n    speed: 1", "unknown key speed in hv_read", 31),
        ("    length: 32\n", "", "hv_read needs the field length", 27),
        ("length: 32", "length: .nan", "must be an integer, not '.nan'", 30),
        ("length: 32", "length: 3.5", "must be an integer", 30),
        ("length: 32", "length: true", "must be an integer", 30),
        ("length: 32", 'length: "32"', "must be an integer", 30),
        ("length: 32", "length: 010", "must be an integer", 30),
        ("length: 32", "length:", "must be an integer", 30),
        ("length: 32", "length: $nothing", "$nothing is not bound before this step", 30),
        ("length: 32", "length: $victim.mfn", "create_vm has no field mfn", 30),
        ("length: 32", "length: $frame + 1", "is not $name or $name.field", 30),
        ("length: 32", "length: $secret", "an attacking step cannot name it", 30),
        ("length: 32", "length: $seen.data", "$seen is not bound before this step", 30),
        ("port: hypervisor", "port: kernel", "port is one of hypervisor, guest, device, physical", 4),
        ("port: hypervisor", "port: guest", "hv_read belongs to the hypervisor port", 27),
        ("    as: victim\n", "", "$victim is not bound before this step", 11),
        ("    data: $secret", "    data: zz", "must be bytes in lower-case hex", 25),
        ("    data: $secret", "    data: 0F", "must be bytes in lower-case hex", 25),
        ("schema: 1", "schema: 2", "schema must be an integer from 1 to 1", 1),
        ("id: T1", "id: ../T1", "id must look like", 2),
        ("id: T1\n", "", "the file needs the field id", 1),
        ("let:", "lett:", "unknown key lett in the file", 5),
        ("let:\n  frame: 4096", "let:\n  victim: 1", "victim cannot be set by let", 6),
        ("let:\n  frame: 4096", "let:\n  frame: $secret", "the secret cannot be given another name", 6),
        ("let:", "machine:\n  frames: 268435456\nlet:", "frames must be an integer from 0 to", 6),
        ("let:", "expect: WON\nlet:", "expect is one of SUCCEEDED", 5),
    ],
)
def test_a_wrong_word_is_refused_at_its_place(old: str, new: str, reason: str, line: int) -> None:
    refused(old, new, reason, line)


def test_a_column_is_given_too() -> None:
    error = place_of(GOOD.replace("op: hv_read", "op: hv_steal"))
    assert (error.line, error.column) == (27, 9)


def test_no_is_a_word_and_not_false() -> None:
    assert read_attack(GOOD.replace("id: T1", "id: no")).id == "no"


def nested_repeat(*counts: int) -> str:
    """GOOD with a repeat inside a repeat around its attacking step."""
    head, body = GOOD.split("attacker:\n")
    lines = ["attacker:"]
    indent = "  "
    for count in counts:
        lines += [f"{indent}- repeat: {count}", f"{indent}  steps:"]
        indent += "    "
    lines += [indent + line.removeprefix("  ") for line in body.splitlines()]
    return head + "\n".join(lines) + "\n"


def test_a_repeat_is_read_and_counted() -> None:
    (step,) = read_attack(nested_repeat(99, 100)).phases["attacker"]
    assert isinstance(step, RepeatStep)
    assert step.count == 99


@pytest.mark.parametrize("counts", [(1_000_000,), (1000, 1000), (10_000,), (9997,), (101, 99)])
def test_more_than_ten_thousand_executed_operations_are_refused(counts: tuple[int, ...]) -> None:
    error = place_of(nested_repeat(*counts))
    assert error.reason == "more than 10000 executed operations"
    assert error.line >= 26


def test_a_repeat_of_nothing_is_refused() -> None:
    refused("attacker:\n", "attacker:\n  - repeat: 10\n    steps:\n", "must be a list with at least one entry")
    assert "repeat must be an integer" in place_of(nested_repeat(0)).reason
    assert "repeat must be an integer" in place_of(nested_repeat(-1)).reason


@pytest.mark.parametrize("opener", ["[", '{"a":', "- ", "? ", "!!a [", "a: {b: "])
def test_a_megabyte_of_nesting_is_refused(opener: str) -> None:
    error = place_of(opener * (1_000_000 // len(opener)))
    assert "longer than 65536 bytes" in error.reason
    error = place_of(opener * (65_000 // len(opener)))
    assert error.reason


@pytest.mark.parametrize(
    "text", ["[" * 60_000, '{"a":' * 10_000, '"' * 60_000, '{"' + '\\"' * 30_000, "{" + "9" * 60_000, "a: " + "\\" * 9]
)
def test_hostile_shapes_are_refused_in_time(text: str) -> None:
    assert place_of(text).reason


def test_nesting_over_eight_is_refused_where_it_crosses() -> None:
    assert place_of("[" * 9 + "]" * 9).column == 9
    deep = place_of("".join(f"{' ' * depth}a:\n" for depth in range(12)) + " " * 12 + "b: 1\n")
    assert deep.reason == "nested deeper than 8"
    assert deep.line == 9


def test_every_truncation_is_refused_or_read_in_full() -> None:
    whole = GOOD.encode()
    for cut in range(0, len(whole) - 1, 7):
        try:
            attack = read_attack(whole[:cut])
        except AttackFileError:
            continue
        assert attack.phases["attacker"]  # only a cut after the last needed field reads as a whole file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema": NaN}', "NaN is not an integer"),
        ('{"schema": 1e400}', "1e400 is not an integer"),
        ('{"schema": -Infinity}', "-Infinity is not an integer"),
        ('{"schema": 1.5}', "1.5 is not an integer"),
        ('{"schema": ' + "9" * 5000 + "}", "more than 20 digits"),
        ('{"schema": 1, "schema": 1}', 'duplicate key "schema"'),
        ('{"schema": 1', "delimiter"),
        ('{"says": "\\ud800"}', "lone surrogate"),
        ("{'schema': 1}", "property name"),
        ("[1, 2]", "must be a mapping"),
        ("", "empty"),
        ("\x00", "not allowed"),
        ("just words", "must be a mapping"),
        ("a: b: c", "not allowed here"),
        ("--- 1\n--- 2\n", "another document"),
    ],
)
def test_what_is_no_document_of_the_language_is_refused(text: str, reason: str) -> None:
    assert reason in place_of(text).reason


def test_bytes_that_are_not_utf8_are_refused_at_their_place() -> None:
    error = place_of(b"schema: 1\nid: \xff\xfe\n")
    assert (error.line, error.column, error.reason) == (2, 5, "not UTF-8")


def test_a_duplicate_json_key_is_shown_where_it_stands_again() -> None:
    error = place_of('{"schema": 1,\n "id": "a",\n  "id": "b"}')
    assert (error.line, error.column) == (3, 3)


# The victim's turn, notes, and fields that are not one value

TURN = """\
  - victim:
      - op: guest_read
        core: 0
        gpa: $secret.page
        length: 1
        as: exit
  - note: $exit.gpn
"""
MERGEABLE = """\
after:
  - op: guest_mergeable
    core: 0
    gpn: 0
    with: any
"""


def test_a_turn_and_a_note_are_read_as_they_stand() -> None:
    _, turn, note = read_attack(GOOD + TURN).phases["attacker"]
    assert isinstance(turn, TurnStep) and isinstance(note, NoteStep)
    (step,) = turn.steps
    assert isinstance(step, OperationStep)
    assert (step.fields["gpa"], step.bind, step.line) == (Reference("secret", "page"), "exit", 33)
    assert (note.value, note.line) == (Reference("exit", "gpn"), 38)


@pytest.mark.parametrize(
    ("old", "new", "reason", "line"),
    [
        (
            "- op: guest_read",
            "- op: hv_read",
            "hv_read belongs to the hypervisor port, which a guest does not have",
            33,
        ),
        ("- op: guest_read", "- victim: []\n        op: guest_read", "flow style", 33),
        ("length: 1\n        as: exit", "length: 1", "$exit is not bound before this step", 37),
        ("as: exit", "as: secret", "secret is predefined", 37),
        ("as: exit", "as: attacker", "only create_vm binds it", 37),
        ("note: $exit.gpn", "note: $exit.data", "exit has no field data", 38),
        ("note: $exit.gpn", "note: $exit", "name one", 38),
        ("note: $exit.gpn", "note: $secret.page", "an attacking step cannot name it", 38),
        ("note: $exit.gpn", "note: $frame", "$frame is set by let", 38),
        ("note: $exit.gpn", "note: 5", "a note is of $name or $name.field", 38),
        ("note: $exit.gpn", "note: $exit.gpn\n    as: x", "unknown key as in a note step", 39),
        ("  - note: $exit.gpn", "after:\n  - note: $seen", "a note step belongs to the attacker's phase", 39),
        ("gpa: $secret.page", "gpa: $secret.high.low", "is not $name or $name.field", 35),
        ("gpa: $secret.page", "gpa: $secret.bit", "secret has no field bit", 35),
        ("gpa: $secret.page", "gpa: $secret", "$secret is hex bytes, integer is wanted", 35),
    ],
)
def test_a_wrong_word_in_a_turn_is_refused_at_its_place(old: str, new: str, reason: str, line: int) -> None:
    assert old in TURN
    error = place_of(GOOD + TURN.replace(old, new, 1))
    assert reason in error.reason
    assert error.line == line


def test_a_turn_has_no_let_no_note_and_no_turn_of_its_own() -> None:
    for inner, reason in (
        ("- let:\n          a: 1\n", "a let step cannot stand in the victim's turn"),
        ("- note: $seen\n", "a note step belongs to the attacker's phase"),
        (
            "- victim:\n          - op: guest_flush\n            core: 0\n            gva: 0\n",
            "belongs to the attacker's",
        ),
    ):
        assert reason in place_of(f"{GOOD}  - victim:\n      {inner}").reason


def test_steps_of_a_turn_are_counted() -> None:
    turn = "".join(f"    {line}\n" for line in TURN.splitlines())
    assert read_attack(GOOD + "  - repeat: 4997\n    steps:\n" + turn).phases["attacker"]
    error = place_of(GOOD + "  - repeat: 4998\n    steps:\n" + turn)
    assert error.reason == "more than 10000 executed operations"


def test_partners_are_a_word_or_a_list_of_handles() -> None:
    for written, read in (
        ("any", "any"),
        ("none", "none"),
        ("\n      - $victim\n      - 7", (Reference("victim"), 7)),
    ):
        (step,) = read_attack(GOOD + MERGEABLE.replace("any", written)).phases["after"]
        assert isinstance(step, OperationStep) and step.fields["with"] == read
    for written, reason in (
        ("some", "guest_mergeable.with is one of none, any, not some"),
        ("$victim", "guest_mergeable.with is one of none, any"),
        ("\n      - any", "must be an integer"),
        ("\n      a: 1", "must be a list"),
        ("", "must have 1 to 2000 characters"),
    ):
        assert reason in place_of(GOOD + MERGEABLE.replace("any", written)).reason


def test_an_image_may_be_as_long_as_the_file_and_other_bytes_as_long_as_a_page() -> None:
    step = "after:\n  - op: swap_in\n    vm: $victim\n    gpn: 0\n    mfn: 9\n    image: {}\n"
    assert read_attack(GOOD + step.format("ab" * 30_000)).phases["after"]
    assert "longer than 65536 bytes" in place_of(GOOD + step.format("ab" * 40_000)).reason
    write = "after:\n  - op: guest_write\n    core: 0\n    gpa: 0\n    data: {}\n"
    assert read_attack(GOOD + write.format("ab" * 4096)).phases["after"]
    assert "must have 1 to 8192 characters" in place_of(GOOD + write.format("ab" * 4097)).reason


def test_nothing_that_the_victim_saw_is_named_by_an_attacking_step() -> None:
    access = "  - op: guest_access\n    core: 0\n    gva: $secret.page\n    kind: r\n    as: own\nattacker:\n"
    for use in ("  - note: $own.gpa\n", "  - op: claim\n    mfn: $own.mfn\n", "  - let:\n      copy: $own.hit\n"):
        assert "an attacking step cannot name it" in place_of(GOOD.replace("attacker:\n", access + use)).reason


def test_what_the_victim_read_is_not_handed_to_the_attacker() -> None:
    text = GOOD.replace(
        "attacker:\n",
        "  - op: guest_read\n    core: 0\n    gpa: 0\n    length: 16\n    as: own\nattacker:\n"
        "  - op: hv_write\n    mfn: 8\n    offset: 0\n    data: $own\n",
    )
    assert "an attacking step cannot name it" in place_of(text).reason
