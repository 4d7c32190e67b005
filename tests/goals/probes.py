"""Floods of malformed input, resource bombs, and people who reach for what is another's."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import random
import re
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import psutil

from tests.goals import stack
from tests.goals.load import MB, text_frame
from tests.goals.stack import Place, Site, answers, within

HUNG_SECONDS, AT_ONCE = 5.0, 6
CSRF: Final = "c" * 32
UNLIMITED: Final = {
    **dict.fromkeys(("HSVM_API_CALLS_PER_MINUTE", "HSVM_API_WRITES_PER_MINUTE"), "0"),
    **dict.fromkeys(("HSVM_TENANT_SOCKETS", "HSVM_PERSON_SOCKETS"), "0"),
    "HSVM_SLOWER": "8",
}


@dataclass
class Answer:
    status: int  # 0: the connection ended without an answer
    seconds: float
    body: bytes = b""

    @property
    def hung(self) -> bool:
        return self.seconds >= HUNG_SECONDS


@dataclass
class Tally:
    """What came of many inputs of one kind."""

    count: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    hung: int = 0
    findings: list[str] = field(default_factory=list)

    def take(self, answer: Answer, sent: object) -> None:
        self.count += 1
        self.statuses[answer.status] += 1
        self.hung += answer.hung
        if (answer.status >= 500 or answer.hung) and len(self.findings) < 10:
            self.findings.append(f"{answer.status} after {answer.seconds:.1f} s: {str(sent)[:300]}")

    def told(self) -> dict[str, Any]:
        return {"inputs": self.count, "statuses": {str(k): v for k, v in sorted(self.statuses.items())}}


async def exchange(port: int, raw: bytes, *, ends: bool = True, seconds: float = HUNG_SECONDS) -> Answer:
    """Send these bytes and read until the server has answered or closed."""
    began = time.monotonic()
    told = b""
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            if ends:
                writer.write_eof()
            while data := await reader.read(1 << 16):
                told += data
                if not ends and complete(told):
                    break
    except (OSError, TimeoutError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    found = re.match(rb"HTTP/1\.[01] (\d{3})", told)
    return Answer(int(found[1]) if found else 0, time.monotonic() - began, told.partition(b"\r\n\r\n")[2])


def complete(told: bytes) -> bool:
    """Whether this is one whole answer, by its length or its last chunk."""
    head, found, body = told.partition(b"\r\n\r\n")
    if not found:
        return False
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    if length:
        return len(body) >= int(length[1])
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    return head[9:12] in (b"204", b"304") or head.startswith(b"HTTP/1.1 1")


def request(
    method: str, path: str, *, cookie: str = "", body: bytes = b"", kind: str = "application/json", **headers: str
) -> bytes:
    """A request as a browser or program would send it, signed in by this session."""
    cookies = f"csrf={CSRF}" + (f"; session={cookie}" if cookie else "")
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Cookie: {cookies}", f"X-CSRFToken: {CSRF}"]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def all_of(port: int, raws: Iterable[bytes], tally: Tally, until: float, ends: bool = False) -> None:
    """Send all of them, some at once, until this moment."""
    waiting = iter(raws)

    async def sender() -> None:
        for raw in waiting:
            if time.monotonic() > until:
                return
            tally.take(await exchange(port, raw, ends=ends), raw)

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))


# -- M1


def malformed(place: Place) -> dict[str, Any]:
    """Inputs of chance: bytes that are no HTTP, requests that fit nothing, socket messages, uploads, attack files."""
    place.django()
    people = cast_with_lab()
    sessions = {name: stack.session_of(user) for name, user in people["users"].items()}
    full = {"http": 8000, "routes": 4000, "socket": 5000, "uploads": 1500, "attacks": 2000}
    wanted = {name: place.count(count, count // 100) for name, count in full.items()}
    tallies = {name: Tally() for name in wanted}
    makers: dict[str, Callable[[], Iterator[bytes]]] = {
        "http": lambda: spoiled_http(place.random),
        "routes": lambda: routes_with_anything(place.random, list(sessions.values())),
        "uploads": lambda: uploads(place.random, sessions["alice"]),
        "attacks": lambda: attack_files(place.random, sessions["stu"], people["lab"]),
    }
    with place.site(**UNLIMITED) as site:
        pids = {name: site.pid_of(name) for name in stack.MARKS}
        stop = time.monotonic() + 200
        for name, make in makers.items():
            inputs = (raw for _, raw in zip(range(wanted[name]), make(), strict=False))
            asyncio.run(all_of(site.port, inputs, tallies[name], stop, ends=name == "http"))
        asyncio.run(
            socket_messages(site, sessions["alice"], place.random, wanted["socket"], tallies["socket"], stop + 20)
        )
        died = [name for name, pid in pids.items() if site.pid_of(name) != pid]
        alive = answers(site)
        told = site.tails()
    total = sum(tally.count for tally in tallies.values())
    worst = sum(n for tally in tallies.values() for status, n in tally.statuses.items() if status >= 500)
    hung = sum(tally.hung for tally in tallies.values())
    traced = told.count("Traceback")
    return {
        "ok": total >= sum(wanted.values()) and not worst and not hung and not died and alive,
        "inputs": total,
        "status_500_and_more": worst,
        "hung": hung,
        "died": died,
        "tracebacks_in_logs": traced,
        "kinds": {name: tally.told() for name, tally in tallies.items()},
        "findings": [finding for tally in tallies.values() for finding in tally.findings][:10],
    }


def cast_with_lab() -> dict[str, Any]:
    """The cast, a class with a lab, and everybody's account."""
    from tests.conftest import make_cast
    from tests.web.lab import make_class

    cast = make_cast()
    room = make_class()
    users = {"alice": cast.alice, "bob": cast.bob, "olga": cast.olga, "ines": cast.ines, "stu": room.stu}
    return {"cast": cast, "users": users, "lab": room.item.pk, "course": room.course}


