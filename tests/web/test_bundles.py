"""Courses as files: what goes out comes in again and holds nobody; hostile archives are refused whole and at once."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.lab import Class, make_class, work_all
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.courses import archives, bundles, kinds, lab, services
from webapp.courses.models import Course, Item
from webapp.errors import BadInput, VpmsError

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 10, 5, 21, 59, tzinfo=dt.UTC)


@pytest.fixture
def room(cast: Cast) -> Class:
    """A course with an item of every kind that ships or has a blank, due dates, late rules, and a student's work."""
    room = make_class()
    for kind in kinds.kinds():
        text = next((each.text for each in kind.shipped("en")), kind.blank)
        services.item_add(
            by=room.ines, course=room.course, kind=kind.name, title=f"Ünï {kind.name} «1»", text=text, points=7
        )
    rows = list(Item.objects.filter(course=room.course))
    for number, row in enumerate(rows):
        Item.objects.filter(pk=row.pk).update(
            due_at=NOW + dt.timedelta(days=7 * number), late="daily", late_percent=25, shown=True
        )
    Item.objects.filter(pk=rows[1].pk).update(due_at=None, visible_from=NOW)
    Item.objects.filter(pk=rows[0].pk).update(tries=3, accepted_until=NOW + dt.timedelta(days=2))
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    work_all()
    return room


def exported(room: Class) -> bytes:
    return bundles.exported(by=room.ines, course=room.course)


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


# -- out and in


def test_a_course_goes_out_comes_in_and_goes_out_the_same(room: Class) -> None:
    raw = exported(room)
    assert raw == exported(room)
    made = bundles.imported(by=room.ines, raw=raw, first=dt.datetime(2027, 3, 1, tzinfo=dt.UTC))
    assert bundles.exported(by=room.ines, course=made) == raw
    mine, theirs = (list(Item.objects.filter(course=course)) for course in (room.course, made))
    for one, other in zip(mine, theirs, strict=True):
        for name in ("kind", "title", "text", "points", "tries", "late", "late_percent"):
            assert getattr(one, name) == getattr(other, name), name
        assert not other.shown
    assert [row.due_at for row in theirs][:3] == [
        dt.datetime(2027, 3, 1, tzinfo=dt.UTC),
        None,
        dt.datetime(2027, 3, 15, tzinfo=dt.UTC),
    ]
    assert made.members.get().user == room.ines


def test_nobodys_name_work_mark_or_seed_is_in_a_bundle(room: Class) -> None:
    with zipfile.ZipFile(io.BytesIO(exported(room))) as archive:
        names = archive.namelist()
        whole = b"".join(archive.read(name) for name in names).decode()
        assert {info.date_time for info in archive.infolist()} == {archives.EPOCH}
    for word in ("ines", "stu", "mia", str(room.member.seed), str(room.other.seed)):
        assert f'"{word}"' not in whole, word
    assert room.solution not in whole and "offset: 2048" not in whole
    assert names[0] == "course.json" and len(names) == 1 + Item.objects.filter(course=room.course).count()
    facts = json.loads(whole[: whole.index("\n}\n") + 3])
    assert set(facts) == {"schema", "title", "summary", "items"}
    assert set(facts["items"][0]) == {"file", "sha256", "kind", "title", *bundles.SETTINGS, *bundles.DATES}


def test_a_bundle_without_a_date_begins_in_two_weeks(room: Class) -> None:
    made = bundles.imported(by=room.ines, raw=exported(room))
    first = min(row.due_at for row in Item.objects.filter(course=made) if row.due_at)
    assert dt.timedelta(days=13, hours=22) < first - timezone.now() <= dt.timedelta(days=14)


