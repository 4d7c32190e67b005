"""What is done to several VMs at once, each by itself: one that is refused does not keep the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _

from webapp.agreements import life
from webapp.agreements.models import Negotiation
from webapp.errors import BadInput, VpmsError
from webapp.runs import services
from webapp.tenants.models import VirtualMachine

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOST_VMS: Final = 50
HELD = (Negotiation.State.INVITED, Negotiation.State.COMMITTED, Negotiation.State.PROPOSED, Negotiation.State.DETECTED)


def started(vm: VirtualMachine, negotiation: Negotiation) -> str:
    """What a start came to, in one sentence."""
    if negotiation.state in HELD:
        words = _("%(vm)s clashes with a neighbour's wishes. A settlement is being sought; nobody who runs is touched.")
        return words % {"vm": vm.name}
    if negotiation.state == Negotiation.State.NO_AGREEMENT:
        return negotiation.reason
    return _("%(vm)s starts.") % {"vm": vm.name}


def stopped(vm: VirtualMachine) -> str:
    words = _("%(vm)s is being stopped; its pages are wiped before anybody else can have them.")
    return words % {"vm": vm.name}


def _start(user: User, vm: VirtualMachine, profile: str) -> str:
    return started(vm, services.vm_start(by=user, vm=vm))


def _stop(user: User, vm: VirtualMachine, profile: str) -> str:
    services.vm_stop(by=user, vm=vm)
    return stopped(vm)


def _delete(user: User, vm: VirtualMachine, profile: str) -> str:
    life.vm_delete(by=user, vm=vm)
    return _("%(vm)s is deleted.") % {"vm": vm.name}


def _profile(user: User, vm: VirtualMachine, profile: str) -> str:
    policy = life.profile_set(by=user, vm=vm, profile=profile)
    if policy is None:
        return _("%(vm)s has exactly these wishes already; nothing was saved.") % {"vm": vm.name}
    words = _("Version %(version)s of the wishes for %(vm)s is saved.")
    return words % {"vm": vm.name, "version": policy.version}


ACTS: Final = {"start": _start, "stop": _stop, "delete": _delete, "profile": _profile}


def done(*, by: User, vms: Sequence[VirtualMachine], act: str, profile: str = "") -> list[dict[str, Any]]:
    """The act done to each, with a result for each."""
    return [_row(by, vm, act, profile) for vm in vms]


def _row(by: User, vm: VirtualMachine, act: str, profile: str) -> dict[str, Any]:
    try:
        return {"vm": vm.name, "good": True, "code": "", "says": ACTS[act](by, vm, profile)}
    except BadInput as refused:
        says = "; ".join(fault.reason for fault in refused.faults)
        return {"vm": vm.name, "good": False, "code": refused.code, "says": says}
    except VpmsError as refused:
        return {"vm": vm.name, "good": False, "code": refused.code, "says": refused.message}
