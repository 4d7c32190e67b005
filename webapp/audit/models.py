"""The append-only, hash-chained log (policy.md section 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from webapp.accounts.models import User


class EntryQuerySet(models.QuerySet["Entry"]):
    def visible_to(self, user: User) -> EntryQuerySet:
        """Operators read every entry; a tenant's people those that name the tenant in their audience; others none."""
        if user.sees_site:
            return self
        # Not a join: the rows of a log are many, and would all be sorted to be made distinct.
        return self.filter(pk__in=Audience.objects.filter(tenant__in=user.tenant_slugs).values("entry"))


class Entry(models.Model):
    """One record. `line` is its canonical form; `hash` is SHA-256 of the canonical form without `hash`."""

    seq = models.PositiveBigIntegerField(primary_key=True)
    at = models.DateTimeField()
    type = models.CharField(max_length=64)
    actor = models.CharField(max_length=80)
    subject = models.CharField(max_length=120)
    line = models.TextField()
    hash = models.CharField(max_length=64)

    objects = EntryQuerySet.as_manager()

    class Meta:
        ordering = ["seq"]
        indexes = [
            models.Index(fields=["type", "seq"], name="audit_by_type"),
            models.Index(fields=["subject", "seq"], name="audit_by_subject"),
        ]


class Head(models.Model):
    """The one row that names the end of the chain. Writers lock it, so entries are appended one after another; and a
    chain whose tail was removed no longer ends where it says."""

    length = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="audit_one_head")]


class Audience(models.Model):
    """Which tenant may read an entry. Kept outside the chain: it decides reading, not what happened."""

    entry = models.ForeignKey(Entry, models.CASCADE, related_name="audience")
    tenant = models.CharField(max_length=63)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "tenant"], name="audit_audience_once")]
        indexes = [models.Index(fields=["tenant", "entry"], name="audit_by_tenant")]
