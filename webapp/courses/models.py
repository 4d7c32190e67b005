"""Teach and learn: courses, who takes part, what they hold, and what each student's work was worth.

Beside `classroom`, which executes attacks and shows them: here is who learns from them. What a student did is a row
that refers to a Member, never to an account alone, so that everything of a course goes with its course.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    size = models.PositiveIntegerField(default=0, db_default=0)  # bytes of the text: storage of who wrote it
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="item_texts")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["item", "version"], name="courses_item_version_once")]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.size = len(self.text.encode())
        super().save(*args, **kwargs)


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
    # What the work itself counts while a teacher has set the points by hand; null: `points` are the work's own.
    computed = models.FloatField(null=True, blank=True)
    item_version = models.PositiveIntegerField(default=1)  # 0: a teacher gave points where there was no work
    handed_in_at = models.DateTimeField()
    marked_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["item", "member"], name="courses_mark_once")]


class Adjustment(models.Model):
    """Points that a teacher set by hand, or (`after` is null) that count by the work again. Rows stay; the newest of a
    mark says what holds, and its reason is shown to the student."""

    item = models.ForeignKey(Item, models.CASCADE, related_name="adjustments")
    member = models.ForeignKey(Member, models.CASCADE, related_name="adjustments")
    by = models.ForeignKey(Member, models.SET_NULL, null=True, blank=True, related_name="+")
    before = models.FloatField(null=True, blank=True)  # null: there was no mark
    after = models.FloatField(null=True, blank=True)
    reason = models.CharField(max_length=400)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["item", "member"], name="courses_adjustment_of")]


class Regrade(Job):
    """What is handed in for an item, graded by the text that it has now, without changing a mark: to be looked at, then
    applied or discarded as one. A worker does it row by row."""

    class State(models.TextChoices):
        RUNNING = "running", _("under way")
        READY = "ready", _("to be decided")
        APPLIED = "applied", _("applied")
        DISCARDED = "discarded", _("discarded")
        CANCELLED = "cancelled", _("cancelled")
        FAILED = "failed", _("given up")

    OPEN = (State.RUNNING, State.READY)

    item = models.ForeignKey(Item, models.CASCADE, related_name="regrades")
    by = models.ForeignKey(Member, models.SET_NULL, null=True, blank=True, related_name="+")
    item_version = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=400, blank=True, default="")  # why it was given up
    made_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["due_at"], name="courses_regrade_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["item"], condition=Q(state__in=("running", "ready")), name="courses_regrade_once_open"
            )
        ]


class RegradeRow(models.Model):
    """One student of a regrade: the mark as it was when the worker looked (`was`, null: none), and what it would be
    (`now`, null: there is no work). Both: {"earned", "points", "reasons", "days_late", "at", …}."""

    regrade = models.ForeignKey(Regrade, models.CASCADE, related_name="rows")
    member = models.ForeignKey(Member, models.CASCADE, related_name="regrade_rows")
    done = models.BooleanField(default=False)
    changes = models.BooleanField(default=False)  # what counts would be another
    was = models.JSONField(null=True, blank=True)
    now = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["regrade", "member"], name="courses_regrade_row_once")]


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


class Prediction(models.Model):
    """What a person said of a step before seeing it: once for each seed. An empty choice: the person passed.

    `source` names what was stepped through (webapp/courses/predict_sources.py); of a graded round the seed is that of
    the member, told to nobody, and 0 stands here.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="predictions")
    item = models.ForeignKey(Item, models.CASCADE, null=True, blank=True, related_name="predictions")
    source = models.CharField(max_length=63)
    graded = models.BooleanField(default=False)
    seed = models.PositiveBigIntegerField()
    step = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=16)
    choice = models.CharField(max_length=63, blank=True, default="")
    right = models.BooleanField()
    belief = models.CharField(max_length=32, blank=True, default="")  # a name of predict_kinds.BELIEFS
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["user", "source", "graded", "seed", "step"], name="courses_prediction_once")
        ]
        indexes = [models.Index(fields=["item", "belief"], name="courses_prediction_belief")]


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


