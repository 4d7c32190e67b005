"""A teacher comes to a running class, from nothing and from an empty course, and a new student takes lessons 3 and 5,
with the keyboard alone.

.venv/bin/python -m tests.e2e.trial_class PLACE     # with a demo of its own; one JSON object, pictures in PLACE

Time is what must be read at 250 words a minute, 0.3 s a key, and the machine's own, as in trial.py. The teacher begins
at the first page after signing in, without a course, and is done when a student who came by the code sees what was
shown; the second time she makes the course herself, with a lesson and a lab in it, and sets when the lab is due. The
student's screen is 320 px wide; every question is answered, each view is stepped to its end.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import PASSWORD, running
from tests.e2e.trial import SECONDS_A_KEY, WORDS_A_MINUTE, Person

TARGET = 300
LESSONS = ("compromised-hypervisor", "stale-tlb-entries")


def report(person: Person, task: str) -> dict[str, Any]:
    machine = time.monotonic() - person.begun
    allowed = person.words / WORDS_A_MINUTE * 60 + person.keys * SECONDS_A_KEY
    return {
        "task": task,
        "actions": len(person.acts),
        "keys": person.keys,
        "words_read": person.words,
        "machine_seconds": round(machine, 1),
        "seconds": round(machine + allowed, 1),
        "ends": person.ends,
        "steps": person.acts,
    }


def entered(browser: Browser, url: str, who: str, width: int) -> Person:
    person = Person(browser, url, width)
    page = person.page
    page.goto("/sign-in/")
    page.get_by_label("Name").fill(who)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda address: "/sign-in/" not in address)
    return person


def to_a_running_class(browser: Browser, url: str, place: Path) -> dict[str, Any]:
    person = entered(browser, url, "ines", 1280)
    page = person.page
    person.begin()
    person.read("main h1", "nav.topbar-roles")
    person.goes("Learn", "", "**/learn/")
    person.read("main h1", "main .actions")
    person.skip()
    person.goes("Ten lessons", "", "**/learn/lessons/")
    person.read("main h1", ".lesson-row h2")
    person.skip()
    person.goes("3. The compromised", "", "**/learn/lessons/compromised-hypervisor/")
    person.read("main h1", "main .lead", "main .actions")
    person.skip()
    person.goes("Teach it to a class now", "", "**/desk/**")
    person.read("main h1", "main .lead", "main .actions", ".class-code", "#desk-now h2")
    shows_to_a_student(person, browser, url, "Show : A01", "#stage figure")
    page.screenshot(path=place / "desk.png", full_page=True)
    return report(person, "from nothing to a running class")


def shows_to_a_student(person: Person, browser: Browser, url: str, button: str, seen: str) -> None:
    """At the desk: a student comes in by the code, and what this button shows is on the student's screen."""
    code = person.page.locator("p.class-code").inner_text()
    student = Person(browser, url, 320)
    student.page.goto("/join/")
    student.page.get_by_label("Code").fill(code)
    student.page.get_by_label("Nickname").fill("Ada")
    student.page.get_by_role("button", name="Join").click()
    student.page.locator("#stage").wait_for()
    person.skip()
    person.tab_to(button)
    with person.page.expect_navigation():
        person.act("Enter", f"press {button!r}")
    student.page.locator(seen).first.wait_for()
    person.ends = f"class {code}; the student's stage shows: {student.page.locator(seen).first.inner_text()[:80]}"


def adds(person: Person, kind: str) -> None:
    """Put the first of what is shipped of this kind into the course."""
    page = person.page
    person.skip()
    person.tab_to(kind, "select")
    person.press("Tab")
    with page.expect_navigation():
        person.act("Enter", f"add: {kind}")
    person.read("main [role=status]")