HTTP: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: 12\r\nConnection: close\r\n\r\nusername=abc",
    b"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"PUT /api/vms/a-db/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
)
ODD: Final = (b"\0", b"\r\n", b"\n", b" ", b":", b"\xff\xfe", b"A" * 9000, b"-1", b"9" * 40, b"chunked", b"%00", b"%ff",
              b"HTTP/9.9", b"Host: a\r\nHost: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: gzip\r\n",
              b"Cookie: " + b"a=b; " * 900 + b"\r\n", b"\xe2\x80\xa8", b"../../../etc/passwd", b"Upgrade: h2c\r\n",
              b"Expect: 100-continue\r\n", b"Range: bytes=0-,0-,0-\r\n", b"\x16\x03\x01\x02\x00\x01")  # fmt: skip


def spoiled_http(chance: random.Random) -> Iterator[bytes]:
    """Requests with bytes lost, doubled, exchanged, or with what does not belong there."""
    while True:
        raw = bytearray(chance.choice(HTTP))
        for _ in range(chance.choice((1, 1, 2, 4, 9))):
            at = chance.randrange(len(raw) + 1)
            kind = chance.randrange(5)
            if kind == 0:
                raw[at : at + chance.randrange(1, 30)] = b""
            elif kind == 1:
                raw[at:at] = chance.choice(ODD)
            elif kind == 2:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            elif kind == 3:
                raw[at:at] = raw[: chance.randrange(1, 60)]
            else:
                del raw[at:]
        yield bytes(raw)


VALUES: Final = (
    "a-db",
    "1",
    "0",
    "-1",
    "9" * 400,
    "9223372036854775808",
    "%00",
    "..%2f..%2fetc",
    "%f0%9f%92%a9",
    "'--",
    "a" * 3000,
    "%0d%0aX: y",
    "NaN",
    "%ed%a0%80",
    "${7*7}",
    "{{7*7}}",
    "h1",
    "true",
    "[]",
    "%",
)
BODIES: Final = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'{"a":1e999}',
    b'{"a":1,"a":2}',
    b'{"a":NaN}',
    b"[" * 5000,
    b"\xff\xfe",
    b'{"text":"\\ud800"}',
    b"a=1&a=2&" * 300,
    b"name=%00&title=a%00b&text=%00&reason=%00&username=%00&document=%00&code=%00",
    b'{"name":"\\u0000","title":"\\u0000","text":"\\u0000","reason":"\\u0000"}',
    b'"' + b"x" * 70_000 + b'"',
    b'{"n":' + b"9" * 5000 + b"}",
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    b"%PDF-1.4",
    b"<?xml version='1.0'?>",
)
KINDS: Final = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "multipart/form-data",
    "application/octet-stream",
    "application/json; charset=utf-7",
    "x",
    "",
)
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")


