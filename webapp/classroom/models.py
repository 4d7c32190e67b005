"""Teach: cells of the attack x architecture table, each filled by executing the attack."""

from __future__ import annotations

from django.db import models

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
