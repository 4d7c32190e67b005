"""The committed reference of the policy document is what the schema and the vocabulary say today."""

from pathlib import Path

from webapp.vpms.reference import reference
from webapp.vpms.vocabulary import SWITCHES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policy-reference.md"


def test_the_committed_reference_is_what_is_generated() -> None:
    assert PAGE.read_text() == reference(), "python -m webapp.vpms.reference > docs/policy-reference.md"


def test_every_switch_and_value_stands_in_the_reference_and_what_is_recorded_only_says_so() -> None:
    page = reference()
    for switch in SWITCHES.values():
        part = page.partition(f"### `{switch.name}`")[2].partition("###")[0]
        assert all(f"| `{value.name}` | {value.label} |" in part for value in switch.values)
        assert ("Recorded only" in part) == switch.declared_only
