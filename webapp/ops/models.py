"""Signs of life of the processes that do the work, and how far people are with their first steps."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from webapp.jobs import Job


class Heartbeat(models.Model):
    """When a keeper or a worker last said that it lives."""

    name = models.CharField(max_length=64, primary_key=True)  # keeper:PID@host or worker:PID@host
    at = models.DateTimeField()


class Figure(models.Model):
    """A count of all processes together (`process` empty), or how something stands in one process that lives."""

    key = models.CharField(max_length=200)  # the series and its labels, as JSON
    process = models.CharField(max_length=64, blank=True, default="")
    value = models.FloatField(default=0)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["key", "process"], name="ops_figure_once")]


class Guide(models.Model):
    """How far a person is with the first steps and the tour. A convenience of that person, so no audit record."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="guide")
    hidden = models.JSONField(default=list)  # the areas whose first steps were put away
    opened = models.JSONField(default=list)  # the first steps that are done by looking
    stops = models.JSONField(default=dict)  # by area: the stop of the tour to go on at; -1 when it was seen to its end


class ChainCheck(Job):
    """The record is verified again and again, by a worker: one row, always due some time later."""

    seen_at = models.DateTimeField(null=True, blank=True)
    entries = models.PositiveBigIntegerField(default=0)
    valid = models.BooleanField(null=True)


class Playlist(models.Model):
    """What a screen on the wall shows in turn. Who stands before it leaves only with the token, kept as its digest."""

    name = models.SlugField(max_length=40, unique=True)
    panels = models.JSONField()  # of webapp.ops.kiosk: wall, alerts, matrix, map:HOST
    rotate_seconds = models.PositiveSmallIntegerField(default=20)
    token_digest = models.CharField(max_length=64)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
