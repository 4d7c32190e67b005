"""People who sign in."""

from __future__ import annotations

from functools import cached_property

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person. Roles are Membership rows (webapp.tenants); `rights_version` rises when they change."""

    rights_version = models.PositiveIntegerField(default=1)

    @cached_property
    def _roles(self) -> list[tuple[str, str | None]]:
        return list(self.memberships.values_list("role", "tenant__slug"))

    @property
    def is_operator(self) -> bool:
        return any(role == "operator" for role, _ in self._roles)

    @property
    def is_teacher(self) -> bool:
        return any(role == "teacher" for role, _ in self._roles)

    @property
    def tenant_slugs(self) -> list[str]:
        """The tenants for which this person may act, sorted."""
        return sorted({slug for _, slug in self._roles if slug})


class Attempts(models.Model):
    """Failed sign-ins of one account from one address. `key` is a digest: no name that somebody mistyped is kept."""

    key = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField()
    last_at = models.DateTimeField()
