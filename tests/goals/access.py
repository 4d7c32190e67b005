"""People who reach for what is another's, rights that end, turns and quotas among organisations, headers, sign-in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from websockets.asyncio.client import connect

from tests.e2e.stack import ROOT, free_port
from tests.goals import stack
from tests.goals.probes import AT_ONCE, UNLIMITED, Answer, exchange, request
from tests.goals.stack import Place, Site, until, within

CANARIES: Final = ("a-db", "alpha", "Alpha Clinic", "alice")  # what nobody else may read in any answer
METHODS: Final = ("GET", "POST", "PUT", "DELETE", "PATCH")


# -- I1


def foreign_things(place: Place) -> dict[str, Any]:
    """Everybody who has nothing to do with alice's organisation asks every route for her things, and every topic."""
    place.django()
    from tests.live.test_isolation import PUBLIC as PUBLIC_TOPICS
    from tests.web.test_isolation import PUBLIC, filled, our_routes

    cast, negotiation, run = told_to_nobody()
    people = strangers(cast)
    sessions = {name: stack.session_of(user) if user else "" for name, user in people.items()}
    ids = {"a-db": "name", str(negotiation): "number"}
    wanted = []
    for route in our_routes():
        if "sign-out" in route or route.startswith(PUBLIC):
            continue
        path = filled(route, negotiation)
        wanted += [(who, method, route, path) for who in people for method in METHODS]
    place.random.shuffle(wanted)
    wanted = wanted[: place.count(len(wanted), 150)]
    leaks: list[str] = []
    statuses: Counter[int] = Counter()
    topics = [topic for topic in topics_of(negotiation, run, cast) if topic[0] not in PUBLIC_TOPICS]
    with place.site(**UNLIMITED) as site:
        stop = time.monotonic() + 200
        asyncio.run(ask_all(site, sessions, wanted, stop, lambda w, a: judge(w, a, leaks, statuses)))
        subscriptions = asyncio.run(subscribe_all(site, sessions, topics, place.count(200, 40), leaks))
    kept = alices_own_is_untouched(cast)
    asked = sum(statuses.values())
    return {
        "ok": not leaks and kept and asked >= place.count(2000, 100) and subscriptions >= place.count(200, 40)
        and not any(status >= 500 for status in statuses),
        "requests": asked, "of": len(wanted), "people": len(people), "kinds_of_ids": len(ids), "leaks": len(leaks),
        "found": leaks[:8], "untouched": kept, "subscriptions": subscriptions, "topics": len(topics),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
    }  # fmt: skip


def told_to_nobody() -> tuple[Any, int, int]:
    """Only alice's VM runs, and she alone has taken part in a negotiation."""
    from tests.conftest import make_cast
    from webapp.ops import story
    from webapp.runs import services
    from webapp.runs.models import Run

    cast = make_cast()
    negotiation = services.vm_start(by=cast.alice, vm=cast.a_db).pk
    story.drain()
    return cast, negotiation, Run.objects.get().pk


def strangers(cast: Any) -> dict[str, Any]:
    """One of each role that has no part in alpha, and nobody at all."""
    from webapp.accounts.models import User
    from webapp.tenants.services import membership_add

    people = {"owner": cast.bob, "teacher": cast.ines, "nobody": None}
    for role in ("member", "auditor"):
        people[role] = User.objects.create(username=f"x-{role}")
        membership_add(by=None, user=people[role], role=role, tenant=cast.beta)
    people["without a role"] = User.objects.create(username="x-none")
    return people


async def ask_all(
    site: Site, sessions: dict[str, str], wanted: list[Any], stop: float, take: Callable[[Any, Answer], None]
) -> None:
    waiting = iter(wanted)

    async def sender() -> None:
        for each in waiting:
            if time.monotonic() > stop:
                return
            who, method, _, path = each
            body = b"" if method in ("GET", "DELETE") else b"{}"
            raw = request(method, path, cookie=sessions[who], body=body)
            take(each, await exchange(site.port, raw, ends=False, seconds=30))

    await asyncio.gather(*(sender() for _ in range(AT_ONCE)))


