"""Signs of life of the processes that do the work."""

from __future__ import annotations

from django.db import models


class Heartbeat(models.Model):
    """When a keeper or a worker last said that it lives."""

    name = models.CharField(max_length=64, primary_key=True)  # keeper:PID@host or worker:PID@host
    at = models.DateTimeField()
