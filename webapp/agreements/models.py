"""Agree: conflicts found, negotiations under way, agreements in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from webapp.fleet.models import Host
from webapp.jobs import SHAPE, Job
from webapp.tenants.models import Tenant, VirtualMachine
from webapp.vpms.findings import TITLES

if TYPE_CHECKING:
    from webapp.accounts.models import User


class SigningKey(models.Model):
    """An Ed25519 key of a tenant, or of the operator (tenant null). The private seed is sealed with SEAL_KEY; a retired
    key has none any more, and its public part stays so that old agreements can be verified."""

    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="signing_keys")
    public = models.CharField(max_length=44)
    sealed_seed = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=Q(retired_at__isnull=True), name="agreements_one_key_in_use"
            )
        ]


class NegotiationQuerySet(models.QuerySet["Negotiation"]):
    def visible_to(self, user: User) -> NegotiationQuerySet:
        """Operators, as mediators, see all; a tenant sees those in which one of its VMs is a party."""
        if user.sees_site:
            return self
        seats = Seat.objects.filter(vm__tenant__slug__in=user.tenant_slugs)  # no join: its rows would be made distinct
        asked = Q(requester__tenant__slug__in=user.tenant_slugs)
        return self.filter(Q(pk__in=seats.values("negotiation")) | asked)


class Negotiation(Job):
    """One negotiation about one host. `protocol` is the state of webapp.vpms.negotiation; it holds every party's wishes
    and is never shown as it is: pages read what webapp.agreements.room makes of it for one party."""

    class State(models.TextChoices):
        DRAFT = "DRAFT"
        DETECTED = "DETECTED"
        INVITED = "INVITED"
        COMMITTED = "COMMITTED"
        PROPOSED = "PROPOSED"
        ACCEPTED_ALL = "ACCEPTED_ALL"
        SIGNED = "SIGNED"
        ENFORCED = "ENFORCED"
        SUPERSEDED = "SUPERSEDED"
        BREACHED = "BREACHED"
        NO_AGREEMENT = "NO_AGREEMENT"
        WITHDRAWN = "WITHDRAWN"

    OPEN = (
        State.DRAFT,
        State.DETECTED,
        State.INVITED,
        State.COMMITTED,
        State.PROPOSED,
        State.ACCEPTED_ALL,
        State.SIGNED,
    )

    shape = models.PositiveSmallIntegerField(default=SHAPE, db_default=1)  # of what is stored: see webapp/jobs.py
    host = models.ForeignKey(Host, models.PROTECT, related_name="negotiations")
    requester = models.ForeignKey(VirtualMachine, models.PROTECT, related_name="requests")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    # Where the VM lives if this comes to nothing: set while it tries another host.
    home = models.ForeignKey(Host, models.PROTECT, null=True, blank=True, related_name="+")
    moves = models.BooleanField(default=False)  # the requester runs at `home` and would move, by its owner's consent
    state = models.CharField(max_length=16, choices=State.choices, default=State.DRAFT)
    round = models.PositiveSmallIntegerField(default=0)
    version = models.PositiveIntegerField(default=1)  # rises with every stored change
    proposed_at_version = models.PositiveIntegerField(default=0)  # answers to what was seen before it are outdated
    protocol = models.JSONField(default=dict)
    reason = models.TextField(blank=True, default="")  # why it ended without agreement, in plain words
    deadline_at = models.DateTimeField(null=True)
    reminded = models.PositiveSmallIntegerField(default=0)  # the last proposal to which missing answers were asked for
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = NegotiationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state", "host"], name="agreements_state_host"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="agreements_negotiation_due"),
        ]


class Seat(models.Model):
    """A party of a negotiation and its pseudonym there."""

    negotiation = models.ForeignKey(Negotiation, models.CASCADE, related_name="seats")
    vm = models.ForeignKey(VirtualMachine, models.PROTECT, related_name="seats")
    pseudonym = models.CharField(max_length=8)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["negotiation", "vm"], name="agreements_seat_once"),
            models.UniqueConstraint(fields=["negotiation", "pseudonym"], name="agreements_pseudonym_once"),
        ]


class Message(models.Model):
    """What a person sent to a negotiation, in the order in which it came. The worker hands each to the protocol once;
    so nobody's answer is lost while a proposal is being computed."""

    negotiation = models.ForeignKey(Negotiation, models.CASCADE, related_name="messages")
    vm = models.ForeignKey(VirtualMachine, models.PROTECT, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    round = models.PositiveSmallIntegerField()
    accept = models.BooleanField()
    reason = models.CharField(max_length=500, blank=True, default="")
    suggestion = models.JSONField(default=dict)  # of a counter: `{issue: value}`
    sent_at = models.DateTimeField()
    handled = models.BooleanField(default=False)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["negotiation", "vm", "round"], name="agreements_answer_once")]