def judge(each: Any, answer: Answer, leaks: list[str], statuses: Counter[int]) -> None:
    """A leak: a page of a thing of alice's, or any of her words in an answer."""
    who, method, route, path = each
    statuses[answer.status] += 1
    told = answer.body.decode(errors="replace").replace(path, "").replace("alphabetic", "").replace("alphanumeric", "")
    said = [word for word in CANARIES if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", told)]
    named = ("<str:name>" in route or "<name>" in route or "{name}" in route) and answer.status == 200
    mine = named and path.startswith(("/tenant/", "/api/vms", "/operator/"))
    if said or mine:
        leaks.append(f"{who} {method} {path}: {answer.status} {said}")


def topics_of(negotiation: int, run: int, cast: Any) -> list[tuple[str, str]]:
    """Every kind of topic with alice's things in its places: pattern and name."""
    from webapp.live import topics

    idents = {"run": run, "negotiation": negotiation, "notices": cast.alice.pk, "tenant": "alpha", "vm": "a-db"}
    found = []
    for prefix in topics._topics:
        pattern = prefix.removesuffix("!") if prefix.endswith("!") else prefix if "{}" in prefix else prefix + "/{}"
        found.append((prefix, pattern.replace("{}", str(idents.get(pattern.split("/")[0], "1")))))
    return found


async def subscribe_all(
    site: Site, sessions: dict[str, str], topics: list[tuple[str, str]], count: int, leaks: list[str]
) -> int:
    """So many subscriptions by strangers; each must be denied, and nothing else be sent."""
    done = 0
    teachers = ("class/{}/desk", "tenant/{}", "vm/{}")
    while done < count:
        for who, session in sessions.items():
            cookie = f"csrf={'c' * 32}" + (f"; session={session}" if session else "")
            headers = {"Cookie": cookie}
            async with connect(
                site.url.replace("http", "ws") + "/ws/", origin=site.url, additional_headers=headers
            ) as way:
                for number, (prefix, name) in enumerate(topics):
                    if number and number % 15 == 0:
                        await asyncio.sleep(1.05)  # twenty messages a second are the limit
                    await way.send(json.dumps({"type": "subscribe", "topic": name, "last": None}))
                    told = json.loads(await asyncio.wait_for(way.recv(), 30))
                    done += 1
                    if told.get("type") != "denied" or prefix in teachers and told["type"] != "denied":
                        leaks.append(f"{who} subscribed {name}: {told}")
    return done


def alices_own_is_untouched(cast: Any) -> bool:
    cast.a_db.refresh_from_db()
    return bool(cast.a_db.policies.count() == 1 and cast.a_db.placement.host_id == cast.h1.pk)


# -- I2


def rights_end(place: Place) -> dict[str, Any]:
    """Signing out, closing an account, another role: each closes the person's open socket."""
    place.django()
    from tests.conftest import make_cast
    from webapp.accounts import support
    from webapp.accounts.models import User
    from webapp.tenants import people
    from webapp.tenants.services import membership_add

    cast = make_cast()
    ways = ["sign-out"] * place.count(7, 2) + ["close"] * place.count(7, 2) + ["role"] * place.count(6, 2)
    users, rows = [], []
    for number in range(len(ways)):
        users.append(User.objects.create(username=f"person{number}"))
        rows.append(membership_add(by=None, user=users[-1], role="member", tenant=cast.alpha))
    sessions = [stack.session_of(user) for user in users]
    witness = stack.session_of(cast.bob)
    place.random.shuffle(ways)

    def end(number: int, site: Site) -> None:
        if ways[number] == "sign-out":
            raw = request("POST", "/sign-out/", cookie=sessions[number], kind="application/x-www-form-urlencoded")
            answer = asyncio.run(exchange(site.port, raw, ends=False))
            assert answer.status in (200, 302), answer
        elif ways[number] == "close":
            support.account_close(by=cast.olga, user=users[number])
        else:
            people.role_change(by=cast.alice, tenant=cast.alpha, pk=rows[number].pk, role="auditor")

    async def watched(site: Site) -> tuple[list[float | None], bool]:
        address = site.url.replace("http", "ws") + "/ws/"

        async def opened(session: str) -> Any:
            return await connect(address, origin=site.url, additional_headers={"Cookie": f"session={session}"})

        other = await opened(witness)
        found: list[float | None] = []
        for number, session in enumerate(sessions):
            way = await opened(session)
            await way.send(json.dumps({"type": "ping"}))
            await asyncio.wait_for(way.recv(), 10)
            await asyncio.to_thread(end, number, site)
            began = time.monotonic()
            try:
                async with asyncio.timeout(10):
                    await way.wait_closed()
                found.append(time.monotonic() - began if way.close_code == 4003 else None)
            except TimeoutError:
                found.append(None)
            with contextlib.suppress(Exception):
                await way.close()
        await other.send(json.dumps({"type": "ping"}))
        kept = json.loads(await asyncio.wait_for(other.recv(), 10)) == {"type": "pong"}
        await other.close()
        return found, kept

    with place.site(**UNLIMITED) as site:
        times, kept = asyncio.run(watched(site))
    closed = [t for t in times if t is not None and t <= 5]
    took = [(way, seconds) for way, seconds in zip(ways, times, strict=True) if seconds is not None]
    slowest = {name: round(max((s for way, s in took if way == name), default=-1), 2) for name in set(ways)}
    return {"ok": len(closed) == len(ways) and kept, "sockets": len(ways), "closed_in_5_s": len(closed),
            "slowest_s": slowest, "others_kept": kept}  # fmt: skip


# -- A1

HEADERS: Final = {
    "strict-transport-security": r"max-age=31536000",
    "content-security-policy": r"default-src 'none'.*frame-ancestors 'none'|frame-ancestors 'none'.*default-src 'none'",
    "x-content-type-options": r"nosniff",
    "referrer-policy": r"same-origin",
    "cross-origin-opener-policy": r"same-origin",
}
FORBIDDEN: Final = r"unsafe-inline|unsafe-eval"


def production(place: Place) -> dict[str, str]:
    """The environment of a site that is reached by https, behind a proxy that ends TLS."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HSVM_")}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "HSVM_RUN_DIR": str(place.run_dir),
        "HSVM_TLS": "1",
        "HSVM_BEHIND_PROXY": "1",
        "HSVM_PORT": str(place.port),
        "HSVM_HOSTS": "vpms.example.org",
        "HSVM_ORIGINS": "https://vpms.example.org",
        "HSVM_SECRET_KEY": os.urandom(48).hex(),
        "HSVM_REDIS": place.redis_url,
        "HSVM_MAIL": "smtp+tls://u:p@mail.example.org:587",
    }


@contextlib.contextmanager
def https_site(place: Place) -> Iterator[None]:
    """One web process under production settings; Redis is away, as it may be."""
    log = (place.run_dir / "web.log").open("w")
    child = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--host", "127.0.0.1", "--port", str(place.port),
         "--ws", "websockets-sansio", "--no-access-log", "--log-level", "warning"],
        cwd=ROOT, env=production(place), stdout=log, stderr=log,
    )  # fmt: skip
    try:
        until(
            lambda: asyncio.run(exchange(place.port, https("GET", "/healthz"), ends=False)).status == 200, 90, "start"
        )
        yield
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
        log.close()


def https(method: str, path: str, **more: Any) -> bytes:
    raw = request(method, path, X_Forwarded_Proto="https", Origin="https://vpms.example.org",
                  Referer="https://vpms.example.org/", **more)  # fmt: skip
    return raw.replace(b"Host: 127.0.0.1", b"Host: vpms.example.org").replace(b"csrf=", b"__Host-csrf=", 1)


def settings_and_headers(place: Place) -> dict[str, Any]:
    """`check --deploy`, the headers and cookies of every route's answer, and how soon failed sign-ins are held back."""
    place.port = free_port()
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=production(place), check=True, timeout=200, capture_output=True)
    checked = subprocess.run([sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], cwd=ROOT,
                             env=production(place), capture_output=True, text=True, timeout=100)  # fmt: skip
    os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
    os.environ.update({name: value for name, value in production(place).items() if name.startswith("HSVM_")})
    import django

    django.setup()
    from tests.web.test_isolation import filled, our_routes

    paths = [filled(route, 1) for route in our_routes()] + ["/no/such/page", "/static/none.css", "/api/none"]
    wrong: list[str] = []
    cookies: Counter[str] = Counter()
    count = 0
    with https_site(place):
        for path in paths[:: 1 if not place.few else 20]:
            for method in ("GET", "POST"):
                answer = asyncio.run(whole(place.port, https(method, path)))
                count += 1
                wrong += judged(method, path, answer, cookies)
        wrong += judged("GARBAGE", "", asyncio.run(whole(place.port, https("GET", "/" + "a" * 9000))), cookies)
        tries = held_back(place)
    ok = checked.returncode == 0 and not wrong and tries is not None and tries <= 10
    return {"ok": ok, "check_deploy": checked.returncode, "said": checked.stderr.strip()[-300:], "answers": count,
            "wrong": len(wrong), "found": wrong[:8], "cookies": dict(cookies), "held_back_after": tries}  # fmt: skip


