"""Sixty students in one class on the real product, one web process and one worker: prints one JSON object.

- `follow_p95_ms`: from the teacher's click to the stage at each student's socket, over `steps` steps shown.
- `graded_60_s`: 60 attack files are handed in within ten seconds; from the first of them until the last is graded
  (`handed_in_s`: how long handing in took; `graded_once`: whether each student has one mark from one attempt).
- `lost`, `doubled`: of 60 more files whose worker is killed (kill -9) while it grades: attempts that were never graded,
  and students with more attempts or marks than they handed in; `after_kill_s`: until the last was graded.
- `reload_lost`: students whose page forgot their answer, or where the class stands, when it was loaded again.
- `joined_s`: until 60 guests had joined by the code; `load`: the machine's load average before.

Milliseconds and seconds are of the wall clock, one machine, the students' own work on it included.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import requests
import websockets

ROOT = Path(__file__).resolve().parent.parent
STUDENTS, STEPS, AT_ONCE = 60, 20, 12
LESSON, LAB = "stale-tlb-entries", "read-the-secret"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Person:
    """One browser: cookies, the token of its forms, and a socket."""

    def __init__(self, url: str, name: str) -> None:
        self.url, self.name, self.web = url, name, requests.Session()
        self.heard: dict[int, float] = {}  # by the number of a stage: when it came

    def page(self, path: str) -> str:
        answer = self.web.get(self.url + path, timeout=120)
        assert answer.ok, (self.name, path, answer.status_code)
        return answer.text

    def post(self, path: str, form: str, **fields: Any) -> requests.Response:
        """Post as the form on the page `form` would."""
        token = TOKEN.search(self.page(form))
        assert token, (self.name, form)
        fields["csrfmiddlewaretoken"] = token[1]
        return self.web.post(self.url + path, data=fields, timeout=120)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-CSRFToken": self.web.cookies.get(self.csrf) or "", "Referer": self.url + "/"}
        answer = self.web.request(method, self.url + path, json=body, headers=headers, timeout=120)
        assert answer.ok, (self.name, path, answer.status_code, answer.text[:300])
        return answer.json() if answer.content else None

    @property
    def csrf(self) -> str:
        return next(name for name in self.web.cookies if "csrf" in name)

    async def listen(self, topic: str, ready: asyncio.Event) -> None:
        cookies = "; ".join(f"{name}={value}" for name, value in self.web.cookies.items())
        address = self.url.replace("http", "ws") + "/ws/"
        async with websockets.connect(
            address, additional_headers={"Cookie": cookies}, origin=self.url, max_size=2**22
        ) as socket:
            await socket.send(json.dumps({"type": "subscribe", "topic": topic, "last": None}))
            async for text in socket:
                told = json.loads(text)
                if told.get("topic") == topic and "seq" in told and told.get("kind") == "keyframe":
                    self.heard.setdefault(told["seq"], time.monotonic())
                    ready.set()


def p95(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1)


def everybody(people: list[Person], act: Callable[[Person], Any]) -> list[Any]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, people))


def django_at(run_dir: Path) -> None:
    os.environ.update(HSVM_RUN_DIR=str(run_dir), HSVM_TLS="0", DJANGO_SETTINGS_MODULE="webapp.settings")
    os.environ.setdefault("HSVM_LOG", "ERROR")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    import django

    django.setup()


def prepared(demo: Any) -> tuple[Person, str, int, int]:
    """The teacher at the desk of a class with a lesson and a lab: who, code, lesson and lab."""
    from tests.e2e.stack import PASSWORD

    teacher = Person(demo.url, "ines")
    teacher.post("/sign-in/", "/sign-in/", login="ines", username="ines", password=PASSWORD)
    at = teacher.post(f"/learn/lessons/{LESSON}/class/", f"/learn/lessons/{LESSON}/").url
    found = re.search(r"/learn/class/(\w+)/desk/", at)
    assert found, at
    desk = teacher.call("GET", f"/api/classes/{found[1]}/desk")
    lab = teacher.call("POST", f"/api/courses/{desk['course']}/items", {"kind": "attack", "name": LAB})["id"]
    teacher.call("POST", f"/api/courses/items/{lab}/place", {"shown": True})
    return teacher, found[1], desk["cursor"]["item"], lab


def follow(teacher: Person, students: list[Person], code: str, lesson: int) -> list[float]:
    """Milliseconds from each of the teacher's steps to each student's screen."""

    async def watched() -> list[float]:
        ready = [asyncio.Event() for _ in students]
        topic = f"class/{code}"
        tasks = [asyncio.create_task(each.listen(topic, event)) for each, event in zip(students, ready, strict=True)]
        await asyncio.wait_for(asyncio.gather(*(event.wait() for event in ready)), 60)
        begun: list[float] = []
        before = max(max(each.heard) for each in students)
        for step in range(STEPS):
            cursor = {"kind": "view", "item": lesson, "view": 1, "step": step % 5}
            begun.append(time.monotonic())
            await asyncio.to_thread(teacher.call, "POST", f"/api/classes/{code}/cursor", cursor)
            await asyncio.sleep(0.5)
        await asyncio.sleep(2)
        for task in tasks:
            task.cancel()
        delays = []
        for number, start in enumerate(begun, 1):
            for each in students:
                came = [at for seq, at in each.heard.items() if seq >= before + number and at >= start]
                delays.append(1000 * (min(came) - start) if came else float("inf"))
        return delays

    return asyncio.run(watched())


def predict(teacher: Person, students: list[Person], code: str, lesson: int) -> int:
    """Every question of the lesson is asked, answered by all and revealed; students whose page forgot it."""
    forgot = 0
    for number, question in enumerate(questions(lesson)):
        teacher.call("POST", f"/api/classes/{code}/question", {"item": lesson, "key": question.key})
        names = [choice.name for choice in question.choices]
        chosen = {each.name: names[(index + number) % len(names)] for index, each in enumerate(students)}

        def answer(each: Person, chosen: dict[str, str] = chosen) -> bool:
            each.call("POST", f"/api/classes/{code}/answers", {"choice": chosen[each.name]})
            again = each.call("GET", f"/api/classes/{code}")
            return bool(again["chosen"] == chosen[each.name])

        forgot += everybody(students, answer).count(False)
        told = teacher.call("POST", f"/api/classes/{code}/reveal")
        assert sum(told["counts"].values()) == len(students), told["counts"]
        everybody(
            students,
            lambda each, key=question.key, chosen=chosen: each.call(  # type: ignore[misc]
                "POST", f"/api/courses/items/{lesson}/answers", {"question": key, "choice": chosen[each.name]}
            ),
        )
    return forgot


def questions(lesson: int) -> list[Any]:
    from webapp.courses import lessons
    from webapp.courses.models import Item

    return list(lessons.known(Item.objects.get(pk=lesson).text).questions.values())


def solution() -> str:
    from tests.web.lab import MODELS
    from webapp.courses import lab

    return MODELS[LAB](lab.read(dict(lab.shipped())[LAB]).starter)


def hand_in(students: list[Person], lab: int, text: str, *, graded: bool, seed: int = 0) -> float:
    """Seconds that it took for all to hand the file in."""
    body = {"text": text, "graded": graded} if graded else {"text": text, "seed": seed}
    begun = time.monotonic()
    everybody(students, lambda each: each.call("POST", f"/api/items/{lab}/lab/attempts", body))
    return time.monotonic() - begun


def all_graded(lab: int, *, graded: bool, seconds: float = 120) -> bool:
    from webapp.courses.models import Attempt

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rows = Attempt.objects.filter(item=lab, graded=graded)
        if rows.count() >= STUDENTS and not rows.filter(state=Attempt.State.WAITING).exists():
            return True
        time.sleep(0.1)
    return False


def graded_once(lab: int) -> bool:
    """Each student has one attempt that was handed in, done, and one mark made from it."""
    from django.db.models import Count

    from webapp.courses.models import Attempt, Mark

    rows = Attempt.objects.filter(item=lab, graded=True)
    each = rows.order_by().values("member").annotate(n=Count("id"))
    marks = Mark.objects.filter(item=lab)
    done = rows.filter(state=Attempt.State.DONE).count()
    return done == marks.count() == STUDENTS and all(row["n"] == 1 for row in each)


def killed(demo: Any, students: list[Person], lab: int, text: str) -> dict[str, Any]:
    """60 practice runs; the worker is killed as soon as some are graded and others are not."""
    from webapp.courses.models import Attempt

    rows = Attempt.objects.filter(item=lab, graded=False)
    with ThreadPoolExecutor(1) as pool:
        handed = pool.submit(hand_in, students, lab, text, graded=False, seed=11)
        while rows.filter(state=Attempt.State.DONE).count() < 5:
            time.sleep(0.02)
        for process in demo.worker_processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        killed_at, left = time.monotonic(), rows.filter(state=Attempt.State.WAITING).count()
        handed.result()
    over = all_graded(lab, graded=False)
    per = {member: rows.filter(member=member).count() for member in rows.values_list("member", flat=True)}
    return {
        "lost": STUDENTS - rows.filter(state=Attempt.State.DONE).count(),
        "doubled": sum(count - 1 for count in per.values()),
        "waiting_at_kill": left,
        "after_kill_s": round(time.monotonic() - killed_at, 1) if over else None,
    }


def measure() -> dict[str, Any]:
    from tests.e2e.stack import running

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place, running(Path(place) / "run", HSVM_API_CALLS_PER_MINUTE="0") as demo:
        django_at(demo.run_dir)
        teacher, code, lesson, lab = prepared(demo)
        begun = time.monotonic()
        students = [Person(demo.url, f"student {number}") for number in range(STUDENTS)]
        everybody(students, lambda each: each.post("/join/", "/join/", code=code, nickname=each.name))
        joined = time.monotonic() - begun
        delays = follow(teacher, students, code, lesson)
        forgot = predict(teacher, students, code, lesson)
        text = solution()
        started = time.monotonic()
        took = hand_in(students, lab, text, graded=True)
        over = all_graded(lab, graded=True)
        graded = time.monotonic() - started
        once = graded_once(lab)
        reloaded = everybody(students, lambda each: each.name in each.page(f"/learn/class/{code}/"))
        return {
            "students": STUDENTS,
            "follow_p95_ms": p95(delays),
            "follow_median_ms": round(statistics.median(delays), 1),
            "graded_60_s": round(graded, 1) if over else None,
            **killed(demo, students, lab, text),
            "handed_in_s": round(took, 1),
            "graded_once": once,
            "reload_lost": forgot + reloaded.count(False),
            "joined_s": round(joined, 1),
            "steps": STEPS,
            "load": round(load, 1),
        }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(measure()))
