"""Which version somebody had before its eyes: ETag out, If-Match in."""

from __future__ import annotations

import re
from typing import Final

from django.http import HttpRequest

_TAG: Final = re.compile(r'"(\d{1,10})-[0-9a-f]{16}"\Z')
NONE_SEEN: Final = -1  # fits no version


def etag(version: int, sha256: str) -> str:
    """Of a version of wishes: versions never change, so number and digest name it."""
    return f'"{version}-{sha256[:16]}"'


def seen_in(request: HttpRequest, *, newest: int) -> int | None:
    """The version that If-Match names; None without it. `*` is whatever is stored, if anything is. Of several tags the
    newest version counts where it is among them."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    if header.strip() == "*":
        return newest if newest else NONE_SEEN
    found = [_TAG.match(part.strip()) for part in header.split(",")]
    versions = [int(tag[1]) for tag in found if tag]
    if newest in versions:
        return newest
    return versions[0] if versions else NONE_SEEN
