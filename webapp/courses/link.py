"""A course item that is a note with a link. The reader opens it; the site fetches nothing of it, now or ever."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from webapp.courses.kinds import Kind
from webapp.courses.models import Item, Member
from webapp.courses.texts import Text as Yaml
from webapp.errors import Fault
from webapp.vpms.shapes import Object, OneOf, Text

SCHEMA: Final = "vpms/link-1"
SHAPE: Final = Object({"schema": OneOf([SCHEMA]), "address": Text(9, 500)}, {"note": Text(0, 4000)})
HOST: Final = re.compile(r"(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
PLAIN: Final = re.compile(r"[!-~]+")  # no blank, nothing that a browser would take away, nothing outside ASCII
BLANK: Final = (Path(__file__).parent / "blanks" / "link.yaml").read_text()


@dataclass(frozen=True)
class Link:
    """`host` is shown beside the button, so that nobody is led elsewhere than they read."""

    address: str
    host: str
    note: str


def read(text: str) -> Link:
    """The link in a text; BadInput with line and column."""
    block = Yaml(text.replace("\r\n", "\n"))
    facts = block.check(SHAPE)
    host = host_of(facts["address"])
    if not host:
        told = _("must be an address that begins with https:// and names a host of the web, without a password in it")
        raise block.refused([Fault("$.address", told)])
    return Link(facts["address"], host, facts.get("note", "").strip())


def host_of(address: str) -> str:
    """The host that an address of this kind leads to; "" for any other address."""
    if not PLAIN.fullmatch(address) or "\\" in address or not address.lower().startswith("https://"):
        return ""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    plain = parts.username is None and parts.password is None and HOST.fullmatch(host)
    return f"{host}:{port}" if plain and port not in (None, 443) else host if plain else ""


def page(request: HttpRequest, item: Item, member: Member) -> HttpResponse:
    return render(request, "courses/link.html", {"item": item, "member": member, "link": read(item.text)})


KIND: Final = Kind(
    name="link",
    label=gettext_lazy("Link"),
    says=gettext_lazy("A note with a link to a page elsewhere, for the student to read."),
    read=read,
    page=page,
    blank=BLANK,
)
