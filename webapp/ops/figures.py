"""The figures of /metrics. What can be read from the rows is read when it is asked for, so hosts, workers and runs that
are gone are gone here too. What only a process knows, its thread tells the database every few seconds: counts of all
processes on all machines are then one row, and any web process answers for all of them.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Count, F, Max, Min, Q, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from webapp import tally
from webapp.accounts.models import Attempts
from webapp.agreements.models import Agreement, Conflict, Negotiation
from webapp.audit.models import Head
from webapp.fleet.models import Host, Placement
from webapp.jobs import Job
from webapp.notices.models import Delivery, Mail
from webapp.ops.models import Figure, Heartbeat
from webapp.runs.engine import ENGINE_VERSION
from webapp.runs.models import Run
from webapp.tenants.models import VirtualMachine

log = logging.getLogger(__name__)

SHOWN_FOR: Final = dt.timedelta(seconds=60)  # how long a process that fell silent is still told of
LEVELS_FOR: Final = dt.timedelta(seconds=20)  # and what it last said of itself
LIVE: Final = (Run.State.RUNNING, Run.State.PAUSED)


class Series(NamedTuple):
    """One line of the list of what is told: its type, what it says, its labels."""

    kind: str  # gauge, counter or histogram
    says: str
    labels: tuple[str, ...] = ()


SERIES: Final[dict[str, Series]] = {
    # read from the database when it is asked for
    "vpms_build": Series("gauge", "1, with the version of the engine", ("engine",)),
    "vpms_hosts": Series("gauge", "Hosts registered"),
    "vpms_vms": Series("gauge", "VMs by state", ("state",)),
    "vpms_host_vms": Series("gauge", "VMs placed on the host", ("host",)),
    "vpms_runs": Series("gauge", "Runs by state", ("state",)),
    "vpms_host_run": Series("gauge", "1 while the host's run is running, 0 while it is paused", ("host",)),
    "vpms_host_violations": Series("gauge", "Violations that stand on a host with a live run", ("host",)),
    "vpms_violations": Series("gauge", "Violations that stand on all hosts with a live run"),
    "vpms_engine_references_total": Series("counter", "Memory references executed by the engine, in all runs"),
    "vpms_slices_total": Series("counter", "Slices of runs done"),
    "vpms_jobs_due": Series("gauge", "Work that is due and waits for a worker, by kind", ("kind",)),
    "vpms_jobs_leased": Series("gauge", "Work that a worker has in hand, by kind", ("kind",)),
    "vpms_queue_age_seconds": Series("gauge", "How long the oldest work of the kind has waited", ("kind",)),
    "vpms_processes": Series("gauge", "Processes with a sign of life within 10 s, by kind", ("kind",)),
    "vpms_heartbeat_age_seconds": Series(
        "gauge", "Age of a process's last sign of life; gone after 60 s", ("process",)
    ),
    "vpms_negotiations": Series("gauge", "Negotiations by state", ("state",)),
    "vpms_agreements_in_force": Series("gauge", "Agreements in force"),
    "vpms_conflicts_open": Series("gauge", "Open conflicts by code", ("code",)),
    "vpms_conflicts_total": Series("counter", "Conflicts recognised so far, by code", ("code",)),
    "vpms_audit_entries_total": Series("counter", "Entries of the audit log: the position of its head"),
    "vpms_sign_ins_delayed": Series("gauge", "Accounts and addresses that must wait before the next try"),
    "vpms_mails": Series("gauge", "E-mails by state", ("state",)),
    "vpms_deliveries": Series("gauge", "Webhook deliveries by state", ("state",)),
    # told by processes that live
    "vpms_sockets": Series("gauge", "Open websockets of all web processes"),
    "vpms_hub_connected": Series("gauge", "Web processes that follow the live streams"),
    # counted by processes
    "vpms_http_requests_total": Series(
        "counter", "Answers by name of the route and class of status", ("route", "status")
    ),
    "vpms_http_seconds": Series("histogram", "Seconds that an answer took"),
    "vpms_slice_seconds": Series("histogram", "Seconds that a slice of a run took"),
    "vpms_negotiation_step_seconds": Series("histogram", "Seconds that a step of a negotiation took"),
    "vpms_hub_lag_seconds": Series("histogram", "Seconds from a hint to the frames in the mailboxes"),
    "vpms_frames_published_total": Series("counter", "Frames of runs that were published"),
    "vpms_mailbox_overwrites_total": Series("counter", "Frames that a newer one replaced before they were sent"),
    "vpms_resyncs_total": Series("counter", "Answers to pages that subscribe or come back, by kind", ("kind",)),
    "vpms_sends_timed_out_total": Series("counter", "Sockets closed because their reader was too slow"),
    "vpms_jobs_unclaimed_total": Series("counter", "Messages that came twice or too late, by kind", ("kind",)),
    "vpms_leases_lost_total": Series("counter", "Results thrown away because the lease was lost, by kind", ("kind",)),
    "vpms_jobs_returned_total": Series("counter", "Work that the keeper took back from lost workers", ("kind",)),
    "vpms_jobs_given_up_total": Series("counter", "Work given up after three attempts without progress", ("kind",)),
    "vpms_quota_refused_total": Series("counter", "Refusals because a quota was used up, by quota", ("kind",)),
    "vpms_sign_ins_failed_total": Series("counter", "Failed sign-ins"),
    "vpms_sign_ins_held_back_total": Series("counter", "Tries to sign in that came before their delay was over"),
}


# -- telling the database


def process() -> str:
    return f"{os.getpid()}@{socket.gethostname()}"[:64]


def begin() -> None:
    """Tell from now on, in a thread of its own, for as long as the process lives."""
    threading.Thread(target=_tell_on, name="figures", daemon=True).start()


def _tell_on() -> None:
    while True:
        time.sleep(settings.METRICS_SECONDS)
        try:
            tell()
        except Exception:  # counting must never end what it counts
            log.exception("the figures of this process could not be told")
        finally:
            connection.close()


def tell() -> None:
    """Add what this process counted to the counts of all, and say how things stand in it."""
    counts, levels = tally.take()
    now = timezone.now()
    try:
        with transaction.atomic():
            for key, value in sorted(counts.items()):
                row = Figure.objects.filter(key=_text(key), process="")
                if not row.update(value=F("value") + value, at=now):
                    Figure.objects.get_or_create(key=_text(key), process="", defaults={"at": now})
                    row.update(value=F("value") + value)
            for key, value in levels.items():
                Figure.objects.update_or_create(key=_text(key), process=process(), defaults={"value": value, "at": now})
            Figure.objects.exclude(process="").filter(at__lt=now - SHOWN_FOR).delete()
    except DatabaseError as error:
        tally.give_back(counts)
        log.warning("the figures are told later: %s", type(error).__name__)


def _text(key: tally.Key) -> str:
    return json.dumps([key[0], dict(key[1])], separators=(",", ":"))


# -- asking


def text() -> bytes:
    """All figures as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(Figures())
    return bytes(generate_latest(registry))


