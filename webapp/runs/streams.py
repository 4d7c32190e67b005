"""What of a run can be watched live, by whom, and where the hub gets it: pictures, the log, the pages' own changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from webapp.live.topics import Head, register, register_stream
from webapp.runs import fleet_wall, selectors, services, wall
from webapp.runs.engine import wire
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR, RunPicture


class RunSource:
    """Runs for the hub. `heads`, `open` and `load` ask the database and are called in threads; pictures never do."""

    def __init__(self) -> None:
        self._tenant_of: dict[str, str] = {}
        self._slots: dict[int, dict[str, frozenset[int]]] = {}

    def _learn(self, runs: Sequence[int]) -> None:
        self._tenant_of.update(selectors.tenants_on(runs=runs))
        for run in runs:
            self._slots[run] = selectors.slots_of(run=run)

    def heads(self, runs: Sequence[int]) -> dict[int, Head]:
        self._learn(runs)
        return {
            pk: Head(seq, state) for pk, seq, state in Run.objects.filter(pk__in=runs).values_list("pk", "seq", "state")
        }

    def picture(self, run: int, state: wire.State) -> RunPicture:
        """The state with what is known of whose VMs it shows."""
        self._learn([run])

        def slots_of(slug: str) -> frozenset[int]:
            return self._slots.get(run, {}).get(slug, frozenset())

        return RunPicture(state, slots_of=slots_of, tenant_of=self._tenant_of)

    def open(self, run: int, state: bytes) -> RunPicture:
        return self.picture(run, wire.State.from_bytes(state))

    def stored(self, run: int) -> RunPicture | None:
        """The picture of the newest checkpoint: a few seconds old, and read without running the engine."""
        picture = selectors.picture_stored(run=run)
        return self.open(run, picture) if picture is not None else None

    def load(self, run: int) -> RunPicture | None:
        state = services.state_at_head(run_id=run)
        return self.picture(run, state) if state is not None else None


def authorise_run(user: Any, ident: str) -> str | None:
    return selectors.view_of(user=user, run_id=ident)


def authorise_tlb(user: Any, ident: str) -> str | None:
    """Which ways of the TLB are in use tells of the neighbours, so only the operator sees the grid."""
    return OPERATOR if selectors.view_of(user=user, run_id=ident) == OPERATOR else None


def authorise_tenant(user: Any, ident: str) -> str | None:
    return ident if user.is_authenticated and ident in user.tenant_slugs else None


def authorise_fleet(user: Any, ident: str) -> str | None:
    return OPERATOR if user.is_authenticated and user.sees_site else None


def log_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """The run's events newer than `last` in this view, numbered among what the view may see."""
    events = selectors.log_of(run_id=int(ident), view=view, after=last or 0)
    if not events:
        return []
    kind = "keyframe" if last is None else "delta"
    newest = events[-1]
    message = {
        "topic": f"run/{ident}/log",
        "kind": kind,
        "seq": newest["number"],
        "base": last or 0,
        "op": newest["op"],
    }
    return [{**message, "data": {"events": events}}]


def moved(topic: str, seq: int, last: int | None) -> list[dict[str, Any]]:
    """For pages that fetch themselves again when something that they show has moved."""
    if last is not None and seq <= last:
        return []
    return [{"topic": topic, "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": {}}]


def tenant_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    return moved(f"tenant/{ident}", selectors.moved_for(tenant=ident), last)


def fleet_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    return moved("fleet", selectors.moved_for(tenant=None), last)


source = RunSource()


def register_all() -> None:
    register_stream("run/{}/map", part="map", authorise=authorise_run, source=source)
    register_stream("run/{}/counters", part="counters", authorise=authorise_run, source=source)
    register_stream("run/{}/tlb", part="tlb", authorise=authorise_tlb, source=source)
    register("run/{}/log", authorise=authorise_run, messages=log_messages)
    register("tenant/{}", authorise=authorise_tenant, messages=tenant_messages)
    register(f"{wall.STATES_TOPIC}!", authorise=authorise_fleet, messages=fleet_wall.state_messages)
    register(wall.CELLS_TOPIC.rstrip("/"), authorise=authorise_fleet, messages=fleet_wall.cell_messages)
    register("fleet!", authorise=authorise_fleet, messages=fleet_messages)
