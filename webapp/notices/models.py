"""Tell: what happened, who reads it on the page, which mails and webhooks carry it, and what each person chose."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from webapp.jobs import Job
from webapp.notices import wording

if TYPE_CHECKING:
    from webapp.accounts.models import User


class Event(models.Model):
    """One thing that happened, told to one organisation once. The words are made of `code` and `data` when somebody
    reads them, in the reader's language; `data` holds nothing that not everybody in the organisation may know."""

    uid = models.UUIDField(default=uuid.uuid4, unique=True)
    tenant = models.CharField(max_length=63, blank=True)  # its slug; empty: the operators; @alias: one person
    key = models.CharField(max_length=200)
    code = models.CharField(max_length=32)
    kind = models.CharField(max_length=16)
    severity = models.CharField(max_length=12)
    subject = models.CharField(max_length=120)
    link = models.CharField(max_length=200)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "key"], name="notices_event_once")]

    @property
    def text(self) -> str:
        return wording.text_of(self.code, self.data)

    @property
    def kind_label(self) -> str:
        return wording.kind_label(self.kind)

    @property
    def tone(self) -> str:
        return wording.TONES.get(self.severity, "neutral")


class Mail(Job):
    """A message to one person: of one notice, or a digest that collects until it is due. Its row is its own outbox."""

    class State(models.TextChoices):
        WAITING = "waiting"
        SENDING = "sending"  # taken up; what comes now goes into the next digest
        SENT = "sent"
        FAILED = "failed"
        UNSURE = "unsure"  # ended between handing over and the server's answer: never sent again
        DROPPED = "dropped"  # nothing left to say, or nobody to say it to

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="mails")
    digest = models.BooleanField(default=False)
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField(auto_now_add=True)
    handed_at = models.DateTimeField(null=True, blank=True)  # from here on the server may have it
    done_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["due_at"], name="notices_mail_due")]  # the keeper looks four times a second
        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(digest=True, state="waiting"), name="notices_one_digest_collects"
            )
        ]


class NoticeQuerySet(models.QuerySet["Notice"]):
    def visible_to(self, user: User) -> NoticeQuerySet:
        """The person's own notices, of organisations for which the person still acts."""
        return self.filter(user=user, event__tenant__in=places_of(user))


def places_of(user: User) -> list[str]:
    """Whose events the person may read: those of its organisations, an operator's, and what is told to it alone."""
    return [*user.tenant_slugs, *([""] if user.is_operator else []), *([] if user.only_one else [alone(user)])]


def alone(user: User) -> str:
    """What stands in the place of an organisation where one person is told, and nobody else."""
    return f"@{user.alias}"


class Notice(models.Model):
    """An event as one person has it. `page` is what the person chose for the page when it happened."""

    event = models.ForeignKey(Event, models.CASCADE, related_name="notices")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notices")
    page = models.CharField(max_length=8, default="now")
    read_at = models.DateTimeField(null=True, blank=True)
    mail = models.ForeignKey(Mail, models.SET_NULL, null=True, blank=True, related_name="notices")

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["user", "read_at"], name="notices_unread")]
        constraints = [models.UniqueConstraint(fields=["event", "user"], name="notices_notice_once")]


class Reader(models.Model):
    """What is one for each person: when the digest comes (UTC), and a number that rises when the notices change."""

    class Every(models.TextChoices):
        DAILY = "daily"
        WEEKLY = "weekly"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notice_reader")
    version = models.PositiveIntegerField(default=0)
    every = models.CharField(max_length=8, choices=Every.choices, default=Every.DAILY)
    hour = models.PositiveSmallIntegerField(default=7)
    weekday = models.PositiveSmallIntegerField(default=0)  # Monday is 0


