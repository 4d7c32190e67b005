"""A short run of the fuzzer, and that it would tell of a parser that misbehaves. The long run is `make fuzz`."""

import random

import pytest

from . import fuzz
from .fuzzparsers import PARSERS


def test_changed_files_are_read_or_refused_by_the_parsers_own_error() -> None:
    report = fuzz.run(inputs=2_500, seed=11)
    assert report["findings"] == []
    assert report["inputs"] == 2_500
    for name, row in report["parsers"].items():
        assert row["refused"] > row["inputs"] / 3, name
        assert row["accepted"] > 0, name
        assert row["grown_mb"] < 64, name


@pytest.mark.parametrize("name", PARSERS)
def test_samples_are_read_and_changes_follow_from_the_seed(name: str) -> None:
    parser = PARSERS[name]
    samples = parser.samples()
    for data in samples:
        parser.read(data)
    one, same, other = (
        [parser.change(random.Random(f"{seed} {number}"), samples) for number in range(20)] for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_what_a_parser_must_not_raise_is_told() -> None:
    def broken(data: bytes) -> None:
        raise KeyError("a fault of the parser")

    assert fuzz._read(broken, ValueError, b"") == "KeyError: 'a fault of the parser'"
    assert fuzz._read(int, ValueError, b"x") == fuzz.REFUSED
    assert fuzz._read(int, ValueError, b"7") == ""


def test_a_parser_that_hangs_is_told_with_the_number_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "import itertools; from tests.engine import fuzz, fuzzparsers as f; fuzz.SECONDS = 0.2; "
    words += "hang = lambda data: sum(itertools.count()); "
    words += "f.PARSERS['lackey'] = f.Parser(f.lackey_samples, f.text_changed, hang, ValueError); "
    words += "import sys; sys.exit(fuzz.main(sys.argv[1:]))"
    monkeypatch.setattr(fuzz, "CHILD", ("-c", words))
    report = fuzz.run(inputs=5, seed=1, first=40, only="lackey")
    assert report["findings"] == [{"parser": "lackey", "seed": 1, "number": 40, "reason": "took too long"}]