def test_only_a_teacher_of_the_course_takes_it_away_and_only_teachers_bring_one(cast: Cast, room: Class) -> None:
    other = User.objects.create(username="otto")
    from webapp.tenants.services import membership_add

    membership_add(by=None, user=other, role="teacher")
    at = f"/learn/courses/{room.course.pk}/bundle.zip"
    assert as_(room.ines).get(at).status_code == 200
    assert as_(other).get(at).status_code == 404 and as_(room.stu).get(at).status_code == 403
    assert as_(other).get(f"/api/courses/{room.course.pk}/bundle").status_code == 404
    assert as_(room.stu).get(f"/api/courses/{room.course.pk}/bundle").status_code == 403
    assert as_(cast.alice).get(f"/api/courses/{room.course.pk}/bundle").status_code == 404
    with pytest.raises(VpmsError, match="Only a teacher"):
        bundles.imported(by=room.stu, raw=exported(room))
    assert Course.objects.count() == 1


def test_a_course_comes_in_by_the_page_and_a_refusal_says_what_is_wrong(room: Class) -> None:
    client, raw = as_(room.ines), exported(room)
    page = client.get("/learn/courses/bundle/").content.decode()
    assert 'enctype="multipart/form-data"' in page

    def send(raw: bytes, first: str = "") -> Any:
        return client.post("/learn/courses/bundle/", {"file": SimpleUploadedFile("c.zip", raw), "first": first})

    made = send(raw, "2027-03-01")
    assert made.status_code == 302 and Item.objects.filter(course=Course.objects.first())[0].due_at.day == 1
    assert Entry.objects.filter(type="course.imported").count() == 1
    for raw_, first, told in (
        (b"", "", "choose a file"),
        (b"%PDF", "", "is no zip archive"),
        (raw, "soon", "Must be a date"),
        (changed(raw, lambda facts: facts.update(tenant="alpha")), "", "course.json, line 2, column 12"),
    ):
        answer = send(raw_, first)
        assert answer.status_code == 422 and told in answer.content.decode(), (told, answer.content.decode())
    assert Course.objects.count() == 2


def test_a_course_goes_and_comes_by_api(room: Class) -> None:
    client = as_(room.ines)
    raw = client.get(f"/api/courses/{room.course.pk}/bundle").content
    made = client.post("/api/course-bundles?first=2027-03-01", raw, content_type="application/octet-stream")
    assert made.status_code == 201 and made.json()["teaches"]
    assert client.get(f"/api/courses/{made.json()['id']}/bundle").content == raw
    bad = client.post("/api/course-bundles", b"PK", content_type="application/octet-stream")
    assert bad.status_code == 422 and bad.json()["faults"] == [{"path": "$.file", "reason": "is no zip archive"}]
    long = client.post("/api/course-bundles", b"PK\3\4" + bytes(6 << 20), content_type="application/octet-stream")
    assert long.status_code == 422 and "5 MiB" in long.json()["message"]


# -- hostile archives