async def whole(port: int, raw: bytes) -> bytes:
    """The answer with its head."""
    told = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(raw)
            while data := await reader.read(1 << 16):
                told += data
            writer.close()
    return told


def judged(method: str, path: str, answer: bytes, cookies: Counter[str]) -> list[str]:
    """What is missing in this answer's headers and cookies."""
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    lines = [line.partition(":") for line in head.split("\r\n")[1:]]
    named = {name.strip().lower(): value.strip() for name, _, value in lines}
    status = head[9:12]
    alone = path == "/readyz" and status == "503"  # as it must be: no worker and no keeper runs here
    if not head or (status >= "500" and not alone):
        return [f"{method} {path}: answered {status or 'nothing'}"]
    found = [f"{method} {path} ({status}): {name} is {named.get(name)!r}" for name, pattern in HEADERS.items()
             if not re.search(pattern, named.get(name, ""))]  # fmt: skip
    if re.search(FORBIDDEN, named.get("content-security-policy", "")) or "access-control-allow-origin" in named:
        found.append(f"{method} {path}: {named.get('content-security-policy')}")
    for name, _, value in lines:
        if name.lower() == "set-cookie":
            cookie = value.strip()
            cookies[cookie.partition("=")[0]] += 1
            good = cookie.startswith("__Host-") and all(
                word in cookie.lower() for word in ("secure", "httponly", "samesite=lax", "path=/")
            )
            gone = "expires=thu, 01 jan 1970" in cookie.lower()
            found += [] if good or gone else [f"{method} {path}: cookie {cookie[:120]}"]
    return found


