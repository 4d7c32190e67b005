"""The one place from which the product calls an address that somebody gave: only hosts that the operator allows, no
redirect, and the very address that was checked is the one that is called.

HSVM_WEBHOOK_HOSTS lists, with commas: host names and addresses (`hooks.example.org`, `[::1]:8443`), each with a port if
it is not 443; and networks (`10.1.0.0/16`) that resolved addresses may lie in though they are private. Plain http is
for loopback addresses that are listed themselves.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from django.conf import settings

from webapp.errors import BadInput, Fault

TIMEOUT_SECONDS: Final = 4.0  # for each step: to connect, to send, to hear
WHOLE_SECONDS: Final = 8.0  # for all of it, however slowly the other side drips
LONGEST: Final = 500

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Address(NamedTuple):
    secure: bool
    host: str
    port: int
    target: str  # path and query


class Refused(Exception):
    """The call was not made, or came to nothing; the message is for the endpoint's owner."""


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""


def _ip(text: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def allowed_hosts(
    entries: Sequence[str] | None = None,
) -> tuple[set[tuple[str, int]], list[ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    """Listed hosts with their ports, and the networks in which private addresses may lie."""
    hosts: set[tuple[str, int]] = set()
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for entry in settings.WEBHOOK_HOSTS if entries is None else entries:
        if "/" in entry:
            networks.append(ipaddress.ip_network(entry))
            continue
        parts = urlsplit(f"//{entry}")
        host = (parts.hostname or "").lower()
        hosts.add((host, parts.port or 443))
        found = _ip(host)
        if found is not None:
            networks.append(ipaddress.ip_network(found))
    return hosts, networks


def address_of(url: str, *, path: str = "$.url", hosts: Sequence[str] | None = None) -> Address:
    """The parts of an address that may be called; else BadInput at this path."""

    def refuse(reason: str) -> BadInput:
        return BadInput([Fault(path, reason)])

    if len(url) > LONGEST or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise refuse(f"must be an address of at most {LONGEST} plain characters")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise refuse("is not an address that can be read") from None
    if parts.scheme not in ("https", "http") or not host:
        raise refuse("must begin with https://")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise refuse("must hold no name, no password and no #")
    found = _ip(host)
    if parts.scheme == "http" and not (found is not None and found.is_loopback):
        raise refuse("must begin with https://")
    port = port if port is not None else (443 if parts.scheme == "https" else 80)
    if (host, port) not in allowed_hosts(hosts)[0]:
        raise refuse("is not at a host that the operator of this platform allows for webhooks; ask the operator")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme == "https", host, port, target)


def resolved(address: Address, *, hosts: Sequence[str] | None = None) -> str:
    """The numeric address to call. Every one that the name stands for must be public, or listed."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        raise Refused("The host's name was not found.") from None
    networks = allowed_hosts(hosts)[1]
    numbers = [str(row[4][0]) for row in found]
    for number in numbers:
        one = _ip(number.partition("%")[0])
        if one is None or not (one.is_global or any(one in network for network in networks)):
            raise Refused("The host's name stands for an address that is not allowed.")
    if not numbers:
        raise Refused("The host's name was not found.")
    return numbers[0]


class _Connection(http.client.HTTPConnection):
    """Connects to the number that was checked, and proves the name by TLS."""

    def __init__(self, address: Address, number: str) -> None:
        super().__init__(address.host, address.port, timeout=TIMEOUT_SECONDS)
        self._number, self._secure = number, address.secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self._number, self.port), TIMEOUT_SECONDS)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of the answer; Refused where there is none. What the answer says is not read."""
    return call("POST", url, body, headers, most=0)[0]


def call(
    method: str,
    url: str,
    body: bytes | None,
    headers: dict[str, str],
    *,
    hosts: Sequence[str] | None = None,
    most: int = 1 << 20,
) -> tuple[int, bytes]:
    """Status and content of the answer, of which at most so much is read; Refused where there is none. `hosts` lists
    who may be called, as HSVM_WEBHOOK_HOSTS does, which it is without."""
    try:
        address = address_of(url, hosts=hosts)
    except BadInput:
        raise Refused("The operator does not allow this address any more.") from None
    connection = _Connection(address, resolved(address, hosts=hosts))

    def cut() -> None:
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(socket.SHUT_RDWR)

    clock = threading.Timer(WHOLE_SECONDS, cut)
    clock.daemon = True
    clock.start()
    try:
        connection.request(method, address.target, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read(most + 1) if most else b""
    except ssl.SSLCertVerificationError:
        raise Refused("The host's certificate is not valid for its name.") from None
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"There was no answer ({type(error).__name__}).") from None
    finally:
        clock.cancel()
        connection.close()
    if len(content) > most:
        raise Refused("The answer is too long.")
    return answer.status, content
