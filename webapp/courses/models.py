"""Teach and learn: courses, who takes part, what they hold, and what each student's work was worth.

Beside `classroom`, which executes attacks and shows them: here is who learns from them. What a student did is a row
that refers to a Member, never to an account alone, so that everything of a course goes with its course.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from webapp.jobs import Job

if TYPE_CHECKING:
    from webapp.accounts.models import User


class CourseQuerySet(models.QuerySet["Course"]):
    def visible_to(self, user: User) -> CourseQuerySet:
        """The courses in which the person takes part, as a teacher or a student."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(members__user=user, members__left_at__isnull=True).distinct()


class Course(models.Model):
    """A course of one or more teachers."""

    title = models.CharField(max_length=120)
    summary = models.CharField(max_length=500, blank=True, default="")
    made_at = models.DateTimeField(auto_now_add=True)
    copied_from = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="copies")
    archived_at = models.DateTimeField(null=True, blank=True)  # from then on it is read, and nothing in it changes
    version = models.PositiveIntegerField(default=1)  # rises with every change of title, summary or archiving

    objects = CourseQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.title


class Member(models.Model):
    """A person in a course. The nickname is what the others in the class see; it need not tell who somebody is."""

    class Role(models.TextChoices):
        TEACHER = "teacher", _("teacher")
        STUDENT = "student", _("student")

    course = models.ForeignKey(Course, models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="courses")
    role = models.CharField(max_length=8, choices=Role.choices, default=Role.STUDENT)
    nickname = models.CharField(max_length=40)
    # The one graded seed of this student, drawn when the member is made and told to nobody. Each item mixes it with
    # its own number, so that no two of a student's tasks have the same.
    seed = models.PositiveBigIntegerField()
    previews = (
        False  # of this object alone: a teacher who sees the course as a student does (webapp/courses/preview.py)
    )
    joined_at = models.DateTimeField(auto_now_add=True)
    left_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["course", "user"], name="courses_member_once"),
            models.UniqueConstraint(fields=["course", "nickname"], name="courses_nickname_once"),
        ]

    def __str__(self) -> str:
        return self.nickname

    @property
    def teaches(self) -> bool:
        return self.role == self.Role.TEACHER and not self.previews


class ItemQuerySet(models.QuerySet["Item"]):
    def open_to_students(self) -> ItemQuerySet:
        """What students may see now."""
        return self.filter(Q(visible_from__isnull=True) | Q(visible_from__lte=timezone.now()), shown=True)


class Item(models.Model):
    """One thing to do in a course. `text` is its definition in the language of its kind (webapp/courses/kinds.py),
    exactly as the teacher wrote it; `version` rises with every change of the text."""

    class Late(models.TextChoices):
        FULL = "full", _("counts in full")
        DAILY = "daily", _("loses a part for each day begun")
        NONE = "none", _("counts nothing")

    course = models.ForeignKey(Course, models.CASCADE, related_name="items")
    place = models.PositiveSmallIntegerField()  # from 1, in the order of the course's page
    kind = models.CharField(max_length=16)
    title = models.CharField(max_length=120)
    text = models.TextField(blank=True, default="")
    version = models.PositiveIntegerField(default=1)
    points = models.PositiveSmallIntegerField(default=0)  # what all of it is worth; 0: it is not graded
    shown = models.BooleanField(default=False)  # to students
    due_at = models.DateTimeField(null=True, blank=True)
    late = models.CharField(max_length=8, choices=Late.choices, default=Late.FULL)
    late_percent = models.PositiveSmallIntegerField(default=0)  # of the points, for each day begun (`daily`)
    visible_from = models.DateTimeField(null=True, blank=True)  # to students, where it is shown; null: at once
    accepted_until = models.DateTimeField(null=True, blank=True)  # what comes later counts nothing; null: no end
    tries = models.PositiveSmallIntegerField(default=0)  # that are graded; 0: as many as one wants
    settings_version = models.PositiveIntegerField(default=1)  # rises with every change of what is not the text

    objects = ItemQuerySet.as_manager()

    class Meta:
        ordering = ["place", "id"]
        constraints = [models.CheckConstraint(condition=Q(late_percent__lte=100), name="courses_late_percent")]

    def __str__(self) -> str:
        return self.title

    @property
    def open_to_students(self) -> bool:
        return self.shown and (self.visible_from is None or self.visible_from <= timezone.now())