def held_back(place: Place) -> int | None:
    """After how many failed sign-ins the next is answered with 429."""
    for number in range(1, 16):
        body = b"username=mira&password=not+the+password"
        raw = https("POST", "/sign-in/", body=body, kind="application/x-www-form-urlencoded")
        if asyncio.run(exchange(place.port, raw, ends=False, seconds=30)).status == 429:
            return number - 1
    return None


# -- I3


def turns_and_quotas(place: Place) -> dict[str, Any]:
    """A run of beta's waits while alpha has a thousand due, and as long when nothing else is. Then 50 starts at once
    where seven are allowed."""
    place.django()
    from django.conf import settings

    from webapp.runs.models import Run

    own = place.count(5, 2)
    cast, made = stack.many_hosts(4 * own)
    betas = [stack.run_on(h, vm, seed=n, slices=1, drills=False).pk for n, (h, vm) in enumerate(made) if n % 2]
    others = crowd_of(cast, place.count(1000, 40))
    asking = many_vms(cast, 50)
    session = stack.session_of(cast.alice)
    with place.site(**{**UNLIMITED, "HSVM_SLOWER": "1", "HSVM_TENANT_STARTS": str(ALLOWED)}) as site:
        time.sleep(3)
        idle = [waited(pk) for pk in betas[:own]]
        due_now(Run.objects.filter(pk__in=others))
        done = Run.objects.filter(pk__in=others, slice_no__gte=1)
        until(lambda: done.count() >= 2, 60, "alpha's first slices")
        busy = [waited(pk) for pk in betas[own:]]
        left = len(others) - done.count()
        quota = starts_at_once(site, session, asking) if hasattr(settings, "TENANT_STARTS") else None
    median = [sorted(times)[len(times) // 2] for times in (idle, busy)]
    ratio = median[1] / median[0]
    found = {"queued": len(others), "still_queued": left, "idle_s": idle, "busy_s": busy, "ratio": round(ratio, 2)}
    exact = quota is not None and quota["accepted"] == ALLOWED and quota["other"] == 0
    return {"ok": ratio <= 2 and left > 0 and exact, **found, "quota": quota or "this version has none"}


ALLOWED: Final = 7  # starts of an organisation at once


def due_now(rows: Any) -> None:
    from django.utils import timezone

    rows.update(due_at=timezone.now())


def waited(pk: int) -> float:
    """Seconds from when the run is due until its first slice is done; 60 if it is not by then."""
    from webapp.runs.models import Run

    due_now(Run.objects.filter(pk=pk))
    took = within(lambda: Run.objects.filter(pk=pk, slice_no__gte=1).exists(), 60)
    return 60.0 if took is None else round(took, 2)


def many_vms(cast: Any, count: int) -> list[str]:
    """So many VMs of alpha's with wishes and a place, none started."""
    from tests.conftest import QUICK, wishes
    from webapp.fleet.services import placement_set
    from webapp.tenants.services import policy_save, vm_create

    names = [f"q{number:02}" for number in range(count)]
    for name in names:
        vm = vm_create(by=cast.alice, tenant=cast.alpha, name=name, trace="gzip")
        policy_save(by=cast.alice, vm=vm, document=wishes(QUICK, vm=name, tenant="alpha"))
        placement_set(by=cast.alice, vm=vm, host=cast.h1)
    return names


def starts_at_once(site: Site, session: str, names: list[str]) -> dict[str, int]:
    """Every VM is asked to start at the same moment, while nothing is worked off: accepted, refused, and the rest."""
    still = [site.process_of(name) for name in ("keeper", "worker")]

    async def submit() -> list[Answer]:
        raws = [request("POST", f"/api/vms/{name}/start", cookie=session, body=b"{}") for name in names]
        return await asyncio.gather(*(exchange(site.port, raw, ends=False, seconds=60) for raw in raws))

    for process in still:
        process.suspend()
    try:
        statuses = Counter(answer.status for answer in asyncio.run(submit()))
    finally:
        for process in still:
            process.resume()
    accepted = sum(count for status, count in statuses.items() if 200 <= status < 300)
    return {"at_once": len(names), "allowed": ALLOWED, "accepted": accepted, "refused": statuses[429],
            "other": len(names) - accepted - statuses[429]}  # fmt: skip


def crowd_of(cast: Any, count: int) -> list[int]:
    """So many runs of alpha's, each on a host of its own, none due."""
    from tests.conftest import HOST
    from webapp.fleet.models import Host, Placement
    from webapp.tenants.models import VirtualMachine

    hosts = Host.objects.bulk_create(
        [copy_of(cast.h1, name=f"x{n:04}", document={**HOST, "host": f"x{n:04}"}) for n in range(count)]
    )
    vms = VirtualMachine.objects.bulk_create([copy_of(cast.a_db, name=f"xv{n:04}") for n in range(count)])
    Placement.objects.bulk_create([Placement(vm=vm, host=host) for vm, host in zip(vms, hosts, strict=True)])
    return [
        stack.run_on(host, vm, seed=n, slices=1, accesses=400_000, drills=False).pk
        for n, (host, vm) in enumerate(zip(hosts, vms, strict=True))
    ]


def copy_of(row: Any, **changed: Any) -> Any:
    """An unsaved row like this one."""
    fields = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields if not f.primary_key}
    return type(row)(**{**fields, **changed})
