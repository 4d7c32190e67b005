"""Lists in pages: an opaque cursor names the last row that was seen, so rows that come meanwhile shift nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Generic, TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, Schema
from pydantic import ConfigDict

from webapp import strictjson
from webapp.errors import BadInput, Fault

MOST: Final = 200
USUAL: Final = 50
LARGEST: Final = 1 << 53
Row = TypeVar("Row")


class Strict(Schema):
    """A body in which every field is known."""

    model_config = ConfigDict(extra="forbid")


class Listed(Schema, Generic[Row]):
    """A page of a list. `next` is the address of the page after it, null on the last one."""

    items: list[Row]
    next: str | None = Field(description="The address of the next page; null: this is the last one.")

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        return f"{params[0].__name__.removesuffix('Out')}Page"


class Paging(Schema):
    limit: Annotated[int, Field(ge=1, le=MOST, description="The most rows of one page.")] = USUAL
    cursor: Annotated[str, Field(max_length=400, description="From the `next` of the page before; else left out.")] = ""


def pages(
    request: HttpRequest,
    rows: QuerySet[Any] | Iterable[Any],
    paging: Paging,
    *,
    by: str,
    shown: Callable[[Any], Any] = lambda row: row,
    shown_together: Callable[[list[Any]], list[Any]] | None = None,
) -> dict[str, Any]:
    """The page of `rows` after the cursor. `by` is a unique column, `-` before it for newest first; rows that are no
    query are dictionaries or objects with it. `shown_together` is for rows told with what is read once for all."""
    name, newest_first = by.removeprefix("-"), by.startswith("-")
    last = _last(paging.cursor, by) if paging.cursor else None
    if isinstance(rows, QuerySet):
        found = _after(rows, name, newest_first, last)[: paging.limit + 1]
        kept = list(found)
    else:
        ordered = sorted(rows, key=lambda row: _value(row, name), reverse=newest_first)
        if last is not None:
            try:
                ordered = [
                    row for row in ordered if (_value(row, name) < last if newest_first else _value(row, name) > last)
                ]
            except TypeError:
                raise _not_ours() from None
        kept = ordered[: paging.limit + 1]
    more = len(kept) > paging.limit
    kept = kept[: paging.limit]
    address = None
    if more:
        query = request.GET.copy()
        query["cursor"] = _cursor(by, _value(kept[-1], name))
        address = f"{request.path}?{query.urlencode()}"
        request.link_next = address  # type: ignore[attr-defined]  # becomes the Link header
    return {"items": shown_together(kept) if shown_together else [shown(row) for row in kept], "next": address}


def _after(rows: QuerySet[Any], name: str, newest_first: bool, last: Any) -> QuerySet[Any]:
    if last is not None:
        if isinstance(rows.model._meta.get_field(name).to_python(0), int) != isinstance(last, int):
            raise _not_ours()
        rows = rows.filter(**{f"{name}__{'lt' if newest_first else 'gt'}": last})
    return rows.order_by(f"-{name}" if newest_first else name)


def _value(row: Any, name: str) -> Any:
    return row[name] if isinstance(row, dict) else getattr(row, name)


def _cursor(by: str, value: Any) -> str:
    return base64.urlsafe_b64encode(strictjson.canonical([by, value])).decode().rstrip("=")


def _last(cursor: str, by: str) -> Any:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = strictjson.load(raw)
    except (BadInput, binascii.Error, ValueError):
        raise _not_ours() from None
    if not isinstance(found, list) or len(found) != 2 or found[0] != by:
        raise _not_ours()
    value = found[1]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _not_ours()
    return value


def _not_ours() -> BadInput:
    return BadInput([Fault("$.cursor", "is not one that this list gave out; begin again without it")])