class ItemVersion(models.Model):
    """A text that an item has or had; of many the newest are kept. No text in it ever changes."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    text = models.TextField(blank=True, default="")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["item", "version"], name="courses_item_version_once")]


class CourseInvitation(models.Model):
    """A way into a course: a mail to one person, or a link for whoever has it (no address). Only a digest of its secret
    is kept. `role`: what those who come in by it are in the course."""

    course = models.ForeignKey(Course, models.CASCADE, related_name="invitations")
    token = models.CharField(max_length=64, unique=True)
    email = models.EmailField(blank=True, default="")
    role = models.CharField(max_length=8, choices=Member.Role.choices, default=Member.Role.STUDENT)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)  # withdrawn, or used where it was for one person
    used = models.PositiveIntegerField(default=0)  # people who came in by it

    class Meta:
        ordering = ["-id"]


class Mark(models.Model):
    """What a student's work on an item is worth: the best that counted. `reasons` are sentences, one a predicate."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="marks")
    member = models.ForeignKey(Member, models.CASCADE, related_name="marks")
    earned = models.FloatField()  # points before lateness
    points = models.FloatField()  # points that count
    reasons = models.JSONField(default=list)  # [{"name": str, "points": float, "of": float, "says": str}]
    days_late = models.PositiveSmallIntegerField(default=0)
    item_version = models.PositiveIntegerField(default=1)
    handed_in_at = models.DateTimeField()
    marked_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["item", "member"], name="courses_mark_once")]


class LessonAnswer(models.Model):
    """What a person answered to a question of a lesson: once. Of a lesson in a course `item`, of a shipped one its id
    in `lesson`. An empty choice: the person passed."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="lesson_answers")
    item = models.ForeignKey(Item, models.CASCADE, null=True, blank=True, related_name="lesson_answers")
    lesson = models.CharField(max_length=63, blank=True, default="")
    key = models.CharField(max_length=63)
    choice = models.CharField(max_length=63, blank=True, default="")
    right = models.BooleanField()
    answered_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "item", "key"], condition=Q(item__isnull=False), name="courses_answer_once_item"
            ),
            models.UniqueConstraint(
                fields=["user", "lesson", "key"], condition=Q(item__isnull=True), name="courses_answer_once_lesson"
            ),
        ]


class LabWork(models.Model):
    """What a student has before a lab: the file as it was last left in the editor, and the hints that were taken."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="lab_works")
    member = models.ForeignKey(Member, models.CASCADE, related_name="lab_works")
    text = models.TextField(blank=True, default="")
    saved_at = models.DateTimeField(null=True, blank=True)
    hints = models.PositiveSmallIntegerField(default=0)  # taken, in the order of the task
    number = models.PositiveIntegerField(
        default=0
    )  # rises with every change of an attempt: the topic's sequence number

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["item", "member"], name="courses_lab_work_once")]