class ToldQuestion(models.Model):
    """A question of a class once its answer was told: what is wrong of it, how often it was chosen, never by whom.
    `wrong`: [{"text", "misconception", "count"}, …]."""

    session = models.ForeignKey(ClassSession, models.CASCADE, related_name="told_questions")
    number = models.PositiveSmallIntegerField()
    text = models.TextField()
    wrong = models.JSONField(default=list)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["session", "number"], name="courses_told_once")]


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


class PolicyGame(models.Model):
    """A game of an item of the kind `policy`, as it was opened: later changes of the item do not touch it. `version`
    rises when it opens, begins and ends, `desk_version` with every change at a table."""

    class State(models.TextChoices):
        SEATING = "seating", _("taking seats")
        PLAYING = "playing", _("being played")
        OVER = "over", _("over")

    item = models.ForeignKey(Item, models.CASCADE, related_name="games")
    opened_by = models.ForeignKey(Member, models.CASCADE, related_name="games_opened")
    text = models.TextField()  # of the item when it was opened
    item_version = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=8, choices=State.choices, default=State.SEATING)
    version = models.PositiveIntegerField(default=1)
    desk_version = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["item"], condition=Q(ended_at__isnull=True), name="courses_game_one_open")
        ]


class PolicyTable(Job):
    """A table of a game: one negotiation, moved on by a worker. Each declaration begins a negotiation anew; a round is
    a proposal, or a declaration that came to none. `closing` names the round that is to be closed now."""

    class Phase(models.TextChoices):
        WAITING = "waiting", _("waiting for players")
        DECLARING = "declaring", _("declaring")
        ANSWERING = "answering", _("answering")
        COUNTING = "counting", _("being counted up")
        OVER = "over", _("over")

    game = models.ForeignKey(PolicyGame, models.CASCADE, related_name="tables")
    number = models.PositiveSmallIntegerField()  # in its game, from 1
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.WAITING)
    declaration = models.PositiveSmallIntegerField(default=0)  # from 1; 0: it has not begun
    used = models.PositiveSmallIntegerField(default=0)  # rounds that have begun
    closing = models.CharField(max_length=12, blank=True, default="")
    protocol = models.JSONField(default=dict)  # the state of the negotiation; it holds all claims
    deadline_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=8, blank=True, default="")  # why the last negotiation came to nothing
    result = models.JSONField(default=dict)  # policy_table.reveal, once it is over
    version = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["number"]
        indexes = [models.Index(fields=["due_at"], name="courses_table_due")]
        constraints = [models.UniqueConstraint(fields=["game", "number"], name="courses_table_once")]


class PolicySeat(models.Model):
    """A tenant's seat at a table. Without a member the solver-bot plays it, honestly."""

    game = models.ForeignKey(PolicyGame, models.CASCADE, related_name="seats")
    table = models.ForeignKey(PolicyTable, models.CASCADE, related_name="seats")
    tenant = models.CharField(max_length=63)
    member = models.ForeignKey(Member, models.CASCADE, null=True, blank=True, related_name="policy_seats")

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["table", "tenant"], name="courses_policy_seat_once"),
            models.UniqueConstraint(fields=["game", "member"], name="courses_policy_player_once"),
        ]


class PolicyClaim(models.Model):
    """What a seat said that it wants, in one declaration: once, and it stands."""

    seat = models.ForeignKey(PolicySeat, models.CASCADE, related_name="claims")
    declaration = models.PositiveSmallIntegerField()
    claim = models.JSONField()
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["seat", "declaration"], name="courses_policy_claim_once")]


class PolicyAnswer(models.Model):
    """A seat's answer to a proposal: once, and it stands. `taken`: the protocol took it; an answer that came when the
    proposal had changed already was not."""

    seat = models.ForeignKey(PolicySeat, models.CASCADE, related_name="answers")
    declaration = models.PositiveSmallIntegerField()
    proposal = models.PositiveSmallIntegerField()
    answer = models.JSONField()
    handled = models.BooleanField(default=False)
    taken = models.BooleanField(default=False)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["seat", "declaration", "proposal"], name="courses_policy_answer_once")
        ]


class GuestMarks(models.Model):
    """What is kept of the marks of guests who are gone: how many had one on this item, and all their points."""

    item = models.OneToOneField(Item, models.CASCADE, related_name="guest_marks")
    people = models.PositiveIntegerField(default=0)
    points = models.FloatField(default=0)