def packed(members: list[tuple[Any, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive as any program writes it; a name may be a ZipInfo."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, data, method)
    return out.getvalue()


LESSON = (Path(kinds.__file__).parent / "blanks" / "lesson.md").read_bytes()


def manifest(*files: tuple[str, bytes], **more: Any) -> bytes:
    rows = [
        {
            "file": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "kind": "lesson",
            "title": "L",
            "points": 0,
            "tries": 0,
        }
        | dict.fromkeys(bundles.DATES)
        | {"late": "full", "late_percent": 0}
        for name, data in files
    ]
    return json.dumps({"schema": bundles.SCHEMA, "title": "T", "summary": "", "items": rows, **more}, indent=1).encode()


def small(*extra: tuple[Any, bytes], data: bytes | None = None) -> bytes:
    lesson = ("items/a.md", LESSON if data is None else data)
    return packed([("course.json", manifest(lesson)), lesson, *extra])


def changed(raw: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    facts = json.loads(members["course.json"])
    change(facts)
    facts = {name: facts[name] for name in sorted(facts, key=lambda name: name != "tenant")}
    return packed([("course.json", json.dumps(facts, indent=1).encode()), *list(members.items())[1:]])


def patched(raw: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in raw and len(old) == len(new)
    return raw.replace(old, new, count)


def named(name: str) -> bytes:
    """An archive with a second member of this name, in both lists: Python's own writer would mend it."""
    placeholder = "q" * len(name.encode())
    return patched(small((placeholder, b"x")), placeholder.encode(), name.encode())


def central_of(raw: bytes, number: int) -> int:
    """Where the entry of a member in the list at the end begins."""
    at = struct.unpack("<I", raw[-6:-2])[0]
    for _ in range(number):
        at += 46 + sum(struct.unpack("<3H", raw[at + 28 : at + 34]))
    return at


def central(raw: bytes, number: int, field: int, form: str, value: int) -> bytes:
    """One field of the list at the end, written over."""
    at = central_of(raw, number) + field
    return raw[:at] + struct.pack(form, value) + raw[at + struct.calcsize(form) :]


def both(raw: bytes, number: int, field: int, local: int, value: int) -> bytes:
    """A 16-bit field in both lists."""
    at = struct.unpack("<I", raw[central_of(raw, number) + 42 :][:4])[0] + local
    raw = raw[:at] + struct.pack("<H", value) + raw[at + 2 :]
    return central(raw, number, field, "<H", value)


def symlink() -> bytes:
    info = zipfile.ZipInfo("items/link.md")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return small((info, b"/etc/passwd"))


def lying_bomb() -> bytes:
    """A member that says it holds 10 bytes and holds 60 MiB."""
    raw = small(("items/b.md", bytes(60 << 20)))
    return central(raw, 2, 24, "<I", 10)


def overlapping() -> bytes:
    """Ninety entries that all lead to the same bytes: a bomb without one big member."""
    inner = zlib.compress(bytes(200 << 10), 9)[2:-4]
    name = "items/{:02}.md"
    local = struct.pack(
        "<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, zlib.crc32(bytes(200 << 10)), len(inner), 200 << 10, 11, 0
    )
    raw = local + name.format(0).encode() + inner
    entries = b"".join(
        struct.pack(
            "<4s6H3I5H2I",
            b"PK\1\2",
            20,
            20,
            0,
            8,
            0,
            33,
            zlib.crc32(bytes(200 << 10)),
            len(inner),
            200 << 10,
            11,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        + name.format(number).encode()
        for number in range(90)
    )
    return raw + entries + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 90, 90, len(entries), len(raw), 0)


def nested() -> bytes:
    inner = packed([("items/x.md", bytes(40 << 20))])
    return small(data=packed([("one.zip", inner), ("two.zip", inner)], zipfile.ZIP_STORED))


def many() -> bytes:
    return small(*[(f"items/{number}.md", b"") for number in range(99)])


def few_said() -> bytes:
    """A list of 60,000 members whose end says that there are two."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    entries = entry * 60_000
    return b"PK\3\4" + bytes(40) + entries + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(entries), 44, 0)


def spread() -> bytes:
    """Each member within its bound, all of them too much."""
    return small(*[(f"items/{number}.md", bytes(600 << 10)) for number in range(90)])


def bad_lesson(text: bytes) -> bytes:
    return small(data=text)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "too large": (lambda: b"PK\3\4" + bytes(5 << 20), "is larger than 5 MiB"),
    "no zip": (lambda: b"<html>", "is no zip archive"),
    "rar": (lambda: b"Rar!\x1a\7" + bytes(99), "is no zip archive"),
    "empty zip": (lambda: packed([]), "is no zip archive"),
    "cut off": (lambda: small()[:-5], "is no whole zip archive"),
    "something after": (lambda: small() + b"#!/bin/sh", "is no whole zip archive"),
    "something before": (lambda: b"#!/bin/sh\n" + small(), "is no zip archive"),
    "too many": (many, "has more than 100 members"),
    "many, and the end says few": (few_said, "has more than 100 members"),
    "bomb": (lambda: small(("items/b.md", bytes(60 << 20))), "unpacks to more than 50 MiB"),
    "bomb that says it is small": (lying_bomb, "unpacks to more than 50 MiB"),
    "bomb of many": (spread, "is longer than 256 KiB"),
    "nested bomb": (nested, "items/a.md: "),
    "overlapping": (overlapping, "has members that overlap"),
    "size that lies": (lambda: central(small(), 1, 24, "<I", 7), "has a damaged member"),
    "digest of the archive lies": (lambda: central(small(), 1, 16, "<I", 7), "has a damaged member"),
    "packed size beyond": (lambda: central(small(), 1, 20, "<I", 1 << 30), "has members that overlap"),
    "long member": (lambda: small(("items/b.md", bytes(300 << 10))), "is longer than 256 KiB"),
    "absolute": (lambda: named("/etc/passwd"), "leads elsewhere"),
    "upwards": (lambda: named("items/../../x"), "leads elsewhere"),
    "backslash": (lambda: named("items\\x.md"), "leads elsewhere"),
    "drive": (lambda: named("C:x.md"), "leads elsewhere"),
    "nul": (lambda: named("items/x\0.md"), "leads elsewhere"),
    "newline": (lambda: named("items/x\n.md"), "leads elsewhere"),
    "right to left": (lambda: named("items/x‮dm."), "leads elsewhere"),
    "dot": (lambda: named("items/./x"), "leads elsewhere"),
    "trailing dot": (lambda: named("items/x.md."), "leads elsewhere"),
    "not utf-8": (lambda: patched(small(("qqqq", b"x")), b"qqqq", b"\xff\xfe\xfdq"), "whose name is no text"),
    "twice": (lambda: patched(small(("items/b.md", LESSON)), b"items/b.md", b"items/a.md"), "two members of one name"),
    "case": (lambda: named("items/A.md"), "two members of one name"),
    "file and folder": (lambda: named("items/a.md/x"), "is a file and a folder"),
    "symlink": (symlink, "is no plain file"),
    "encrypted": (lambda: both(small(), 1, 8, 6, 1), "has an encrypted member"),
    "other method": (lambda: both(small(), 1, 10, 8, 14), "packed in a way that is not read"),
    "two names of one member": (lambda: patched(small(), b"items/a.md", b"items/b.md", 1), "says two different things"),
    "no manifest": (lambda: packed([("items/a.md", LESSON)]), "holds no course.json"),
    "unnamed file": (lambda: small(("items/b.md", LESSON)), "that course.json does not name"),
    "named file is missing": (
        lambda: packed([("course.json", manifest(("items/a.md", LESSON)))]),
        "does not hold a file that course.json names",
    ),
    "named twice": (
        lambda: packed([("course.json", manifest(*[("items/a.md", LESSON)] * 2)), ("items/a.md", LESSON)]),
        "names a file twice",
    ),
    "digest lies": (
        lambda: packed([("course.json", manifest(("items/a.md", b"else"))), ("items/a.md", LESSON)]),
        "another digest than course.json says",
    ),
    "name that leads out of items": (
        lambda: packed([("course.json", manifest(("course.json", b"")))]),
        "must be the name of a file in items/",
    ),
    "unknown key": (
        lambda: packed([("course.json", manifest(tenant="alpha"))]),
        "course.json, line 6, column 12: tenant",
    ),
    "a foreign course": (
        lambda: packed(
            [
                ("course.json", manifest(("items/a.md", LESSON)).replace(b'"kind"', b'"course": 7, "kind"')),
                ("items/a.md", LESSON),
            ]
        ),
        "course.json, line 9, column 14: items[0].course",
    ),
    "key twice": (
        lambda: packed([("course.json", manifest().replace(b'"title"', b'"schema": "x", "title"'))]),
        "'schema' is given twice",
    ),
    "manifest is no text": (lambda: packed([("course.json", b"\xff\xfe")]), "course.json: is no text"),
    "manifest of aliases": (
        lambda: packed([("course.json", b"a: &a [x]\nb: [*a, *a]")]),
        "anchors and tags are not allowed",
    ),
    "manifest too deep": (lambda: packed([("course.json", b"[" * 5000)]), "is nested deeper"),
    "unknown kind": (
        lambda: packed(
            [("course.json", manifest(("items/a.md", b"x")).replace(b'"lesson"', b'"shell"')), ("items/a.md", b"x")]
        ),
        "is no kind of item",
    ),
    "bad front matter": (
        lambda: bad_lesson(LESSON.replace(b"minutes: 10", b"minutes: ten")),
        "items/a.md, line 5, column 10",
    ),
    "bad yaml": (lambda: bad_lesson(LESSON.replace(b"minutes: 10", b"minutes: [10")), "items/a.md, line"),
    "bad markdown": (lambda: bad_lesson(LESSON + b"\n![x](http://x/y.png)\n"), "pictures are not allowed"),
    "html": (lambda: bad_lesson(LESSON + b"\n[x](javascript:alert(1))\n\n[y](http://y/)\n"), "a link must lead"),
    "item is no text": (lambda: bad_lesson(b"\xff" + LESSON), "items/a.md: is no text in UTF-8"),
    "item with nul": (lambda: bad_lesson(LESSON + b"\0"), "items/a.md: is no text in UTF-8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_whole_within_a_second_and_64_mib(cast: Cast, name: str) -> None:
    make, told = HOSTILE[name]
    raw = make()
    assert len(raw) < 7 << 20
    bundles.read(small())  # what is loaded once is loaded
    entries = Entry.objects.count()
    begin = time.process_time()
    with pytest.raises(BadInput) as refused:
        bundles.imported(by=cast.ines, raw=raw)
    took = time.process_time() - begin
    tracemalloc.start()
    with pytest.raises(BadInput):
        bundles.read(raw)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told in refused.value.message or told in refused.value.faults[0].reason, refused.value.message
    assert took < 1 and peak < 64 << 20, (took, peak)
    assert not Course.objects.exists() and Entry.objects.count() == entries


def test_an_archive_of_another_program_is_read(cast: Cast) -> None:
    """With folders, data descriptors, no compression, and times."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    out = Pipe()
    lesson = ("items/a.md", LESSON)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo("items/"), b"")
        archive.writestr("course.json", manifest(lesson), zipfile.ZIP_STORED)
        archive.writestr(*lesson, zipfile.ZIP_DEFLATED)
    assert bundles.imported(by=cast.ines, raw=out.getvalue()).items.get().kind == "lesson"


def test_a_fault_in_the_last_item_leaves_nothing(cast: Cast) -> None:
    good, bad = ("items/a.md", LESSON), ("items/b.md", LESSON.replace(b"right: b", b"right: c"))
    raw = packed([("course.json", manifest(good, bad)), good, bad])
    with pytest.raises(BadInput, match="items/b.md, line 19"):
        bundles.imported(by=cast.ines, raw=raw)
    assert not Course.objects.exists() and not Item.objects.exists()


# -- links


@pytest.mark.parametrize(
    "address",
    [
        "http://x.org/",
        "https://x",
        "https://u:p@x.org/",
        "https://u@x.org",
        "javascript:alert(1)",
        "//x.org/",
        "https://127.0.0.1/",
    ]
    + [
        "https://x.org\\@y.org/",
        "https://x.org/ y",
        "https://ex­ample.org/",
        "https://localhost/",
        "https://x.org:99999/",
        "https://[::1]/",
    ],
)
def test_a_link_leads_by_https_to_a_host_that_is_named(address: str) -> None:
    with pytest.raises(BadInput, match="line 2, column 10"):
        kinds.read("link", f"schema: vpms/link-1\naddress: {json.dumps(address, ensure_ascii=False)}\n")


def test_a_link_is_a_note_and_a_button_that_tells_the_other_side_nothing(room: Class) -> None:
    text = "schema: vpms/link-1\naddress: https://example.org/a?b=1\nnote: |\n  Read <b>this</b>.\n"
    item = services.item_add(by=room.ines, course=room.course, kind="link", title="Read", text=text, shown=True)
    page = as_(room.stu).get(f"/learn/items/{item.pk}/").content.decode()
    assert 'href="https://example.org/a?b=1" rel="noopener noreferrer nofollow"' in page
    assert "Open example.org" in page and "&lt;b&gt;this" in page