class Attempt(Job):
    """One attack file of a student, to be executed and graded by a worker. The row is its own outbox."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        DONE = "done", _("graded")
        FAILED = "failed", _("given up")

    item = models.ForeignKey(Item, models.CASCADE, related_name="attempts_at")
    member = models.ForeignKey(Member, models.CASCADE, related_name="attempts_of")
    text = models.TextField()
    digest = models.CharField(max_length=64)  # SHA-256 of the text
    graded = models.BooleanField(default=False)  # handed in, else practice
    seed = models.PositiveBigIntegerField(null=True, blank=True)  # null: handed in; that seed is told to nobody
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    item_version = models.PositiveIntegerField()  # of the task when it was handed in, then of the one it was graded by
    hints = models.PositiveSmallIntegerField(default=0)  # taken before
    points = models.FloatField(null=True, blank=True)  # of the task, before hints and lateness
    result = models.JSONField(default=dict)  # the grade as the engine tells it; of one handed in without its seed
    reason = models.CharField(max_length=400, blank=True, default="")  # why it was given up
    made_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["due_at"], name="courses_attempt_due"),
            models.Index(fields=["item", "member"], name="courses_attempt_whose"),
        ]


class ClassSession(models.Model):
    """A class in session: what its teacher shows to all at this moment. `version` rises with every change of it, and
    `desk_version` with what only the teacher sees (who is there, what was answered)."""

    class Board(models.TextChoices):
        OFF = "off", _("not shown")
        LIVE = "live", _("live")
        FROZEN = "frozen", _("held still")

    course = models.ForeignKey(Course, models.CASCADE, related_name="sessions")
    teacher = models.ForeignKey(Member, models.CASCADE, related_name="sessions")
    code = models.CharField(max_length=6)
    opened_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    version = models.PositiveIntegerField(default=1)
    desk_version = models.PositiveIntegerField(default=1)
    frozen = models.BooleanField(default=False)
    cursor = models.JSONField(default=dict)  # {"kind": a row of class_stage.CURSORS, …}; empty: nothing is shown yet
    # {"number", "key", "text", "choices", "right", "why", "state": "open" or "told", "counts"}; empty: none was asked
    question = models.JSONField(default=dict)
    board = models.CharField(max_length=8, choices=Board.choices, default=Board.OFF)
    board_rows = models.JSONField(default=list)  # as it was when it was last drawn: [nickname, points]

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["code"], condition=Q(ended_at__isnull=True), name="courses_class_code_once")
        ]

    def __str__(self) -> str:
        return self.code

    @cached_property
    def spotlight(self) -> Spotlight | None:
        """The newest wish to show a student's attack, whatever became of it."""
        rows = self.spotlights.select_related("seat__member", "attempt__item", "asked_by")
        return rows.order_by("-id").first()


class Seat(models.Model):
    """A member in a class. `word` (its SHA-256) lets a guest come back from another device."""

    session = models.ForeignKey(ClassSession, models.CASCADE, related_name="seats")
    member = models.ForeignKey(Member, models.CASCADE, related_name="seats")
    word_sha256 = models.CharField(max_length=64, blank=True, default="")
    following = models.BooleanField(default=True)
    on_board = models.BooleanField(default=True)
    taken_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["session", "member"], name="courses_seat_once")]


class ClassAnswer(models.Model):
    """A seat's answer to a question of the class, by the question's number in it: one, and it stands."""

    seat = models.ForeignKey(Seat, models.CASCADE, related_name="answers")
    number = models.PositiveSmallIntegerField()
    choice = models.CharField(max_length=63)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["seat", "number"], name="courses_class_answer_once")]


class Spotlight(models.Model):
    """A teacher's wish to show one student's attack to the class. Nobody else sees any of it unless it is `shown`; what
    became of a wish that was not granted, only who asked is told."""

    class State(models.TextChoices):
        ASKED = "asked", _("asked")
        DECLINED = "declined", _("not now")
        SHOWN = "shown", _("shown")
        OVER = "over", _("over")

    OPEN = (State.ASKED, State.SHOWN)

    session = models.ForeignKey(ClassSession, models.CASCADE, related_name="spotlights")
    seat = models.ForeignKey(Seat, models.CASCADE, related_name="spotlights")
    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="spotlights")
    asked_by = models.ForeignKey(Member, models.CASCADE, related_name="spotlights_asked")
    state = models.CharField(max_length=8, choices=State.choices, default=State.ASKED)
    named = models.BooleanField(default=False)  # with the nickname, as the student chose
    asked_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["session"], condition=Q(state__in=["asked", "shown"]), name="courses_spotlight_one"
            )
        ]