def from_an_empty_course(browser: Browser, url: str, place: Path) -> dict[str, Any]:
    person = entered(browser, url, "ines", 1280)
    page = person.page
    person.begin()
    person.read("main h1", "nav.topbar-roles")
    person.goes("Courses", "", "**/learn/courses/")
    person.read("main h1", "main .actions", "form.panel")
    person.skip()
    person.tab_to("Title", "text")
    person.write("Isolation, the first week", "the title")
    with page.expect_navigation():
        person.act("Enter", "make the course")
    person.read("main h1", "main .actions", "nav.tabs", ".course-items", "main section h2", "main section label")
    adds(person, "Lesson")
    adds(person, "Attack lab")
    titles = page.locator(".course-item > div:first-child > a").all_inner_texts()
    for title in titles:  # the page comes back at the item that was shown
        person.tab_to(f"Show it to students : {title}")
        with page.expect_navigation():
            person.act("Enter", f"show {title}")
    person.goes(f"Settings : {titles[-1]}", "", "**/settings/")
    person.read("main h1", "main form label", "main form legend", "#zone", "main form .field-help")
    person.skip()
    person.tab_to("Due")
    person.write("01152027", "the day")
    person.press("Tab")
    person.write("0600PM", "the time")
    with page.expect_navigation():
        person.act("Enter", "save")
    person.read("main [role=status]", ".course-item:last-child p")
    assert "2027-01-15 18:00" in page.locator(".course-item").last.inner_text()
    person.skip()
    person.goes("Open a class", "", "**/desk/**")
    person.read("main h1", "main .lead", "main .actions", ".class-code", "#desk-now h2")
    shows_to_a_student(person, browser, url, "Show : ", "#stage .stage-shown h2")
    page.screenshot(path=place / "desk-own.png", full_page=True)
    return report(person, "from an empty course to a running class")


def shots(page: Page, place: Path, name: str) -> None:
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_timeout(300)
        page.screenshot(path=place / f"{name}-{theme}.png", full_page=True)


def takes(browser: Browser, url: str, lesson: str, place: Path) -> dict[str, Any]:
    """Every question of the lesson answered with its first choice, every view stepped to its end."""
    person = entered(browser, url, "bob", 320)
    page = person.page
    person.begin()
    page.goto(f"/learn/lessons/{lesson}/")
    shots(page, place, f"{lesson}-first")
    wrong = 0
    while page.locator(".question-asked form").count():
        question = page.locator(".question-asked:has(form)").first
        name = question.get_attribute("id")
        question.locator("input[type=radio]").first.focus()
        person.act("Space", f"choose at {name}")
        person.press("Tab")
        person.act("Enter", f"answer {name}")
        page.locator(f"#{name} .question-why").wait_for()
        wrong += page.locator(f"#{name} .status-violation").count()
    figures = page.locator("[data-swap]:has([data-go=on])")
    for number in range(figures.count()):
        figure = figures.nth(number)
        figure.locator("[data-go=on]").focus()
        person.act("End", f"step view {number + 1} to its end")
        figure.locator("[data-go=last][aria-disabled=true]").wait_for()
    person.read("main")
    person.ends = " ".join(page.locator("main .page-header").inner_text().split())
    assert page.evaluate("() => document.documentElement.scrollWidth") == 320
    shots(page, place, f"{lesson}-done")
    return {**report(person, f"the lesson {lesson}"), "not_right_at_once": wrong}


def main() -> None:
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    os.environ["DEMO_PASSWORD"] = PASSWORD
    with (
        tempfile.TemporaryDirectory(prefix="vpms-class-") as made,
        running(Path(made) / "run") as demo,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        classes = [way(browser, demo.url, place) for way in (to_a_running_class, from_an_empty_course)]
        rows = [takes(browser, demo.url, lesson, place) for lesson in LESSONS]
        browser.close()
    for row in classes:
        row |= {"target_seconds": TARGET, "within_target": row["seconds"] <= TARGET}
    print(json.dumps({"teacher": classes, "student": rows}, indent=2))


if __name__ == "__main__":
    main()