def routes_with_anything(chance: random.Random, sessions: list[str]) -> Iterator[bytes]:
    """Every route with values, queries and bodies that do not fit, by everybody."""
    from tests.web.test_isolation import our_routes

    routes = [route for route in our_routes() if "sign-out" not in route]
    while True:
        route = re.sub(r"\(\?P<\w+>[^)]*\)", lambda _: chance.choice(VALUES), chance.choice(routes))
        path = re.sub(r"<(\w+:)?(\w+)>", lambda _: chance.choice(VALUES), route).replace("^", "").replace("$", "")
        path = quote(path, safe="/%:@!,;=+~*-._")
        if chance.random() < 0.5:
            names = ("q", "page", "before", "after", "limit", "type", "from", "to", "sort", "cursor", "state", "lang")
            path += "?" + "&".join(f"{chance.choice(names)}={quote(chance.choice(VALUES), safe='%')}" for _ in range(3))
        yield request(
            chance.choice(METHODS), path, cookie=chance.choice([*sessions, ""]), body=chance.choice(BODIES),
            kind=chance.choice(KINDS), Accept_Language=chance.choice(("de", "xx;q=9", "*" * 40)),
        )  # fmt: skip


def uploads(chance: random.Random, cookie: str) -> Iterator[bytes]:
    """Recorded programs that are none: changed traces, archives, other formats, by API and by the page's form."""
    from tests.engine.fuzzparsers import trace_changed, trace_samples

    samples = trace_samples()
    samples = [sample[:40_000] for sample in samples]
    while True:
        data = trace_changed(chance, samples) if chance.random() < 0.8 else bomb_zip(chance.randrange(1, 40) << 10)
        if chance.random() < 0.5:
            path = f"/api/workloads?title={chance.choice(VALUES)}"
            yield request("POST", path, cookie=cookie, body=data, kind="application/octet-stream")
        else:
            name = chance.choice(('"x.hsvmtrace"', '"../../x"', '"a\\"b"', '""', "x" * 400))
            form = f'--x\r\nContent-Disposition: form-data; name="file"; filename={name}\r\n\r\n'.encode()
            form += data + b'\r\n--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nt\r\n--x--\r\n'
            kind = "multipart/form-data; boundary=x"
            yield request("POST", "/tenant/workloads/", cookie=cookie, body=form, kind=kind)


def attack_files(chance: random.Random, cookie: str, lab: int) -> Iterator[bytes]:
    """Attack files with lines, words and bytes exchanged, given to the lab as a student does."""
    from tests.engine.fuzzparsers import attack_samples, text_changed

    samples = attack_samples()
    while True:
        text = text_changed(chance, samples).decode(errors="replace")[:60_000]
        act = chance.choice(("check", "check", "attempts"))
        body = {"text": text} if act == "check" else {"text": text, "seed": chance.choice((1, 2**48, -1, 2**70))}
        yield request("POST", f"/api/items/{lab}/lab/{act}", cookie=cookie, body=json.dumps(body).encode())


MESSAGES: Final = (
    "{",
    "[]",
    "null",
    '{"type":"resume"}',
    '{"type":"ping","x":1}',
    '{"type":"subscribe"}',
    "x" * 66_000,
    '{"type":"subscribe","topic":1}',
    '{"type":"rate","hz":1e400}',
    '{"type":' + "[" * 5000 + "}",
    "\ufeff",
    '{"type":"subscribe","topic":"run/99999999999999999999/map","last":null}',
    '{"type":"rate","hz":NaN}',
    '{"type":"subscribe","topic":"../../x","last":-1}',
    '{"type":"ping","type":"ping"}',
    "",
    '{"type":"subscribe","topic":"run/1/map","last":99999999999999999999999}',
)


async def socket_messages(
    site: Site, cookie: str, chance: random.Random, count: int, tally: Tally, until: float
) -> None:
    """Messages that are not understood, frames that are not frames; each socket must be ended, none may hang."""
    while tally.count < count and time.monotonic() < until:
        await asyncio.gather(*(one_socket(site, cookie, chance, tally) for _ in range(AT_ONCE)))


async def one_socket(site: Site, cookie: str, chance: random.Random, tally: Tally) -> None:
    frames = []
    for _ in range(chance.randrange(1, 12)):
        frame = text_frame(chance.choice([m for m in MESSAGES if len(m) < 65_000]))
        if chance.random() < 0.3:  # reserved bits, binary, unmasked, wrong lengths, control frames too long
            frame = bytes([chance.randrange(256), chance.randrange(256)]) + frame[2:]
        frames.append(frame)
    raw = request("GET", "/ws/", cookie=cookie).replace(b"Connection: close\r\n", b"").replace(
        b"Content-Length: 0\r\n", f"Origin: {site.url}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n".encode())  # fmt: skip
    began = time.monotonic()
    status, writer = 0, None
    try:
        async with asyncio.timeout(HUNG_SECONDS * 2):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            for frame in [*frames, text_frame("{")]:  # the last one always ends it
                writer.write(frame)
            writer.write_eof()
            while await reader.read(1 << 16):
                pass
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    took = time.monotonic() - began
    for frame in frames:
        tally.take(Answer(status, took if took >= HUNG_SECONDS * 2 else 0.0), frame[:80])


