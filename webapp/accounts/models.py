"""People who sign in."""

from __future__ import annotations

from functools import cached_property

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person. Roles are Membership rows (webapp.tenants); `rights_version` rises when they change."""

    rights_version = models.PositiveIntegerField(default=1)

    @cached_property
    def _roles(self) -> list[tuple[str, str | None]]:
        return list(self.memberships.values_list("role", "tenant__slug"))

    @property
    def is_operator(self) -> bool:
        return any(role == "operator" for role, slug in self._roles)

    @property
    def is_teacher(self) -> bool:
        return any(role == "teacher" for role, slug in self._roles)

    @property
    def tenant_slugs(self) -> list[str]:
        """The tenants for which this person may act, sorted."""
        return sorted({slug for role, slug in self._roles if slug})

    def act_only_for(self, slug: str) -> None:
        """Until the end of the request this person has no other role than those in this organisation."""
        self.__dict__["_roles"] = [(role, tenant) for role, tenant in self._roles if tenant == slug]


class Attempts(models.Model):
    """Failed sign-ins of one account from one address. `key` is a digest: no name that somebody mistyped is kept."""

    key = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    blocked_until = models.DateTimeField()
    last_at = models.DateTimeField()


class ApiToken(models.Model):
    """A secret with which a program acts for a person. Only the SHA-256 of its 256 random bits is kept."""

    class Scope(models.TextChoices):
        READ = "read", _("Read")
        WRITE = "write", _("Read and write")
        MANAGE = "manage", _("Read, write, and manage keys and tokens")

    user = models.ForeignKey(User, models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    sha256 = models.CharField(max_length=64, unique=True)
    hint = models.CharField(max_length=16)  # how the secret begins, so that people tell their tokens apart
    scope = models.CharField(max_length=8, choices=Scope.choices, default=Scope.READ)
    tenant = models.CharField(max_length=63, blank=True, default="")  # its slug: the token acts for it alone
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]


class StoredAnswer(models.Model):
    """What an unsafe call with an idempotency key was answered: its repeats get the same. Kept for a day."""

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    digest = models.CharField(max_length=64)  # of method, address, body and what the caller may do
    status = models.PositiveSmallIntegerField(default=0)
    content = models.TextField(blank=True, default="")
    headers = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="accounts_answer_once")]


class CallCount(models.Model):
    """How many API calls somebody made in one minute, counted by a conditional UPDATE for all processes together."""

    key = models.CharField(max_length=80, primary_key=True)
    minute = models.PositiveBigIntegerField()
    count = models.PositiveIntegerField()