class Choice(models.Model):
    """What a person chose for one kind of notice; without a row the defaults of webapp.notices.wording hold."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="notice_choices")
    kind = models.CharField(max_length=16)
    page = models.CharField(max_length=8)
    mail = models.CharField(max_length=8)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "kind"], name="notices_choice_once")]


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def visible_to(self, user: User) -> EndpointQuerySet:
        """Those of the organisations that the person owns."""
        return self.filter(tenant__in=owned_by(user))


def owned_by(user: User) -> list[str]:
    """The organisations whose owner the person is; for an operator also the platform itself, without a name."""
    rows = list(user.memberships.filter(role__in=("owner", "operator")).values_list("role", "tenant__slug"))
    operates = any(role == "operator" for role, _ in rows) and user.is_operator  # not before the second factor
    return [*([""] if operates else []), *sorted(slug for role, slug in rows if role == "owner")]


class Endpoint(models.Model):
    """An address that an organisation wants to be told at. The secret is sealed with SEAL_KEY, and shown once."""

    tenant = models.CharField(max_length=63, blank=True)  # its slug; empty: the operators
    url = models.CharField(max_length=500)
    kinds = models.JSONField(default=list)
    sealed_secret = models.BinaryField()
    sealed_before = models.BinaryField(null=True, blank=True)  # the secret before, which signs too until:
    before_until = models.DateTimeField(null=True, blank=True)
    rotation = models.PositiveIntegerField(default=1)
    active = models.BooleanField(default=True)
    failures = models.PositiveIntegerField(default=0)  # tries in a row that came to nothing
    made_at = models.DateTimeField(auto_now_add=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "url"], name="notices_endpoint_once")]

    @property
    def page(self) -> str:
        """Where its people see and change it."""
        return f"/{'tenant' if self.tenant else 'operator'}/webhooks/{self.pk}/"

    @property
    def kind_labels(self) -> list[str]:
        return [wording.kind_label(kind) for kind in self.kinds]


class Delivery(Job):
    """One event on its way to one endpoint; without an event it is a test."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries")
    event = models.ForeignKey(Event, models.CASCADE, null=True, blank=True, related_name="deliveries")
    uid = models.UUIDField(default=uuid.uuid4, unique=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    made_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "deliveries"
        indexes = [models.Index(fields=["due_at"], name="notices_delivery_due")]
        constraints = [models.UniqueConstraint(fields=["endpoint", "event"], name="notices_delivery_once")]

    @property
    def state_label(self) -> str:
        return wording.delivery_label(self.state)


class Attempt(models.Model):
    """One try of a delivery and what came of it."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="attempts_made")
    at = models.DateTimeField(auto_now_add=True)
    status = models.PositiveSmallIntegerField(null=True, blank=True)  # of HTTP; null: there was no answer
    error = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        ordering = ["id"]


class Watch(models.Model):
    """One row: a number that rises with every change of an alert, and when the keeper last looked."""

    number = models.PositiveBigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True, blank=True)


class Alert(models.Model):
    """Something that an operator must look at. Raised while it lasts it is one alert that counts; the words are made
    of `code` and `data` when somebody reads them."""

    class State(models.TextChoices):
        OPEN = "open"
        ACKNOWLEDGED = "acknowledged"
        RESOLVED = "resolved"

    key = models.CharField(max_length=200)
    kind = models.CharField(max_length=16)  # of webapp.notices.runbooks
    code = models.CharField(max_length=32)
    data = models.JSONField(default=dict)
    severity = models.CharField(max_length=12)
    host = models.CharField(max_length=63, blank=True, default="")
    link = models.CharField(max_length=200)  # the moment, or the place, where it happened
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    count = models.PositiveIntegerField(default=1)
    raised_at = models.DateTimeField()
    last_at = models.DateTimeField()
    number = models.PositiveBigIntegerField(default=0)  # of its newest change
    told = models.BooleanField(default=False)  # by notice, mail and webhook; a silenced alert is not
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True, default="")
    silenced_until = models.DateTimeField(null=True, blank=True)
    silenced_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    silence_reason = models.CharField(max_length=200, blank=True, default="")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-last_at", "-id"]
        indexes = [
            models.Index(fields=["state", "-last_at"], name="notices_alert_open"),
            models.Index(fields=["key"], name="notices_alert_key"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=Q(state__in=["open", "acknowledged"]), name="notices_one_open_alert"
            )
        ]

    @property
    def text(self) -> str:
        return wording.text_of(self.code, self.data)

    @property
    def page(self) -> str:
        return f"/operator/alerts/{self.pk}/"

    @property
    def tone(self) -> str:
        return wording.TONES.get(self.severity, "neutral")

    @property
    def has_moment(self) -> bool:
        """Its link leads to one operation of a run."""
        return "&op=" in self.link

    @property
    def ended(self) -> bool:
        return self.state == self.State.RESOLVED

    @property
    def silent(self) -> bool:
        return self.silenced_until is not None and self.silenced_until > timezone.now()
