"""People who sign in."""

from __future__ import annotations

import secrets
from functools import cached_property

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _

GUARDED = {"operator": "operator", "teacher": "teacher"}  # roles that need a second factor, and the areas they open


def alias_make() -> str:
    return f"p-{secrets.token_hex(8)}"


class User(AbstractUser):
    """A person. Roles are Membership rows (webapp.tenants); `rights_version` rises when they change.

    `alias` stands for the person in the log, in signed papers and wherever else nothing may be changed afterwards.
    Readers are shown the name that this row holds for it; when the account is deleted the row's name goes and the
    alias remains, so no seal breaks.
    """

    alias = models.CharField(max_length=24, unique=True, default=alias_make, editable=False)
    rights_version = models.PositiveIntegerField(default=1)
    deleted_at = models.DateTimeField(null=True, blank=True)
    language = models.CharField(max_length=16, blank=True, default="")  # of mails; empty until the first sign-in
    guest = models.BooleanField(default=False)  # came into a class by its code: has no password, and learns only

    _chooses = False  # whether this object stands for one organisation at a time, as in a request
    _wanted: str | None = None
    _strictly = False
    previewing: int | None = None  # the course that the person looks at as a student does, in this request

    @cached_property
    def _all_roles(self) -> list[tuple[str, str | None, bool | None]]:
        """(role, organisation or None, whether that organisation demands a second factor of everybody)."""
        return list(self.memberships.values_list("role", "tenant__slug", "tenant__factor_required"))

    @cached_property
    def has_factor(self) -> bool:
        """Whether signing in takes more than the password."""
        factors = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
        return bool(Authenticator.objects.filter(user_id=self.pk, type__in=factors).exists())

    @cached_property
    def roles(self) -> list[tuple[str, str | None]]:
        """(role, organisation or None) as they count now: where the site or the organisation demands a second factor,
        the roles that need one sleep until the person has set it up. Pages, API and sockets all ask here."""
        asleep = [] if not self.needs_factor or self.has_factor else self._guarded
        return [(role, slug) for role, slug, _ in self._all_roles if (role, slug) not in asleep]

    @property
    def _guarded(self) -> list[tuple[str, str | None]]:
        """The roles that count only with a second factor."""
        site = GUARDED if settings.MFA_REQUIRED else {}
        return [(role, slug) for role, slug, demanded in self._all_roles if demanded or role in site]

    @property
    def needs_factor(self) -> bool:
        return bool(self._guarded)

    @property
    def waiting_areas(self) -> set[str]:
        """Areas that open as soon as the person has a second factor."""
        return {GUARDED.get(role, "tenant") for role, slug in self._guarded if (role, slug) not in self.roles}

    def roles_in(self, tenant: str | None) -> set[str]:
        """The person's roles in this organisation; None: on the site itself. Only the active organisation counts."""
        if tenant is not None and tenant not in self.tenant_slugs:
            return set()
        return {role for role, slug in self.roles if slug == tenant}

    @property
    def is_operator(self) -> bool:
        return "operator" in self.roles_in(None)

    @property
    def sees_site(self) -> bool:
        """Whether the person may read what operators read: an auditor of the site does, and changes nothing."""
        return bool(self.roles_in(None) & {"operator", "auditor"})

    @property
    def is_teacher(self) -> bool:
        return "teacher" in self.roles_in(None)

    @property
    def organisations(self) -> list[str]:
        """All organisations to which this person belongs, sorted."""
        return sorted({slug for _, slug in self.roles if slug})

    def act_for(self, slug: str | None, *, strictly: bool = False) -> None:
        """From now on this object stands for one organisation: the wanted one, or the person's first; `strictly` for
        the wanted one or none."""
        self._chooses, self._wanted, self._strictly = True, slug, strictly

    @property
    def tenant_slugs(self) -> list[str]:
        """The tenants for which this person acts now: the active one, and all where nobody has chosen (in services)."""
        known = self.organisations
        if not self._chooses:
            return known
        if self._wanted in known:
            return [self._wanted]
        return [] if self._strictly else known[:1]

    @property
    def only_one(self) -> bool:
        """Whether this object stands for nothing but one organisation, as with a token that is bound to it."""
        return self._strictly

    def act_only_for(self, slug: str) -> None:
        """Until the end of the request this person has no other role than those in this organisation."""
        self.__dict__["roles"] = [(role, tenant) for role, tenant in self.roles if tenant == slug]
        self.act_for(slug, strictly=True)

    def forget_roles(self) -> None:
        """Read the roles anew when they are next asked for."""
        for name in ("_all_roles", "roles", "has_factor"):
            self.__dict__.pop(name, None)


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
