"""Declare: tenants, who acts for them, their VMs and what they wish for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from webapp.accounts.models import User


UPLOAD = "upload-"  # how our names of uploaded programs begin; no built-in one does
OF_TENANT = ["owner", "member", "auditor"]  # roles in an organisation
OF_SITE = ["operator", "teacher", "student", "auditor"]  # roles on the site itself


class Tenant(models.Model):
    """An organisation. When it is deleted the row stays without its name: see `organisation_delete`."""

    slug = models.CharField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    deleted_at = models.DateTimeField(null=True, blank=True)
    factor_required = models.BooleanField(default=False)  # of everybody who belongs to it

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """A role of a person. Owners and members belong to a tenant; operators, teachers and students to the site; an
    auditor, who may only read, to either."""

    class Role(models.TextChoices):
        OWNER = "owner", _("owner")
        MEMBER = "member", _("member")
        AUDITOR = "auditor", _("auditor")
        OPERATOR = "operator", _("operator")
        TEACHER = "teacher", _("teacher")
        STUDENT = "student", _("student")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant", "role"], name="tenants_membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=OF_TENANT, tenant__isnull=False) | Q(role__in=OF_SITE, tenant__isnull=True),
                name="tenants_membership_scope",
            ),
        ]


class Invitation(models.Model):
    """A role that is offered to whoever reads the mail at this address. Only a digest of the link's secret is kept."""

    token = models.CharField(max_length=64, unique=True)
    email = models.EmailField()
    tenant = models.ForeignKey(Tenant, models.CASCADE, null=True, blank=True, related_name="invitations")
    role = models.CharField(max_length=16, choices=Membership.Role.choices)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)  # accepted or withdrawn
    accepted_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(role__in=OF_TENANT, tenant__isnull=False) | Q(role__in=OF_SITE, tenant__isnull=True),
                name="tenants_invitation_scope",
            ),
        ]


class VmQuerySet(models.QuerySet["VirtualMachine"]):
    def visible_to(self, user: User) -> VmQuerySet:
        """The VMs of the person's own tenants. Operators see running VMs by the host's pages, not by this door."""
        return self.filter(tenant__slug__in=user.tenant_slugs, deleted_at__isnull=True)


class VirtualMachine(models.Model):
    """One VM of one tenant. `name` is the policy document's `vm`, unique on the platform."""

    class State(models.TextChoices):
        STOPPED = "stopped"
        HELD = "held"  # wants to start; a negotiation decides
        STARTING = "starting"  # agreed; the host's run has not taken it up yet
        RUNNING = "running"
        STOPPING = "stopping"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="vms")
    name = models.CharField(max_length=63, unique=True)
    trace = models.CharField(max_length=63)  # the recorded program that it runs: a built-in one, or upload-N
    state = models.CharField(max_length=16, choices=State.choices, default=State.STOPPED)
    # Kept for it on hosts while it is not stopped, at least: newer wishes with another size count at its next start.
    memory_mib = models.PositiveIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)  # agreements name it for ever, so its row and name stay

    objects = VmQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["stopped", "held", "starting", "running", "stopping"]), name="tenants_vm_state"
            )
        ]

    def __str__(self) -> str:
        return self.name


class WorkloadQuerySet(models.QuerySet["Workload"]):
    def visible_to(self, user: User) -> WorkloadQuerySet:
        """What a tenant's programs do in memory is its own matter."""
        return self.filter(tenant__slug__in=user.tenant_slugs)


class Workload(models.Model):
    """A recorded program that a tenant uploaded, in the engine's own form: read strictly when it came, written anew,
    and known by our name `upload-N` alone. Kept as long as any VM, deleted ones included, had it: runs are replayed."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="workloads")
    title = models.CharField(max_length=80)
    content = models.BinaryField()
    size = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    references = models.PositiveIntegerField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WorkloadQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["tenant", "sha256"], name="tenants_workload_once")]

    @property
    def name(self) -> str:
        return f"{UPLOAD}{self.pk}"


class PolicyQuerySet(models.QuerySet["Policy"]):
    def visible_to(self, user: User) -> PolicyQuerySet:
        """A wish is its tenant's secret: not even operators read it here."""
        return self.filter(vm__tenant__slug__in=user.tenant_slugs)


class Policy(models.Model):
    """One version of the wishes for a VM: the document exactly as given (policy.md section 5.2). Rows never change."""

    vm = models.ForeignKey(VirtualMachine, models.CASCADE, related_name="policies")
    version = models.PositiveIntegerField()
    document = models.TextField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")

    objects = PolicyQuerySet.as_manager()

    class Meta:
        ordering = ["-version"]
        constraints = [models.UniqueConstraint(fields=["vm", "version"], name="tenants_policy_version_once")]
