"""What people show to others by a link: frozen when the link was made, to look at and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

if TYPE_CHECKING:
    from webapp.accounts.models import User


class ShareQuerySet(models.QuerySet["Share"]):
    def visible_to(self, user: User) -> ShareQuerySet:
        """One's own, with those that are over."""
        return self.filter(maker=user) if user.is_authenticated else self.none()

    def open(self) -> ShareQuerySet:
        """Those that still open: not over, and their maker's account not closed."""
        now = timezone.now()
        return self.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=now), maker__is_active=True)


class Share(models.Model):
    """One link. Its address is made of its number and a word that follows from `nonce` and the site's key, so the table
    alone opens nothing. Revoked, the row is gone."""

    maker = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="shares")
    kind = models.CharField(max_length=16)  # a row of webapp/shares/things.py
    name = models.CharField(max_length=120, blank=True, default="")  # the maker's own words
    about: Any = models.JSONField()  # which moment of what; of a run also the view that it was made in
    shown: Any = models.JSONField()  # what the page shows, as webapp/shares/things.py tells
    frames = models.BinaryField(default=b"")  # of a moment of a run: the messages of its map and the rest, as records
    size = models.PositiveIntegerField(default=0, db_default=0)  # bytes that it takes of the maker's storage
    nonce = models.CharField(max_length=32)
    public = models.BooleanField(default=False)  # opens without an account
    made_at = models.DateTimeField(auto_now_add=True)
    ends_at = models.DateTimeField(null=True, blank=True)

    objects = ShareQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    @property
    def is_over(self) -> bool:
        return self.ends_at is not None and self.ends_at <= timezone.now()
