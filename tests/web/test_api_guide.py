"""The API guide's examples, really asked: by curl, and by the same request where curl is missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cast
from tests.curl import ask, examples, faults, lacking
from webapp.accounts import tokens

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api-guide.md"


def names_of(cast: Cast, server: Any) -> dict[str, str]:
    """What the guide calls URL and TOKEN."""
    _, secret = tokens.token_make(by=cast.alice, name="guide", scope="write", days=1)
    return {"URL": server.url, "TOKEN": secret}


@pytest.mark.django_db(transaction=True)
def test_every_example_of_the_api_guide_answers_as_the_guide_says(live_cast: Cast, live_server: Any) -> None:
    names = names_of(live_cast, live_server)
    found = examples(GUIDE)
    assert len(found) >= 15
    wrong = [fault for example in found for fault in faults(example, ask(example.command, names))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_request_in_curls_place_is_the_same_request(live_cast: Cast, live_server: Any) -> None:
    names = names_of(live_cast, live_server)
    refused = '-X PUT -H "Content-Type: application/json" -d \'{"answers": {"q9": {}}}\''
    for more in ("", refused):
        command = f'curl "$URL/api/vms/a-db/answers" -H "Authorization: Bearer $TOKEN" {more}'
        real, other = (ask(command, names, real=real) for real in (True, False))
        assert real.status == other.status == (422 if more else 200)
        assert real.body == other.body and real.headers["content-type"] == other.headers["content-type"]


def test_what_does_not_come_as_expected_is_named() -> None:
    assert lacking({"a": [1, "…"], "b": "x…"}, {"a": [1, 2, 3], "b": "xyz", "c": 0}) == []
    assert lacking({"a": [1, 2]}, {"a": [1]}) == ["$.a has 1 items, not 2"]
    assert lacking({"a": {"b": 1}}, {"a": {"b": 2}}) == ["$.a.b is 2, not 1"]
    assert lacking({"a": 1}, {}) == ["$.a is missing"]


def test_an_example_without_its_answer_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "guide.md"
    page.write_text('\n```sh\ncurl "$URL/x"\n```\n\ntext\n')
    with pytest.raises(AssertionError, match="has no"):
        examples(page)
    with pytest.raises(AssertionError, match="may be used"):
        ask("curl --insecure $URL", {"URL": "http://127.0.0.1:1"}, real=False)
