"""What an operator may do with a message on its way: give it up, or have it tried again after it was given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.audit import services as audit
from webapp.errors import VpmsError
from webapp.live import publish
from webapp.notices.models import Delivery, Mail
from webapp.roles import must

if TYPE_CHECKING:
    from webapp.accounts.models import User

NAMES: Final = {Mail: "mail", Delivery: "delivery"}
CANCELLED: Final = {Mail: Mail.State.DROPPED, Delivery: Delivery.State.FAILED}


@transaction.atomic
def cancel(*, by: User, job: Mail | Delivery) -> None:
    """It is not sent. One that a worker holds just now may be on its way already, and stays."""
    _change(
        by, job, "job.cancelled", before="waiting", state=CANCELLED[type(job)], due_at=None,
        done_at=timezone.now(),
    )  # fmt: skip


@transaction.atomic
def again(*, by: User, job: Mail | Delivery) -> None:
    """One that was given up is tried from the beginning. A mail of which nobody knows whether it arrived never is."""
    now = timezone.now()
    _change(
        by, job, "job.again", before="failed", state="waiting", due_at=now, enqueued_at=None, done_at=None, tries=0,
        attempts=0,
    )  # fmt: skip
    publish.wake_keeper()


def _change(by: User, job: Mail | Delivery, type: str, *, before: str, **changes: Any) -> None:
    must(by, "act", tenant=None)
    rows = job.__class__._default_manager.filter(pk=job.pk, state=before, lease_until__isnull=True)
    if not rows.update(**changes):
        raise VpmsError("not_possible", 409, message=_("This is not possible in the state that it is in now."))
    kind = NAMES[job.__class__]
    audience = [job.endpoint.tenant] if isinstance(job, Delivery) else []
    audit.record(by=by, type=type, subject=f"{kind}:{job.pk}", data={"kind": kind}, audience=audience)
