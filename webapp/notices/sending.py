"""The worker's side: one step of a mail or a delivery. Never called in a web request.

Both are rows of webapp.jobs. A mail is marked before it is handed over; where nobody knows whether the server took it,
it is not sent again. A webhook may come twice and says so by its id.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import smtplib
import time
from itertools import groupby
from typing import Any, Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import F
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from webapp import jobs
from webapp.notices import alerts, outgoing, payload, sealing, services, wording
from webapp.notices.models import Attempt, Delivery, Endpoint, Mail, Notice

PAUSES: Final = (10, 60, 300, 1800, 7200, 21_600)  # seconds before the next try; after the last the job is given up
MOST_FAILURES: Final = 20  # tries in a row without success, then the endpoint is switched off
PERMANENT: Final = 500  # SMTP: an answer from here on is a refusal for good


# -- mail


def mail_work(*, mail_id: int) -> None:
    """Send the mail, if it is due and nobody else is at it."""
    token = jobs.claim(Mail, mail_id)
    if token is None:
        return
    with jobs.kept(Mail, mail_id, token):
        mail = _taken_up(mail_id)
        if mail.handed_at is not None:
            _done(mail, token, Mail.State.UNSURE, "It was handed over and the answer was lost.")
            return
        notices = list(_notices(mail))
        if not notices or not mail.user.email or not mail.user.is_active:
            _done(mail, token, Mail.State.DROPPED, "")
            return
        _send(mail, token, message_of(mail, notices))


@transaction.atomic
def _taken_up(mail_id: int) -> Mail:
    """From now on the digest collects no more."""
    mail = Mail.objects.select_for_update(of=("self",)).select_related("user").get(pk=mail_id)
    Mail.objects.filter(pk=mail_id, state=Mail.State.WAITING).update(state=Mail.State.SENDING)
    return mail


def _notices(mail: Mail) -> Any:
    """What the mail tells: of a digest only what is still unread, and nothing of organisations that were left."""
    rows = Notice.objects.visible_to(mail.user).filter(mail=mail).select_related("event")
    return rows.filter(read_at__isnull=True) if mail.digest else rows


def message_of(mail: Mail, notices: list[Notice]) -> EmailMessage:
    """Plain text. The subject says of which kind it is and nothing more: subjects are read on locked screens."""
    with translation.override(mail.user.language or settings.LANGUAGE_CODE):
        if mail.digest:
            count = len(notices)
            subject = ngettext("H-SVM: %(count)d notice", "H-SVM: %(count)d notices", count) % {"count": count}
            lines = _grouped(notices)
        else:
            subject = "H-SVM: " + notices[0].event.kind_label
            lines = _lines(notices[0])
        lines += [
            "",
            _("What you are told, and when, you choose here:"),
            f"{settings.SITE_URL}/account/notifications/",
        ]
    headers = {"Message-ID": f"<notices-{mail.pk}-{mail.made_at:%Y%m%d%H%M%S}@{outgoing.host_of(settings.SITE_URL)}>"}
    return EmailMessage(subject, "\n".join(lines) + "\n", to=[mail.user.email], headers=headers)


def _lines(notice: Notice) -> list[str]:
    event = notice.event
    return [f"{event.at:%Y-%m-%d %H:%M} UTC  {event.text}", f"{settings.SITE_URL}{event.link}"]


def _grouped(notices: list[Notice]) -> list[str]:
    """The notices under the names of their kinds, oldest first within each."""
    order = list(wording.KINDS)
    rows = sorted(notices, key=lambda notice: (order.index(notice.event.kind), notice.pk))
    told: list[str] = []
    for kind, group in groupby(rows, key=lambda notice: notice.event.kind):
        found = list(group)
        told += ["", f"{wording.kind_label(kind)} ({len(found)})", ""]
        for notice in found:
            told += [f"  {line}" for line in _lines(notice)]
    return told[1:]


def _send(mail: Mail, token: str, message: EmailMessage) -> None:
    connection = get_connection()
    try:
        connection.open()
    except (OSError, smtplib.SMTPException) as error:
        _again(mail, token, f"The mail server could not be reached ({type(error).__name__}).")
        return
    if not Mail.objects.filter(pk=mail.pk, lease_token=token).update(handed_at=timezone.now()):
        return  # the lease was lost
    try:
        connection.send_messages([message])
    except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused) as error:
        code = _smtp_code(error)
        Mail.objects.filter(pk=mail.pk, lease_token=token).update(handed_at=None)  # it was refused, so not taken
        if code >= PERMANENT:
            _done(mail, token, Mail.State.FAILED, f"The mail server refused it ({code}).")
        else:
            _again(mail, token, f"The mail server put it off ({code}).")
    except (OSError, smtplib.SMTPException) as error:
        _done(mail, token, Mail.State.UNSURE, f"The mail server's answer was lost ({type(error).__name__}).")
    else:
        _done(mail, token, Mail.State.SENT, "")
    finally:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            connection.close()


def _smtp_code(error: smtplib.SMTPException) -> int:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return max(code for code, _ in error.recipients.values())
    return int(error.smtp_code) if isinstance(error, smtplib.SMTPResponseException) else PERMANENT


def _done(mail: Mail, token: str, state: str, error: str) -> None:
    jobs.commit(Mail, mail.pk, token, due_at=None, state=state, done_at=timezone.now(), error=error)


def _again(mail: Mail, token: str, error: str) -> None:
    if mail.tries >= len(PAUSES):
        _done(mail, token, Mail.State.FAILED, error)
        return
    later = timezone.now() + dt.timedelta(seconds=PAUSES[mail.tries])
    jobs.commit(Mail, mail.pk, token, due_at=later, tries=F("tries") + 1, error=error)


def mail_failed(mail_id: int, *, reason: str) -> None:
    """Workers died of it three times: it is given up, the notices stand on the page."""
    state = (
        Mail.State.UNSURE if Mail.objects.filter(pk=mail_id, handed_at__isnull=False).exists() else Mail.State.FAILED
    )
    Mail.objects.filter(pk=mail_id).update(state=state, due_at=None, done_at=timezone.now(), error=reason[:200])


# -- webhooks


def delivery_work(*, delivery_id: int) -> None:
    """One try of a delivery, if it is due and nobody else is at it."""
    token = jobs.claim(Delivery, delivery_id, state=Delivery.State.WAITING)
    if token is None:
        return
    delivery = Delivery.objects.select_related("endpoint", "event").get(pk=delivery_id)
    with jobs.kept(Delivery, delivery_id, token):
        status, error = _posted(delivery)
    _judged(delivery, token, status, error)


def _posted(delivery: Delivery) -> tuple[int | None, str]:
    """The status of the answer and what is wrong with it; no fault: it was taken."""
    endpoint, body = delivery.endpoint, payload.body_of(delivery)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "vpms-webhook/1",
        "VPMS-Delivery": str(delivery.uid),
        sealing.SIGNATURE: sealing.signature(body, at=int(time.time()), keys=secrets_of(endpoint)),
    }
    try:
        status = outgoing.post(endpoint.url, body, headers)
    except outgoing.Refused as refused:
        return None, str(refused)
    if 200 <= status < 300:
        return status, ""
    if 300 <= status < 400:
        return status, "It answered with a redirect, which is not followed."
    return status, "It did not take the message."


def secrets_of(endpoint: Endpoint) -> list[str]:
    """The secret in use, and for a day the one before."""
    sealed = [endpoint.sealed_secret]
    if endpoint.sealed_before is not None and endpoint.before_until and endpoint.before_until > timezone.now():
        sealed.append(endpoint.sealed_before)
    return [sealing.unseal(bytes(each), tenant=endpoint.tenant) for each in sealed]


@transaction.atomic
def _judged(delivery: Delivery, token: str, status: int | None, error: str) -> None:
    """The try is written down, and what follows from it. With the lease lost nothing is kept."""
    now = timezone.now()
    changes: dict[str, Any] = {"tries": F("tries") + 1}
    due = None
    if not error:
        changes |= {"state": Delivery.State.DELIVERED, "done_at": now}
    elif delivery.tries >= len(PAUSES):
        changes |= {"state": Delivery.State.FAILED, "done_at": now}
    else:
        due = now + dt.timedelta(seconds=PAUSES[delivery.tries])
    if not jobs.commit(Delivery, delivery.pk, token, due_at=due, **changes):
        return
    Attempt.objects.create(delivery=delivery, status=status, error=error)
    if error:
        dead = services.endpoint_failed(endpoint=delivery.endpoint, most=MOST_FAILURES)
        if dead is not None:
            _alarmed(dead)
    else:
        Endpoint.objects.filter(pk=delivery.endpoint_id).update(failures=0)


def _alarmed(dead: Endpoint) -> None:
    """Of an organisation's webhook the operators see no more than what the record says of it."""
    host = outgoing.host_of(dead.url)
    where = f"/operator/audit/?subject=webhook:{dead.pk}" if dead.tenant else dead.page
    alerts.raise_("webhook.dead", key=f"webhook:{dead.pk}", link=where, receiver=host, count=dead.failures)


def delivery_failed(delivery_id: int, *, reason: str) -> None:
    """Workers died of it three times."""
    Delivery.objects.filter(pk=delivery_id).update(state=Delivery.State.FAILED, due_at=None, done_at=timezone.now())
    Attempt.objects.create(delivery_id=delivery_id, error=reason[:200])
