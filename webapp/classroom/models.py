"""Teach: cells of the attack x architecture table, each filled by executing the attack; drills held again and again."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from webapp.jobs import Job


class Cell(Job):
    """One attack on one architecture. Public material: an attack file and its outcome hold nothing of any tenant."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    attack = models.CharField(max_length=8)
    architecture = models.CharField(max_length=16)
    skip = models.CharField(max_length=64, blank=True, default="")  # a what-if column: the check, or rule, that is off
    number = models.PositiveIntegerField(default=0)  # rises with every change of any cell: the topic's sequence number
    state = models.CharField(max_length=8, choices=State.choices, default=State.QUEUED)
    outcome = models.CharField(max_length=16, blank=True, default="")
    evidence = models.CharField(max_length=16, blank=True, default="")
    check_name = models.CharField(max_length=32, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="")
    seed = models.PositiveBigIntegerField(default=0)
    file_digest = models.CharField(max_length=64, blank=True, default="")  # of the attack's file as it was executed
    ops = models.PositiveIntegerField(default=0)  # operations executed: 1 to this number
    engine_version = models.CharField(max_length=32, blank=True, default="")
    duration_ms = models.FloatField(null=True, blank=True)
    verdict = models.JSONField(
        default=dict
    )  # the executed steps, the deciding one, its check, inputs and paper section
    ran_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["attack", "architecture"]
        constraints = [models.UniqueConstraint(fields=["attack", "architecture", "skip"], name="classroom_cell_once")]


class DrillSchedule(models.Model):
    """When the drill of a host, or of an architecture, is held again. It has exactly one drill waiting while it is
    switched on. The host is kept by its name: a host may go, and then the plan says so."""

    host = models.CharField(max_length=63, blank=True, default="")
    architecture = models.CharField(max_length=16, blank=True, default="")
    every_hours = models.PositiveSmallIntegerField(null=True, blank=True)  # null: weekly, at:
    weekday = models.PositiveSmallIntegerField(default=0)  # Monday is 0
    hour = models.PositiveSmallIntegerField(default=0)  # UTC
    active = models.BooleanField(default=True)
    reason = models.CharField(max_length=200, blank=True, default="")  # why the product switched it off
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["host", "architecture"]
        constraints = [models.UniqueConstraint(fields=["host", "architecture"], name="classroom_one_schedule_a_target")]

    @property
    def target(self) -> str:
        return self.host or self.architecture


class Drill(Job):
    """The twelve attacks held once, against the machine of a host or an architecture. Its row is its own outbox."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        FAILED = "failed"

    schedule = models.ForeignKey(DrillSchedule, models.SET_NULL, null=True, blank=True, related_name="drills")
    host = models.CharField(max_length=63, blank=True, default="")
    architecture = models.CharField(max_length=16, blank=True, default="")  # of a host: known when it was held
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    asked_at = models.DateTimeField(auto_now_add=True)
    held_at = models.DateTimeField(null=True, blank=True)
    engine_version = models.CharField(max_length=32, blank=True, default="")
    seed = models.PositiveBigIntegerField(default=0)
    blocked = models.PositiveSmallIntegerField(default=0)
    differs = models.PositiveSmallIntegerField(default=0)  # attacks that ended otherwise than before or in the table
    reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["due_at"], name="classroom_drill_due"),
            models.Index(fields=["host", "architecture"], name="classroom_drill_target"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["schedule"], condition=Q(state="waiting"), name="classroom_one_drill_waits")
        ]

    @property
    def target(self) -> str:
        return self.host or self.architecture


class DrillResult(models.Model):
    """How one attack of a drill ended, and how it ended in the drill before and in the attack table then."""

    drill = models.ForeignKey(Drill, models.CASCADE, related_name="results")
    attack = models.CharField(max_length=8)
    outcome = models.CharField(max_length=16)
    check_name = models.CharField(max_length=32, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="")
    file_digest = models.CharField(max_length=64, blank=True, default="")
    before = models.CharField(max_length=16, blank=True, default="")  # empty: there was no drill before
    expected = models.CharField(max_length=16, blank=True, default="")  # empty: the table had no result of this engine
    differs = models.BooleanField(default=False)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["drill", "attack"], name="classroom_drill_result_once")]
