"""Where: hosts, what they can do, and which VM is placed on which."""

from __future__ import annotations

from django.db import models

from webapp.tenants.models import VirtualMachine


class Host(models.Model):
    """One host. `document` is its vpms-host/1 document as the operator gave it; running VMs are Placement rows."""

    name = models.CharField(max_length=63, unique=True)
    document = models.TextField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Placement(models.Model):
    """The host on which a VM lives: where it runs, or where it will start."""

    vm = models.OneToOneField(VirtualMachine, models.CASCADE, related_name="placement")
    host = models.ForeignKey(Host, models.PROTECT, related_name="placements")
    alone = models.BooleanField(default=False)  # paid for as a host of its own: nobody else starts beside it
    since = models.DateTimeField(auto_now=True)
