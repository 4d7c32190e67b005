"""/admin/: Django's admin for support staff. It shows what is needed to help somebody, and changes little.

Open to operators who were allowed to it (is_staff), with a second factor where the site demands one; missing for all
others. Wishes, answers, papers and secrets are in no list and on no page here. Every act goes through the same services
as everywhere, and is in the log under the name of who did it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from allauth.mfa.models import Authenticator
from django.contrib import admin, messages
from django.contrib.auth.views import redirect_to_login
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from webapp.accounts import support
from webapp.accounts.models import User
from webapp.agreements.models import Agreement, Negotiation
from webapp.errors import VpmsError
from webapp.fleet.models import Host
from webapp.notices.models import Delivery, Mail
from webapp.runs.models import Run
from webapp.tenants.models import Tenant, VirtualMachine


class SupportSite(admin.AdminSite):
    """Entered by the site's own sign-in only, so that its delays, factors and short sessions hold here too."""

    site_title = site_header = gettext_lazy("VPMS support")
    index_title = gettext_lazy("Look up")
    site_url = "/operator/"
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        return bool(user.is_authenticated and user.is_active and user.is_staff and user.is_operator)

    def admin_view(self, view: Callable[..., HttpResponseBase], cacheable: bool = False) -> Any:
        inner = super().admin_view(view, cacheable)

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not self.has_permission(request):
                if not request.user.is_authenticated:
                    return redirect_to_login(request.get_full_path())
                raise Http404
            return inner(request, *args, **kwargs)

        return guarded

    def get_urls(self) -> list[Any]:
        """Without the doors that go round the site's own: another sign-in, another way to set a password."""
        ours = {"login", "logout", "password_change", "password_change_done", "view_on_site"}
        return [entry for entry in super().get_urls() if getattr(entry, "name", None) not in ours]


site = SupportSite(name="admin")


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list to search and a page to read. `fields` names what is shown: never what somebody wished."""

    actions_on_top = True
    list_per_page = 50
    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return site.has_permission(request)

    has_module_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        """The list and the page of one. There is no other address: what happened is in the log of the site."""
        return [entry for entry in super().get_urls() if str(entry.name).endswith(("_changelist", "_change"))]


def act(words: Any, do: Callable[..., Any]) -> Callable[..., None]:
    """An act on the chosen accounts, each for itself; who is refused is named with the reason."""

    @admin.action(description=words)
    def action(model_admin: Any, request: HttpRequest, chosen: QuerySet[User]) -> None:
        count = 0
        for user in chosen:
            try:
                count += bool(do(by=request.user, user=user))
            except VpmsError as refused:
                messages.warning(request, f"{user.username}: {refused.message}")
        told = ngettext("%d account was changed.", "%d accounts were changed.", count) % count
        messages.success(request, told)

    action.__name__ = do.__name__
    return action


@admin.register(User, site=site)
class Accounts(ReadOnly):
    list_display = ("username", "first_name", "email", "is_active", "factor", "last_login")
    list_filter = ("is_active", "memberships__role")
    search_fields = ("username", "first_name", "email", "alias")
    fields = (
        "username",
        "first_name",
        "email",
        "alias",
        "is_active",
        "factor",
        "roles_held",
        "date_joined",
        "last_login",
    )
    actions: ClassVar = [
        act(gettext_lazy("Close the accounts and end their sign-ins"), support.account_close),
        act(gettext_lazy("Open the accounts again"), support.account_open),
        act(gettext_lazy("Remove second factors and recovery codes"), support.factors_remove),
        act(gettext_lazy("End all sign-ins"), support.signed_out),
    ]

    @admin.display(boolean=True, description=gettext_lazy("second factor"))
    def factor(self, user: Any) -> bool:
        return bool(user.with_factor)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        kinds = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)
        held = Authenticator.objects.filter(user=OuterRef("pk"), type__in=kinds)
        return super().get_queryset(request).annotate(with_factor=Exists(held))

    @admin.display(description=gettext_lazy("roles"))
    def roles_held(self, user: User) -> str:
        held = user.memberships.select_related("tenant").order_by("tenant__slug", "role")
        return ", ".join(
            f"{row.get_role_display()} ({row.tenant.slug})" if row.tenant else row.get_role_display() for row in held
        ) or _("none")


@admin.register(Tenant, site=site)
class Organisations(ReadOnly):
    list_display = fields = ("slug", "name", "deleted_at")
    search_fields = ("slug", "name")


@admin.register(VirtualMachine, site=site)
class Vms(ReadOnly):
    list_display = ("name", "tenant", "state", "place", "created_at")
    fields = ("name", "tenant", "state", "place", "trace", "created_at", "deleted_at")
    list_filter = ("state",)
    list_select_related = ("tenant", "placement__host")
    search_fields = ("name", "tenant__slug", "placement__host__name")

    @admin.display(description=gettext_lazy("host"))
    def place(self, vm: VirtualMachine) -> str:
        return vm.placement.host.name if hasattr(vm, "placement") else "-"


@admin.register(Host, site=site)
class Hosts(ReadOnly):
    list_display = ("name", "created_at")
    fields = ("name", "sha256", "created_at")
    search_fields = ("name",)


@admin.register(Run, site=site)
class Runs(ReadOnly):
    list_display = ("id", "host", "state", "wrong", "started_at", "ended_at")
    fields = ("host", "state", "reason", "wrong", "slice_no", "op", "accesses", "digest", "engine_version", "rate",
              "attempts", "request_id", "started_at", "ended_at")  # fmt: skip
    list_filter = ("state",)
    list_select_related = ("host",)
    search_fields = ("=id", "host__name", "request_id")


@admin.register(Negotiation, site=site)
class Negotiations(ReadOnly):
    """When, where, who asked and how it stands; what was wished and answered stays in the room."""

    list_display = ("id", "host", "requester", "state", "round", "created_at", "deadline_at", "ended_at")
    fields = ("host", "requester", "state", "round", "version", "created_at", "deadline_at", "ended_at", "attempts",
              "request_id")  # fmt: skip
    list_filter = ("state",)
    list_select_related = ("host", "requester")
    search_fields = ("=id", "host__name", "requester__name", "request_id")


@admin.register(Agreement, site=site)
class Agreements(ReadOnly):
    list_display = ("id", "host", "agreement", "version", "in_force", "created_at")
    fields = ("host", "agreement", "version", "in_force", "digest", "created_at")
    list_filter = ("in_force",)
    list_select_related = ("host",)
    search_fields = ("agreement", "host__name", "digest")


@admin.register(Mail, site=site)
class Mails(ReadOnly):
    """Whether a mail went out; what it said is its reader's."""

    list_display = ("id", "user", "state", "tries", "made_at", "done_at", "error")
    fields = ("user", "digest", "state", "tries", "made_at", "handed_at", "done_at", "error", "request_id")
    list_filter = ("state",)
    list_select_related = ("user",)
    search_fields = ("=id", "user__username", "request_id")


@admin.register(Delivery, site=site)
class Deliveries(ReadOnly):
    list_display = ("id", "organisation", "state", "tries", "made_at", "done_at")
    fields = ("organisation", "state", "tries", "made_at", "done_at", "request_id")
    list_filter = ("state",)
    list_select_related = ("endpoint",)
    search_fields = ("=id", "endpoint__tenant", "request_id")

    @admin.display(description=gettext_lazy("organisation"))
    def organisation(self, delivery: Delivery) -> str:
        return delivery.endpoint.tenant