class Figures:
    """Asks the database once for each scrape."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        values = {**counted(), **read()}
        for name, series in SERIES.items():
            if series.kind == "histogram":
                yield _histogram(name, series, values)
                continue
            family = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
            metric = family(name, series.says, labels=series.labels)
            for labels, value in sorted(values.get(name, {}).items()):
                metric.add_metric(list(labels), value)
            yield metric


Values = dict[str, dict[tuple[str, ...], float]]  # by series, then by the values of its labels in their order


def _histogram(name: str, series: Series, values: Values) -> Metric:
    found, total, buckets = values.get(f"{name}_bucket", {}), 0.0, []
    for end in [*map(str, tally.BUCKETS), "+Inf"]:
        total += found.get((end,), 0)
        buckets.append((end, total))
    metric = HistogramMetricFamily(name, series.says)
    metric.add_metric([], buckets, values.get(f"{name}_sum", {}).get((), 0.0))
    return metric


def counted() -> Values:
    """What the processes told: counts of all, and levels of those that live."""
    found: Values = defaultdict(dict)
    fresh = Q(process="") | Q(at__gt=timezone.now() - LEVELS_FOR)
    for key, value in Figure.objects.filter(fresh).values_list("key", "value"):
        name, labels = json.loads(key)
        series = SERIES.get(name)
        order = series.labels if series else tuple(labels)
        at = tuple(str(labels.get(label, "")) for label in order)
        found[name][at] = found[name].get(at, 0.0) + value
    for name, series in SERIES.items():
        if not series.labels and series.kind != "histogram":
            found[name].setdefault((), 0.0)
    return found


def _by(model: Any, field: str, **where: Any) -> dict[tuple[str, ...], float]:
    rows = model._default_manager.filter(**where).order_by().values(field).annotate(n=Count("pk"))
    return {(str(row[field]),): row["n"] for row in rows}


def read() -> Values:
    """What the rows say now."""
    now = timezone.now()
    live = list(Run.objects.filter(state__in=LIVE).values_list("host__name", "state", "wrong"))
    done = Run.objects.aggregate(references=Sum("accesses"), slices=Sum("slice_no"))
    beats = [
        (name, (now - at).total_seconds())
        for name, at in Heartbeat.objects.filter(at__gt=now - SHOWN_FOR).values_list("name", "at")
        if not name.startswith("web:")  # written by /readyz itself; web processes tell of their hub
    ]
    placed = Placement.objects.order_by().values("host__name").annotate(n=Count("pk"))
    kinds: dict[tuple[str, ...], float] = {("keeper",): 0, ("worker",): 0}
    for name, age in beats:
        kind = (name.partition(":")[0],)
        kinds[kind] = kinds.get(kind, 0) + (age < 10)
    return {
        "vpms_build": {(str(ENGINE_VERSION),): 1},
        "vpms_hosts": {(): Host.objects.count()},
        "vpms_vms": _by(VirtualMachine, "state", deleted_at__isnull=True),
        "vpms_host_vms": {(row["host__name"],): row["n"] for row in placed},
        "vpms_runs": _by(Run, "state"),
        "vpms_host_run": {(host,): float(state == Run.State.RUNNING) for host, state, _ in live},
        "vpms_host_violations": {(host,): wrong for host, _, wrong in live},
        "vpms_violations": {(): sum(wrong for _, _, wrong in live)},
        "vpms_engine_references_total": {(): done["references"] or 0},
        "vpms_slices_total": {(): done["slices"] or 0},
        **_queue(now),
        "vpms_processes": kinds,
        "vpms_heartbeat_age_seconds": {(name,): round(age, 3) for name, age in beats},
        "vpms_negotiations": _by(Negotiation, "state"),
        "vpms_agreements_in_force": {(): Agreement.objects.filter(in_force=True).count()},
        "vpms_conflicts_open": _by(Conflict, "code", closed_at__isnull=True),
        "vpms_conflicts_total": _by(Conflict, "code"),
        "vpms_audit_entries_total": {(): Head.objects.aggregate(n=Max("length"))["n"] or 0},
        "vpms_sign_ins_delayed": {(): Attempts.objects.filter(blocked_until__gt=now).count()},
        "vpms_mails": _by(Mail, "state"),
        "vpms_deliveries": _by(Delivery, "state"),
    }


def _queue(now: dt.datetime) -> Values:
    """Of every kind of work: how much waits, how much is in hand, and since when the oldest waits."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    found: Values = {"vpms_jobs_due": {}, "vpms_jobs_leased": {}, "vpms_queue_age_seconds": {}}
    for model in Job.__subclasses__():
        kind = (model.__name__.lower(),)
        row = model._default_manager.filter(due_at__lte=now).aggregate(
            due=Count("pk", filter=free), leased=Count("pk", filter=~free), oldest=Min("due_at", filter=free)
        )
        found["vpms_jobs_due"][kind] = row["due"]
        found["vpms_jobs_leased"][kind] = row["leased"]
        waited = (now - row["oldest"]).total_seconds() if row["oldest"] else 0.0
        found["vpms_queue_age_seconds"][kind] = round(waited, 3)
    return found
