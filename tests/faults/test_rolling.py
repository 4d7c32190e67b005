"""While a release is rolled out old and new code work side by side on one database and one broker: what either does not
know it leaves to the other, and counts it as no failure."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from tests.faults.conftest import Stack, run_to_end, start_run
from webapp import jobs
from webapp.agreements.models import Negotiation
from webapp.runs import engine, services
from webapp.runs.models import Act, Run

BEFORE = [("runs", "0005_job_worker"), ("agreements", "0008_job_worker")]  # what the release before ends with
# The last migration of each app of which a release was made; what follows must let the code before it go on.
RELEASED = {
    "accounts": 5, "agreements": 8, "audit": 2, "classroom": 5, "fleet": 4, "notices": 5, "ops": 6, "runs": 5,
    "tenants": 4,
}  # fmt: skip
HARMLESS = (
    migrations.CreateModel, migrations.AddIndex, migrations.RunPython, migrations.AlterModelOptions,
    migrations.AlterModelManagers, migrations.SeparateDatabaseAndState,
)  # fmt: skip


def before() -> Any:
    """The models as the release before has them in its code."""
    return MigrationLoader(connection).project_state(BEFORE).apps


def due(run: Run) -> Run:
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
    return run


@pytest.mark.django_db
@pytest.mark.long
def test_a_row_that_old_code_writes_beside_the_new_tables_is_played_to_its_end(cast: Any) -> None:
    pattern = start_run(cast, length=2_000_000)
    acts = list(Act.objects.filter(run=pattern).values("vm_id", "kind", "slice_no", "data"))
    Run.objects.all().delete()
    old = before().get_model("runs", "Run")
    assert not {"shape", "tenant"} & {field.name for field in old._meta.get_fields()}
    made = old.objects.create(
        host_id=cast.h1.pk, scenario=pattern.scenario, engine_version=engine.ENGINE_VERSION, length=2_000_000,
        due_at=timezone.now(),
    )  # fmt: skip
    before().get_model("runs", "Act").objects.bulk_create(
        [before().get_model("runs", "Act")(run_id=made.pk, **act) for act in acts]
    )
    done = run_to_end(Run.objects.get(pk=made.pk))
    assert (done.state, done.shape, done.tenant_id) == ("done", 1, None) and len(done.digest) == 64


@pytest.mark.django_db
def test_old_code_reads_and_changes_what_new_code_wrote(cast: Any) -> None:
    run = start_run(cast)
    Run.objects.filter(pk=run.pk).update(tenant=cast.alpha)
    old = before().get_model("runs", "Run").objects.get(pk=run.pk)
    old.wanted = "pause"
    old.save()
    run.refresh_from_db()
    assert (run.wanted, run.tenant) == ("pause", cast.alpha)  # and lost nothing of what it does not know
    negotiation = Negotiation.objects.create(host=cast.h1, requester=cast.a_db, requested_by=cast.alice)
    assert before().get_model("agreements", "Negotiation").objects.filter(pk=negotiation.pk).update(round=1) == 1


@pytest.mark.django_db(transaction=True)
def test_columns_that_a_newer_release_added_are_in_nobodys_way(live_cast: Any) -> None:
    run = start_run(live_cast, length=2_000_000)
    extra = models.IntegerField(default=7, db_default=7)
    extra.set_attributes_from_name("of_tomorrow")
    extra.model = Run  # which does not know of it
    with connection.schema_editor() as editor:
        editor.add_field(Run, extra)
    try:
        assert run_to_end(run).state == "done"
    finally:
        with connection.schema_editor() as editor:
            editor.remove_field(Run, extra)


@pytest.mark.django_db
def test_a_run_of_a_newer_shape_waits_for_who_can_read_it(cast: Any, monkeypatch: Any) -> None:
    run = start_run(cast, length=2_000_000)
    Run.objects.update(shape=jobs.SHAPE + 1)
    Act.objects.create(run=run, vm=cast.a_db, kind="of_tomorrow", slice_no=0, data={"of": {"tomorrow": 1}})
    for _ in range(2 * jobs.MAX_ATTEMPTS):
        services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.lease_token, run.slice_no) == ("running", 0, "", 0)
    Act.objects.filter(kind="of_tomorrow").delete()
    monkeypatch.setattr(jobs, "SHAPE", jobs.SHAPE + 1)  # the newer worker
    assert run_to_end(run).state == "done"


@pytest.mark.django_db
def test_a_run_of_another_engine_is_left_as_long_as_somebody_may_have_it(cast: Any) -> None:
    run = start_run(cast)
    Run.objects.update(engine_version="9.9.9")
    services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert (run.state, run.attempts, run.lease_token) == ("running", 0, "")
    Run.objects.update(due_at=timezone.now() - dt.timedelta(seconds=services.OTHER_ENGINE_SECONDS + 1))
    services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert run.state == "failed" and "begun by engine 9.9.9" in run.reason


@pytest.mark.django_db
def test_a_run_of_another_engine_can_be_cancelled_by_any_worker(cast: Any) -> None:
    run = start_run(cast)
    Run.objects.update(engine_version="9.9.9", wanted="cancel")
    services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert run.state == "cancelled"


@pytest.mark.django_db(transaction=True)
@pytest.mark.long
def test_tasks_that_a_worker_does_not_know_do_it_no_harm_and_fail_nobody(live_cast: Any, stack: Stack) -> None:
    from webapp.celery import app

    run = start_run(live_cast, length=2_000_000)
    Run.objects.update(due_at=None)
    app.conf.broker_url = stack.environment["HSVM_REDIS"].replace("unix://", "redis+socket://")
    app._pool = app.amqp._producer_pool = None
    for queue in ("slices", "policy", "house"):
        app.send_task("webapp.runs.tasks.of_tomorrow", args=[run.pk], queue=queue)
        app.send_task("webapp.runs.tasks.run_slice", args=[run.pk, 0, {"of": "tomorrow"}], queue=queue)
    stack.start("worker")
    stack.start("keeper")
    due(run)

    def over() -> bool:
        run.refresh_from_db()
        return run.state != "running"

    stack.until(over)
    assert (run.state, run.slice_no) == ("done", 2)
    assert "of_tomorrow" in stack.log()  # it was met


def after_releases() -> list[tuple[str, Any]]:
    loader = MigrationLoader(connection)
    return [
        (f"{app}.{name}", operation)
        for (app, name), migration in sorted(loader.disk_migrations.items())
        if app in RELEASED and int(name[:4]) > RELEASED[app]
        for operation in migration.operations
    ]


@pytest.mark.django_db
def test_migrations_since_the_release_let_its_code_go_on() -> None:
    """It inserts without the columns that it does not know, and still reads those that it knows."""
    assert set(RELEASED) <= {app.label for app in apps.get_app_configs()}
    wrong = []
    for where, operation in after_releases():
        if isinstance(operation, migrations.AddField):
            field = operation.field
            free = field.null or field.db_default is not models.NOT_PROVIDED or field.many_to_many
            wrong += [] if free else [f"{where}: {operation.name} has neither null nor db_default"]
        elif not isinstance(operation, HARMLESS):
            wrong.append(f"{where}: {type(operation).__name__} takes away or narrows what the release before uses")
    assert not wrong, "\n".join(wrong)
