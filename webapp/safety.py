"""What would make the site unsafe: each fault is one sentence that names its environment variable. For settings.py."""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

SHORTEST_PASSWORD: Final = 12
SHORTEST_SECRET: Final = 32
ENCRYPTED: Final = {"require", "verify-ca", "verify-full"}  # of PostgreSQL's sslmode
MAKE_KEYS: Final = "make the keys once with `python -m webapp.keys DIRECTORY` and copy them to every machine"


def loopback(host: str) -> bool:
    """Whether the name or address never leaves this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def readable_by_others(variable: str, path: Path) -> str:
    """The fault, if a file with a secret may be read by more than its owner and group; "" if it may not."""
    mode = path.stat().st_mode
    if mode & 0o007:
        return f"{variable}: {path} may be read by everybody on this machine; chmod 600 {path}"
    return ""


def faults(
    *,
    tls: bool,
    bind: str,
    hosts: Sequence[str],
    origins: Sequence[str],
    database: str,
    database_password: str,
    redis: Mapping[str, str],
    plain_hosts: Sequence[str],
    secret_key: str,
) -> list[str]:
    """Every fault of these settings; none: they are safe as far as settings can be. `hosts`: those that were named."""
    found = [*_names(bind, hosts, origins, tls=tls)]
    if len(secret_key) < SHORTEST_SECRET or len(set(secret_key)) < 5:
        found.append(f"HSVM_SECRET_KEY must have at least {SHORTEST_SECRET} characters that nobody can guess")
    if database:
        found += _database(database, database_password, plain_hosts)
    for variable, url in redis.items():
        if url and not (variable != "HSVM_REDIS" and url == redis["HSVM_REDIS"]):  # told once
            found += _redis(variable, url, plain_hosts)
    return found


def _names(bind: str, hosts: Sequence[str], origins: Sequence[str], *, tls: bool) -> Iterator[str]:
    if not loopback(bind) and not hosts:
        yield f"HSVM_HOSTS must name the hosts by which people reach the site, since HSVM_BIND={bind} is not loopback"
    for host in hosts:
        if "*" in host or not host.strip():
            yield f"HSVM_HOSTS: {host!r} would answer to any name; write each host name in full"
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "*" in origin or parts.path:
            yield f"HSVM_ORIGINS: {origin!r} must read https://host or https://host:port"
        elif tls and parts.scheme != "https":
            yield f"HSVM_ORIGINS: {origin!r} must begin with https://, since HSVM_TLS is 1"


def _database(url: str, password: str, plain_hosts: Sequence[str]) -> Iterator[str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if importlib.util.find_spec("psycopg") is None:
        yield "HSVM_DATABASE needs the package psycopg; run `make setup` again"
    if not parts.username:
        yield "HSVM_DATABASE names no user; write postgres://user:password@host:port/name"
    if not password:
        yield "HSVM_DATABASE has no password, and HSVM_DATABASE_PASSWORD_FILE names no file with one"
    if not loopback(host) and host not in plain_hosts and dict(parse_qsl(parts.query)).get("sslmode") not in ENCRYPTED:
        yield (
            f"HSVM_DATABASE goes to {host} in the clear; add ?sslmode=verify-full, "
            "or name the host in HSVM_PLAIN_HOSTS if nobody else is on that network"
        )


def _redis(variable: str, url: str, plain_hosts: Sequence[str]) -> Iterator[str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "unix" or loopback(host):
        return
    password = unquote(parts.password or "")
    if not password:
        yield (
            f"{variable} has no password for {host}; write rediss://user:password@host:port/0, "
            f"or name a file with it in {variable}_PASSWORD_FILE"
        )
    elif len(password) < SHORTEST_PASSWORD:
        yield f"{variable}: the password for {host} must have at least {SHORTEST_PASSWORD} characters"
    if parts.scheme != "rediss" and host not in plain_hosts:
        yield (
            f"{variable} goes to {host} in the clear; write rediss://, "
            "or name the host in HSVM_PLAIN_HOSTS if nobody else is on that network"
        )
