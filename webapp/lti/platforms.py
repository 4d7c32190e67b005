"""The platforms that the operator named in a file: no other is ever believed or spoken to.

HSVM_LTI_PLATFORMS is the path of a JSON file, read strictly; without one there is no LTI.

    {"platforms": [{"name": "Moodle", "issuer": "https://moodle.example", "client_id": "…", "deployments": ["1"],
                    "auth_url": "https://…", "token_url": "https://…", "jwks_url": "https://…",
                    "hosts": [], "teachers": false}],
     "networks": []}

`hosts`: further hosts of the platform for grades and for the way back. `teachers`: who teaches there becomes a teacher
here. `networks`: private networks in which addresses of platforms may lie.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from webapp import strictjson
from webapp.errors import BadInput

NEEDED: Final = ("name", "issuer", "client_id", "deployments", "auth_url", "token_url", "jwks_url")
ADDRESSES: Final = ("auth_url", "token_url", "jwks_url")
MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class Platform:
    name: str
    issuer: str
    client_id: str
    deployments: tuple[str, ...]
    auth_url: str
    token_url: str
    jwks_url: str
    hosts: tuple[str, ...] = ()
    teachers: bool = False
    networks: tuple[str, ...] = ()

    @property
    def callable(self) -> list[str]:
        """Hosts with ports that we may call, and networks they may lie in, as webapp.notices.outgoing reads them."""
        return [*sorted({_host(self.token_url), _host(self.jwks_url), *self.hosts}), *self.networks]

    def leads_back(self, url: str) -> bool:
        """Whether an address is the platform's own, for a browser that goes back there."""
        return origin(url) in origins(self)


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def origins(platform: Platform) -> list[str]:
    """Where pages of the platform are."""
    return sorted({origin(platform.auth_url), origin(platform.issuer), *(f"https://{host}" for host in platform.hosts)})


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def known() -> tuple[Platform, ...]:
    """All platforms of the file as it is now."""
    path = settings.LTI_PLATFORMS
    return _read(path, os.stat(path).st_mtime_ns) if path else ()


@lru_cache(maxsize=4)
def _read(path: str, _changed: int) -> tuple[Platform, ...]:
    with open(path, "rb") as handle:
        content = handle.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ImproperlyConfigured("HSVM_LTI_PLATFORMS: the file is too long")
    try:
        told = strictjson.load(content)
    except BadInput as faulty:
        raise ImproperlyConfigured(f"HSVM_LTI_PLATFORMS: {faulty.message}") from None
    if (
        not isinstance(told, dict)
        or set(told) - {"platforms", "networks"}
        or not isinstance(told.get("platforms"), list)
    ):
        raise ImproperlyConfigured('HSVM_LTI_PLATFORMS: the file must hold {"platforms": […], "networks": […]}')
    networks = tuple(told.get("networks", ()))
    try:
        for network in networks:
            ipaddress.ip_network(network)
    except ValueError as wrong:
        raise ImproperlyConfigured(f"HSVM_LTI_PLATFORMS: networks: {wrong}") from None
    rows = tuple(_platform(row, f"platforms[{n}]", networks) for n, row in enumerate(told["platforms"]))
    if len({(row.issuer, row.client_id) for row in rows}) < len(rows):
        raise ImproperlyConfigured("HSVM_LTI_PLATFORMS: an issuer and client_id stand there twice")
    return rows


def _platform(row: Any, place: str, networks: tuple[str, ...]) -> Platform:
    def faulty(reason: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"HSVM_LTI_PLATFORMS: {place}: {reason}")

    if not isinstance(row, dict) or set(row) - {*NEEDED, "hosts", "teachers"} or set(NEEDED) - set(row):
        raise faulty(f"must have {', '.join(NEEDED)}, may have hosts and teachers, and nothing else")
    lists = {name: row.get(name, []) for name in ("deployments", "hosts")}
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(each, str) and 0 < len(each) <= 255 for each in value):
            raise faulty(f"{name} must be a list of texts")
    for name in set(NEEDED) - {"deployments"}:
        if not isinstance(row[name], str) or not 0 < len(row[name]) <= 255:
            raise faulty(f"{name} must be a text of 1 to 255 characters")
    for name in ADDRESSES:
        parts = urlsplit(row[name])
        loopback = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1"}
        if not parts.hostname or not (parts.scheme == "https" or loopback):
            raise faulty(f"{name} must be an https address")
    if not isinstance(row.get("teachers", False), bool) or not lists["deployments"]:
        raise faulty("teachers must be true or false, and at least one deployment be named")
    told = {name: row[name] for name in NEEDED if name != "deployments"}
    return Platform(
        **told, deployments=tuple(lists["deployments"]), hosts=tuple(lists["hosts"]),
        teachers=row.get("teachers", False), networks=networks,
    )  # fmt: skip


def found(issuer: str, client_id: str = "") -> Platform | None:
    """The platform of that issuer; where it has several clients, the one named."""
    rows = [row for row in known() if row.issuer == issuer and client_id in ("", row.client_id)]
    return rows[0] if len(rows) == 1 else None