# -- M2


def bomb_zip(size: int) -> bytes:
    """An archive that inflates to this many bytes of zeros."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * size)
    return made.getvalue()


def bombs(place: Place) -> dict[str, Any]:
    """Each bomb alone: how long its answer took, and what the web and worker processes grew by all of them."""
    place.django()
    people = cast_with_lab()
    sessions = {name: stack.session_of(user) for name, user in people["users"].items()}
    bundles = list(lessons(people["course"], people["users"]["ines"]))
    made = list(every_bomb(sessions, people["lab"], bundles))
    made = made if not place.few else made[:: len(made) // 20]
    rows: list[tuple[str, int, float]] = []
    with place.site(**UNLIMITED) as site:
        asyncio.run(exchange(site.port, request("GET", "/home/", cookie=sessions["alice"]), ends=False))
        watched = [psutil.Process(site.pid_of("web") or 0), *site.pool()]
        before = sum(rss_of(watched).values())
        most = before
        for name, raw in made:
            answer = asyncio.run(exchange(site.port, raw, ends=False, seconds=20))
            rows.append((name, answer.status, answer.seconds))
            most = max(most, sum(rss_of(watched).values()))
        idle = within(lambda: not waiting_attempts(), 30)
        most = max(most, sum(rss_of(watched).values()))
        alive = all(process.is_running() for process in watched) and answers(site)
    growth = (most - before) / MB
    slow = [row for row in rows if row[2] > 1]
    taken = [row for row in rows if not refused(row)]
    return {
        "ok": not slow and not taken and growth <= 64 and alive and idle is not None,
        "bombs": len(rows),
        "slowest_s": round(max(row[2] for row in rows), 2),
        "slow": [[n, s, round(t, 2)] for n, s, t in slow][:10],
        "not_refused": [[n, s, round(t, 2)] for n, s, t in taken][:10],
        "rss_growth_mb": round(growth, 1),
        "alive": alive,
    }


def refused(row: tuple[str, int, float]) -> bool:
    """4xx; searches and checks answer, and say that nothing was found or what is wrong."""
    name, status, _ = row
    return 400 <= status < 500 or (status in (200, 202) and name.startswith(("search", "yaml", "loop")))


def waiting_attempts() -> bool:
    from webapp.courses.models import Attempt

    return Attempt.objects.filter(state=Attempt.State.WAITING).exists()


def rss_of(processes: list[psutil.Process]) -> dict[int, int]:
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found[process.pid] = process.memory_info().rss
    return found


def every_bomb(sessions: dict[str, str], lab: int, bundles: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    alice, stu, ines = sessions["alice"], sessions["stu"], sessions["ines"]
    for size in (1, 50, 400):
        yield f"zip {size} MB", upload(alice, bomb_zip(size * MB))
        yield f"gzip {size} MB", upload(alice, gzip.compress(b"\0" * (size * MB)))
    inner = bomb_zip(20 * MB)
    for _ in range(3):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(5):
                archive.writestr(str(number), inner)
        inner = made.getvalue()
    yield "zip in zip", upload(alice, inner)
    for claimed in (2**22 + 1, 2**31, 2**63, 2**64 - 1):
        from tests.engine.fuzzparsers import trace_samples

        sample = bytearray(trace_samples()[0])
        sample[16:24] = claimed.to_bytes(8, "little")
        yield f"trace of {claimed} references", upload(alice, bytes(sample))
    yield "6 MB upload", upload(alice, b"HSVMTRC1" + b"\0" * (6 * MB))
    documents = {
        **{f"json depth {n}": b"[" * n + b"]" * n for n in (100, 10_000, 400_000)},
        **{f"json objects {n}": b'{"a":' * n + b"1" + b"}" * n for n in (100, 10_000, 150_000)},
        **{f"json digits {n}": b'{"version":' + b"9" * n + b"}" for n in (400, 5_000, 900_000)},
        **{f"json exponent {n}": b'{"version":1e' + b"9" * n + b"}" for n in (3, 6, 300)},
        **{f"json array {n}": b'{"a":[' + b"0," * n + b"0]}" for n in (300, 100_000, 400_000)},
        **{f"json keys {n}": b"{" + b",".join(b'"%d":0' % i for i in range(n)) + b"}" for n in (1_000, 60_000)},
        "json one key": b"{" + b'"a":0,' * 100_000 + b'"a":0}',
        "json string": b'{"a":"' + b"\\u0041" * 160_000 + b'"}',
    }
    for name, body in documents.items():
        yield name, request("PUT", "/api/vms/a-db/policy", cookie=alice, body=body)
    for name, text in attack_bombs():
        body = json.dumps({"text": text}).encode()
        yield f"yaml {name}", request("POST", f"/api/items/{lab}/lab/check", cookie=stu, body=body)
    for name, text in loops():
        body = json.dumps({"text": text, "seed": 1}).encode()
        yield f"loop {name}", request("POST", f"/api/items/{lab}/lab/attempts", cookie=stu, body=body)
    for text in ("a" * 4000 + "!", "(a+)+$" * 300, "%25" * 1500, "((((" * 800, "'\"" * 1500, "[a-z]{99999}"):
        for page in ("/tenant/?q=", "/guide/?q=", "/operator/wall/?q="):
            cookie = sessions["olga"] if "operator" in page else alice
            yield f"search {text[:8]}", request("GET", page + quote(text), cookie=cookie)
    for name, data in bundles:
        yield (
            f"markdown {name}",
            request("POST", "/api/course-bundles", cookie=ines, body=data, kind="application/octet-stream"),
        )


def upload(cookie: str, data: bytes) -> bytes:
    return request("POST", "/api/workloads?title=x", cookie=cookie, body=data, kind="application/octet-stream")


def attack_bombs() -> Iterator[tuple[str, str]]:
    """Texts that YAML readers choke on."""
    laughs = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi"))  # noqa: B905
    yield "aliases", laughs
    yield "merges", "a: &a {x: 1}\n" + "".join(f"b{n}: {{<<: *a}}\n" for n in range(1_000))
    for depth in (50, 5_000, 30_000):
        yield f"flow {depth}", "steps: " + "[" * depth + "]" * depth
    for depth in (200, 250):
        yield f"blocks {depth}", "".join(" " * n + "a:\n" for n in range(depth))
    yield "number", "machine: " + "9" * 60_000
    yield "sexagesimal", "machine: " + "59:" * 20_000 + "1"
    yield "tag", "!!python/object/apply:os.system ['true']"
    yield "long line", "a: " + "x" * 65_000
    yield "too long", "# x\n" * 40_000
    yield "documents", "---\n" * 16_000
    yield "keys", "".join(f"k{n}: 1\n" for n in range(6_000))


def loops() -> Iterator[tuple[str, str]]:
    """Attack files whose repeats multiply."""
    from hsvm_engine.labtask import read_task
    from webapp.courses import lab

    starter = read_task(dict(lab.shipped())["read-the-secret"]).starter
    head = starter[: starter.index("attacker:")] + "attacker:\n"
    step = "- op: hv_flush\n{0}  core: 0\n{0}  vm: $attacker\n"
    for depth, times in ((1, 10**9), (4, 1000), (7, 100), (12, 9), (1, 10_001)):
        text = ""
        for level in range(depth):
            pad = "    " * level
            text += f"  {pad}- repeat: {times}\n  {pad}  steps:\n"
        pad = "    " * depth
        yield f"{depth} deep {times} times", head + text + f"  {pad}" + step.format(f"  {pad}")


def lessons(course: Any, by: Any) -> Iterator[tuple[str, bytes]]:
    """Bundles of a course whose lesson is a text that readers of Markdown choke on, and archives that inflate."""
    from webapp.courses import bundles, services

    services.shipped_add(by=by, course=course, kind="lesson", name="stale-tlb-entries", language="en")
    plain = bundles.exported(by=by, course=course)
    head = "# A lesson\n\n"
    texts = {
        "quotes": ">" * 50_000,
        "lists": "".join(" " * n + "- a\n" for n in range(400)),
        "brackets": "[" * 50_000,
        "emphasis": "*a **b " * 8_000,
        "links": "[a](" * 12_000,
        "inflates": "a" * (60 * MB),
    }
    for name, text in texts.items():
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(plain)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                new.writestr(member, head + text if member.endswith(".md") else old.read(member))
        yield name, made.getvalue()
