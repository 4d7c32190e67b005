"""Where: hosts, what they can do, and which VM is placed on which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.db import models

from webapp.tenants.models import VirtualMachine


class Host(models.Model):
    """One host. `document` is its vpms-host/1 document as the operator gave it last; running VMs are Placement rows.

    A retired host takes no VM any more. Its row and its name stay: agreements, runs and the log name it.
    """

    name = models.CharField(max_length=63, unique=True)
    document = models.TextField()
    sha256 = models.CharField(max_length=64)
    version = models.PositiveIntegerField(default=1)
    # What the wall sorts and groups thousands of hosts by, as the document says it (columns_of).
    zone = models.CharField(max_length=63, default="")
    architecture = models.CharField(max_length=16, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


def architecture_of(document: Mapping[str, Any]) -> str:
    """The row of the attack table that a host plays."""
    return "hsvm" if "hsvm" in document.get("capabilities", {}).get("memory_protection", []) else "nested"


def columns_of(document: Mapping[str, Any]) -> dict[str, str]:
    """What of a host's document stands in columns of its row."""
    return {"zone": document["zone"], "architecture": architecture_of(document)}


class HostVersion(models.Model):
    """One version of a host's document, exactly as given. Rows never change."""

    class Kind(models.TextChoices):
        EDIT = "edit"  # what the operator wants
        FACT = "fact"  # what has happened to the platform

    host = models.ForeignKey(Host, models.CASCADE, related_name="versions")
    version = models.PositiveIntegerField()
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.EDIT)
    document = models.TextField()
    sha256 = models.CharField(max_length=64)
    reason = models.CharField(max_length=200, blank=True, default="")  # of a fact: what has happened
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["host", "version"], name="fleet_host_version_once")]


class Placement(models.Model):
    """The host on which a VM lives: where it runs, or where it will start."""

    vm = models.OneToOneField(VirtualMachine, models.CASCADE, related_name="placement")
    host = models.ForeignKey(Host, models.PROTECT, related_name="placements")
    alone = models.BooleanField(default=False)  # paid for as a host of its own: nobody else starts beside it
    since = models.DateTimeField(auto_now=True)