class Rung(Job):
    """A step of the ladder that somebody chose after a negotiation ended without agreement. Nothing happens by it
    before everyone has consented whom it concerns; `due_at` is when a start is tried again, or a question is over."""

    class State(models.TextChoices):
        ASKED = "asked"  # the owner of `vm` is asked whether it would move to `host`
        WAITING = "waiting"  # for a time, or for a move that its owner has consented to
        DONE = "done"
        REFUSED = "refused"
        CANCELLED = "cancelled"

    OPEN = (State.ASKED, State.WAITING)

    negotiation = models.ForeignKey(Negotiation, models.CASCADE, related_name="rungs")
    step = models.CharField(max_length=24)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    vm = models.ForeignKey(VirtualMachine, models.PROTECT, related_name="+")  # whose place or start it is about
    host = models.ForeignKey(Host, models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=12, choices=State.choices)
    next = models.ForeignKey(Negotiation, models.PROTECT, null=True, blank=True, related_name="came_from")
    reason = models.TextField(blank=True, default="")  # why it came to nothing
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]


class Agreement(models.Model):
    """A signed settlement of one host. Exactly one version is in force on a host."""

    host = models.ForeignKey(Host, models.PROTECT, related_name="agreements")
    negotiation = models.OneToOneField(Negotiation, models.PROTECT, related_name="agreement")
    agreement = models.CharField(max_length=63)  # constant over versions
    version = models.PositiveIntegerField()
    envelope = models.TextField()  # DSSE
    digest = models.CharField(max_length=64)  # SHA-256 of the payload
    in_force = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["agreement", "version"], name="agreements_version_once"),
            models.UniqueConstraint(fields=["host"], condition=Q(in_force=True), name="agreements_one_in_force"),
        ]


class Waiver(models.Model):
    """A goal of a VM that its owner has given up: the one about this setting. It changes no wish, and ends when the
    owner takes the goal up again. The log names it by number only, because operators read all of the log."""

    vm = models.ForeignKey(VirtualMachine, models.CASCADE, related_name="waivers")
    switch = models.CharField(max_length=32)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    given_up_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["vm", "switch"], condition=Q(ended_at__isnull=True), name="agreements_waived_once"
            )
        ]


class ConflictQuerySet(models.QuerySet["Conflict"]):
    def visible_to(self, user: User) -> ConflictQuerySet:
        """Operators see all on their hosts; a tenant those in which one of its VMs is a party."""
        if user.sees_site:
            return self
        own = VirtualMachine.objects.filter(tenant__slug__in=user.tenant_slugs)
        return self.filter(pk__in=Conflict.vms.through.objects.filter(virtualmachine__in=own).values("conflict"))


class Conflict(models.Model):
    """A conflict that was recognised (policy.md section 6). Dynamic ones carry the evidence of the engine."""

    host = models.ForeignKey(Host, models.PROTECT, related_name="conflicts")
    vms = models.ManyToManyField(VirtualMachine, related_name="conflicts")
    negotiation = models.ForeignKey(Negotiation, models.CASCADE, null=True, blank=True, related_name="conflicts")
    code = models.CharField(max_length=3)
    name = models.CharField(max_length=48)
    kind = models.CharField(max_length=8)  # static or dynamic
    trigger = models.CharField(max_length=8)  # create, start or run
    severity = models.CharField(max_length=12)
    switch = models.CharField(max_length=32, blank=True, default="")
    text = models.TextField()  # names no other tenant
    evidence = models.JSONField(default=dict)  # event, value in force, digests before and after
    found_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    objects = ConflictQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["host", "closed_at"], name="agreements_conflict_open")]

    @property
    def title(self) -> str:
        """What it is about, in words for people; `name` is the word for programs."""
        return TITLES.get(self.code, self.name)


class Maintenance(models.Model):
    """A time in which the operator wants to work on a host. It begins only with the consent of every VM that is there
    then; from then until `end` no VM starts on the host. Nothing is ever stopped by it."""

    class State(models.TextChoices):
        PLANNED = "planned"
        BEGUN = "begun"
        ENDED = "ended"
        CANCELLED = "cancelled"

    OPEN = (State.PLANNED, State.BEGUN)

    host = models.ForeignKey(Host, models.PROTECT, related_name="maintenances")
    start = models.DateTimeField()
    end = models.DateTimeField()
    reason = models.CharField(max_length=200)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PLANNED)
    planned_at = models.DateTimeField(auto_now_add=True)
    begun_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-start", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(end__gt=models.F("start")), name="agreements_maintenance_lasts"),
            models.UniqueConstraint(fields=["host"], condition=Q(state="begun"), name="agreements_one_maintenance"),
        ]


class Consent(models.Model):
    """What a VM's owner says to a maintenance of its host. `auto`: the wishes agreed on name a time for it."""

    class State(models.TextChoices):
        ASKED = "asked"
        AGREED = "agreed"
        REFUSED = "refused"

    maintenance = models.ForeignKey(Maintenance, models.CASCADE, related_name="consents")
    vm = models.ForeignKey(VirtualMachine, models.CASCADE, related_name="consents")
    state = models.CharField(max_length=12, choices=State.choices, default=State.ASKED)
    auto = models.BooleanField(default=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    asked_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    offered_at = models.DateTimeField(null=True, blank=True)  # when the operator offered a move to another host

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["maintenance", "vm"], name="agreements_consent_once")]
