"""Run and watch: the run of a host's engine, its checkpoints, the acts asked of it and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q

from webapp.fleet.models import Host
from webapp.jobs import SHAPE, Job
from webapp.tenants.models import Tenant, VirtualMachine

if TYPE_CHECKING:
    from webapp.accounts.models import User


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User) -> RunQuerySet:
        """Operators see every run; a tenant the runs in which one of its VMs was started."""
        if user.sees_site:
            return self
        starts = Act.objects.filter(kind="start_vm", vm__tenant__slug__in=user.tenant_slugs)
        return self.filter(pk__in=starts.values("run"))


class Run(Job):
    """The run of one host's engine. Worked in slices; `slice_no` is the next slice, `seq` the last step published."""

    class State(models.TextChoices):
        RUNNING = "running"
        PAUSED = "paused"
        DONE = "done"
        CANCELLED = "cancelled"
        FAILED = "failed"

    host = models.ForeignKey(Host, models.PROTECT, related_name="runs")
    # Whose VM began it: tenants take turns at the workers, however many hosts run for each.
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="+")
    shape = models.PositiveSmallIntegerField(default=SHAPE, db_default=1)  # of what is stored: see webapp/jobs.py
    state = models.CharField(max_length=16, choices=State.choices, default=State.RUNNING)
    scenario = models.JSONField()  # of hsvm_engine.scenarios: with the acts below everything needed to replay the run
    engine_version = models.CharField(max_length=32)
    rate = models.PositiveIntegerField(null=True)  # accesses a second; null = as fast as the worker can
    length = models.PositiveBigIntegerField(null=True)  # accesses after which it is done; null = until stopped
    slice_no = models.PositiveIntegerField(default=0)
    seq = models.PositiveBigIntegerField(default=0)
    op = models.PositiveBigIntegerField(default=0)
    accesses = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True, default="")
    oldest_op = models.PositiveBigIntegerField(default=0)  # how far back it can be looked at, marks apart
    oldest_seq = models.PositiveBigIntegerField(default=0)
    wrong = models.PositiveIntegerField(default=0)  # violations that stand after the last step
    figures = models.JSONField(default=dict)  # by VM, as of the newest checkpoint: pages mapped, pages owned
    wanted = models.CharField(max_length=8, blank=True, default="")  # pause or cancel, read at every slice start
    reason = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["host"], condition=Q(state__in=["running", "paused"]), name="runs_one_live_run_a_host"
            )
        ]
        indexes = [models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="runs_run_due")]


class Checkpoint(models.Model):
    """The sealed state of a run before slice `slice_no`: a snapshot holds page contents, so SEAL_KEY seals it."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="checkpoints")
    slice_no = models.PositiveIntegerField()
    seq = models.PositiveBigIntegerField()
    op = models.PositiveBigIntegerField()
    digest = models.CharField(max_length=64)
    sealed = models.BinaryField()
    picture = models.BinaryField()  # what onlookers see of that state: owners, TLBs, counters; no page's content
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-slice_no"]
        constraints = [models.UniqueConstraint(fields=["run", "slice_no"], name="runs_checkpoint_once")]


class Act(models.Model):
    """Something asked of a running host: start or stop a VM, an operator's act, an attack drill. It is bound to one
    slice, so a slice done again does the same acts."""

    class State(models.TextChoices):
        PENDING = "pending"
        DONE = "done"
        REFUSED = "refused"

    run = models.ForeignKey(Run, models.CASCADE, related_name="acts")
    vm = models.ForeignKey(VirtualMachine, models.PROTECT, null=True, blank=True, related_name="acts")
    kind = models.CharField(max_length=16)  # start_vm stop_vm agreement drill, or one of webapp.runs.acts
    data = models.JSONField(default=dict)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    slice_no = models.PositiveIntegerField(null=True, blank=True)
    result = models.JSONField(default=dict)
    asked_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, user: User) -> EventQuerySet:
        """Operators see every event; a tenant those about its own VMs."""
        if user.sees_site:
            return self
        return self.filter(vm__tenant__slug__in=user.tenant_slugs)


class Event(models.Model):
    """Something that happened in a run and is worth telling. `number` counts from 1 within the run."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    number = models.PositiveIntegerField()
    op = models.PositiveBigIntegerField()
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=16)  # started stopped denied allowed drill breach violation note
    vm = models.ForeignKey(VirtualMachine, models.PROTECT, null=True, blank=True, related_name="events")
    title = models.CharField(max_length=200)
    outcome = models.CharField(max_length=16, blank=True, default="")
    check_name = models.CharField(max_length=32, blank=True, default="")
    detail = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="runs_event_once")]


class HostCheck(models.Model):
    """The newest measurement of one check of a host, a cell of the wall. Written by the host's own slices."""

    class State(models.TextChoices):
        OK = "ok"
        DEGRADED = "degraded"
        VIOLATION = "violation"
        NONE = "none"  # what is checked does not exist on this machine
        IDLE = "idle"  # nothing runs on the host

    host = models.ForeignKey(Host, models.CASCADE, related_name="checks")
    name = models.CharField(max_length=16)
    state = models.CharField(max_length=12, choices=State.choices)
    code = models.CharField(max_length=24, blank=True, default="")  # why, with its figures in `data`
    data = models.JSONField(default=dict)
    measured_at = models.DateTimeField()  # that it is unknown follows from this one's age, and is never stored
    since = models.DateTimeField()  # in this state
    broken_at = models.DateTimeField(null=True, blank=True)  # when a violation was last measured
    version = models.PositiveBigIntegerField(default=1)  # rises with every measurement

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "name"], name="runs_check_once")]
        indexes = [models.Index(fields=["since"], name="runs_check_since")]


class Delay(models.Model):
    """How long something took that a service level promises to be quick. The newest of each kind are kept."""

    kind = models.CharField(max_length=8)  # detect, screen
    ms = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["kind", "at"], name="runs_delay_at")]


class Mark(models.Model):
    """A moment of a run that somebody named. Operators read each other's marks; a tenant those of its own people."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="marks")
    view = models.TextField()  # whose view of the run it was made in
    op = models.PositiveBigIntegerField()  # in that view's count
    seq = models.PositiveBigIntegerField()
    slice_no = models.PositiveIntegerField()  # of the checkpoint that is kept for it
    text = models.CharField(max_length=120)
    # Whose storage the checkpoint takes, and how many bytes of it; an operator's mark takes nobody's.
    tenant = models.ForeignKey(Tenant, models.PROTECT, null=True, blank=True, related_name="marks")
    size = models.PositiveIntegerField(default=0, db_default=0)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["op", "id"]
