"""Conflicts as rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db import transaction

from webapp.agreements.models import Conflict, Negotiation
from webapp.audit import services as audit
from webapp.fleet.models import Host
from webapp.live import publish
from webapp.notices import alerts
from webapp.tenants.models import VirtualMachine
from webapp.vpms.conflicts import NAMES

BREACH: Final = "C26"  # what is in force was lost and could not be refused beforehand


@transaction.atomic
def conflict_record(
    *,
    host: Host,
    vms: Iterable[VirtualMachine],
    code: str,
    severity: str,
    switch: str,
    text: str,
    evidence: dict[str, Any],
    trigger: str = "run",
    negotiation: Negotiation | None = None,
    name: str = "",
) -> Conflict:
    """A conflict that was recognised, with the entry of the log that says so. `text` names no other tenant.

    Found while running it is dynamic and carries the engine's evidence; found in documents it is static. The same
    refusal once more is the same open conflict with newer evidence: the log has an entry for each.
    """
    concerned = list(vms)
    kind = "dynamic" if trigger == "run" else "static"
    conflict = _open_already(host, concerned, kind=kind, code=code, severity=severity, switch=switch, text=text)
    if conflict is None:
        conflict = Conflict.objects.create(
            host=host,
            negotiation=negotiation,
            code=code,
            name=name or NAMES[code],
            kind=kind,
            trigger=trigger,
            severity=severity,
            switch=switch,
            text=text,
            evidence=evidence,
        )
        conflict.vms.set(concerned)
        if code == BREACH:
            link = "/operator/conflicts/"
            alerts.raise_("agreement.breached", key=f"breach:{conflict.pk}", link=link, host=host.name)
    else:
        Conflict.objects.filter(pk=conflict.pk).update(evidence=evidence)
        conflict.evidence = evidence
    slugs = sorted({vm.tenant.slug for vm in concerned})
    data = {"code": code, "name": conflict.name, "severity": severity, "switch": switch, "text": text}
    audit.record(
        by=None, type="conflict", subject=f"host:{host.name}", data={**data, "evidence": evidence}, audience=slugs
    )
    for slug in slugs:
        publish.changed(f"tenant/{slug}")
    publish.changed("fleet")
    return conflict


def _open_already(host: Host, vms: list[VirtualMachine], *, kind: str, **told: str) -> Conflict | None:
    """The open conflict that says exactly this of one VM while it runs, if there is one."""
    if kind != "dynamic" or len(vms) != 1:
        return None
    found = Conflict.objects.select_for_update().filter(host=host, kind=kind, closed_at__isnull=True, **told)
    return found.filter(vms=vms[0]).first()
