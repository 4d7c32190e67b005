"""LTI 1.3: who somebody is at a platform, which courses are linked with it, and the grades on their way back."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from webapp.courses.models import Course, Item, Member
from webapp.jobs import Job


class SigningKey(models.Model):
    """A key with which we sign to platforms; the newest signs, a retired one is published for a while longer."""

    kid = models.CharField(max_length=32, unique=True)
    sealed = models.BinaryField()  # the private key, PEM, sealed with the site's seal key
    public = models.JSONField()  # as JWK
    made_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]


class Nonce(models.Model):
    """A launch that was used: none is used twice."""

    nonce = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField(auto_now_add=True)


class Account(models.Model):
    """A person of a platform and the account here: by issuer and subject alone, never by an e-mail address."""

    issuer = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="lti_accounts")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="lti_account_once")]


class Context(models.Model):
    """A course of a platform that a teacher of both linked with a course here. What the platform's people may reach."""

    issuer = models.CharField(max_length=255)
    client_id = models.CharField(max_length=255)
    deployment = models.CharField(max_length=255)
    context = models.CharField(max_length=255)
    course = models.ForeignKey(Course, models.CASCADE, related_name="lti_contexts")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["issuer", "client_id", "deployment", "context", "course"], name="lti_context_once"
            )
        ]


class Arrival(models.Model):
    """A launch that was checked and is not done with: somebody unknown here, or a teacher who chooses an item. Only the
    digest of its secret is kept; it serves one browser for a few minutes."""

    digest = models.CharField(max_length=64, unique=True)
    browser = models.CharField(max_length=64)
    claims = models.JSONField()  # what of the launch is needed: see launches.Launch
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]


class Return(Job):
    """The points of one student at one item, for one platform. The row is its own outbox: a changed mark makes it due,
    and `version` tells a change that comes while it is sent."""

    class State(models.TextChoices):
        IDLE = "idle", _("no mark yet")
        WAITING = "waiting", _("on its way")
        SENT = "sent", _("taken by the platform")
        FAILED = "failed", _("given up")

    issuer = models.CharField(max_length=255)
    client_id = models.CharField(max_length=255)
    subject = models.CharField(max_length=255)
    line_item = models.CharField(max_length=500)
    item = models.ForeignKey(Item, models.CASCADE, related_name="lti_returns")
    member = models.ForeignKey(Member, models.CASCADE, related_name="lti_returns")
    state = models.CharField(max_length=8, choices=State.choices, default=State.IDLE)
    version = models.PositiveIntegerField(default=0)
    changed_at = models.DateTimeField(null=True, blank=True)  # of the version: the score's timestamp
    tries = models.PositiveSmallIntegerField(default=0)
    sent_points = models.FloatField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["due_at"], name="lti_return_due")]
        constraints = [
            models.UniqueConstraint(
                fields=["issuer", "client_id", "subject", "line_item", "item"], name="lti_return_once"
            )
        ]
