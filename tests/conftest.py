"""The cast: alice and bob act for two tenants that share host h1, olga operates it, ines teaches."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from django.db.models import Model
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does: that is measured by the benches.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_use_migrations: bool, django_db_blocker: Any) -> None:
    """The tables were made from the models (pyproject.toml): note the migrations as done, as a real database has it."""
    if django_db_use_migrations:
        return
    from django.conf import settings
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader
    from django.db.migrations.recorder import MigrationRecorder

    settings.MIGRATION_MODULES = {}  # pytest-django hid them all
    with django_db_blocker.unblock():
        recorder = MigrationRecorder(connection)
        recorder.ensure_schema()
        for app, name in MigrationLoader(None).disk_migrations:
            recorder.record_applied(app, name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """File by file, but that all that look at one demo by a browser are one piece: a second demo beside it, which most
    of the time nobody looks at, would take a tenth of the machine."""
    from xdist.scheduler import LoadFileScheduling

    class OneDemo(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            browser = nodeid.startswith("tests/e2e/") and not nodeid.startswith("tests/e2e/test_process.py")
            return "tests/e2e" if browser else str(super()._split_scope(nodeid))

    return OneDemo(config, log)


HOST: dict[str, Any] = {
    "format": "vpms-host/1",
    "host": "h1",
    "zone": "z1",
    "attested": True,
    "capabilities": {"memory_protection": ["hsvm", "none"], "hugepages": ["2m", "4k"]},
    "capacity": {
        "cores": 2,
        "memory_mib": 64,
        "hugepage_mib": 0,
        "cache_ways": 12,
        "bandwidth_pct": 100,
        "key_slots": 0,
    },
    "operator": {
        "law": {"audit_level": ["full", "metadata"]},
        "offers": {},
        "actions": ["reclaim"],
        "maintenance_min": 0,
        "preferences": None,
        "prices": {"relocate": 5, "dedicated_host": 40},
    },
    "running": [],
    "departed": [],
    "agreement": None,
}

# Two wishes that clash over what the whole host shares, and can be settled. Alice leaves question 3 open: there the
# settlement changes something for her VM, so she is asked too. (Were nothing changed, her delegate would accept.)
CAREFUL = {
    "q1": {"answer": "nobody", "strength": "must"},
    "q2": {"answer": "never", "strength": "prefer"},
    "q4": {"answer": "no", "strength": "prefer"},
    "q7": {"answer": "protection", "strength": "prefer"},
}
QUICK = {
    "q2": {"answer": "anyone", "strength": "prefer"},
    "q3": {"answer": "anyone", "strength": "prefer"},
    "q4": {"answer": "yes", "strength": "prefer"},
    "q7": {"answer": "speed", "strength": "prefer"},
}


def wishes(
    answers: dict[str, dict[str, str]], *, vm: str, tenant: str, version: int = 1, **more: Any
) -> dict[str, Any]:
    """A policy document for these answers on h1; people decide."""
    from webapp.vpms import documents
    from webapp.vpms.answers import document_from_answers

    document = document_from_answers(
        answers,
        vm=vm,
        tenant=tenant,
        version=version,
        size={"vcpus": 1, "memory_mib": 8},
        delegate={"mode": "human", "deadline_s": 3600, "onTimeout": "reject"},
        disagreement={"kind": "do-not-start", "utility": 200, "budget": 0},
        offers=documents.offered_values(documents.read_host(HOST), {"vcpus": 1, "memory_mib": 8}),
    )
    return {**document, **more}


@dataclass
class Cast:
    alice: Any
    bob: Any
    olga: Any
    ines: Any
    alpha: Any
    beta: Any
    h1: Any
    a_db: Any
    b_web: Any


@pytest.fixture
def cast(db: None) -> Cast:
    """Everybody with role, VM, wishes and place; nothing runs yet."""
    return again("cast", make_cast)


@pytest.fixture
def live_cast(transactional_db: None) -> Iterator[Cast]:
    """The same, really committed, for tests with threads."""
    yield make_cast()


Rows = list[tuple[str, list[str], list[tuple[Any, ...]]]]  # table, columns, rows
_written: dict[str, tuple[Rows, Any]] = {}  # by name: what was written the first time, and what was made, without rows


def again(name: str, make: Callable[[], Any]) -> Any:
    """What make() makes, for a thousand tests: the first one's rows are written again as they are, in a twentieth of
    its time. Only where nothing could be in their way: on SQLite, before anybody has an account."""
    from django.db import connection

    from webapp.accounts.models import User

    if connection.vendor != "sqlite" or User.objects.exists():
        return make()
    if name not in _written:
        before = {table for table, _, _ in rows_now()}
        made = make()
        fresh = [row for row in rows_now() if row[0] not in before]
        _written[name] = (fresh, with_each(made, Model, lambda row: Row(type(row), row.pk)))
        return made
    rows_of, made = _written[name]
    with connection.cursor() as cursor:
        for table, columns, rows in rows_of:
            names = ", ".join(f'"{name}"' for name in columns)
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({places})', rows)
    return with_each(made, Row, lambda row: row.model._default_manager.get(pk=row.pk))


class Row(NamedTuple):
    model: Any
    pk: Any


def with_each(thing: Any, leaf: type, change: Callable[[Any], Any]) -> Any:
    """A copy of the thing, in whose attributes and dicts everything of this type is changed."""
    if isinstance(thing, leaf):
        return change(thing)
    if isinstance(thing, dict):
        return {key: with_each(value, leaf, change) for key, value in thing.items()}
    if hasattr(thing, "__dict__"):
        changed = copy.copy(thing)
        changed.__dict__.update(with_each(vars(thing), leaf, change))
        return changed
    return thing


def rows_now() -> Rows:
    """All rows of all tables of the models, each table after those to which it points or not: checked at commit."""
    from django.apps import apps
    from django.db import connection

    found: Rows = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            cursor.execute(f'SELECT * FROM "{model._meta.db_table}"')
            rows = cursor.fetchall()
            if rows:
                found.append((model._meta.db_table, [column[0] for column in cursor.description], rows))
    return found


def make_cast() -> Cast:
    from webapp.accounts.models import User
    from webapp.fleet.services import host_create, placement_set
    from webapp.tenants.services import membership_add, policy_save, tenant_create, vm_create

    people = {name: User.objects.create(username=name) for name in ("alice", "bob", "olga", "ines")}
    alpha = tenant_create(by=None, slug="alpha", name="Alpha Clinic")
    beta = tenant_create(by=None, slug="beta", name="Beta Shop")
    membership_add(by=None, user=people["alice"], role="owner", tenant=alpha)
    membership_add(by=None, user=people["bob"], role="owner", tenant=beta)
    membership_add(by=None, user=people["olga"], role="operator")
    membership_add(by=None, user=people["ines"], role="teacher")
    h1 = host_create(by=people["olga"], document=HOST)
    a_db = vm_create(by=people["alice"], tenant=alpha, name="a-db", trace="sqlite3")
    b_web = vm_create(by=people["bob"], tenant=beta, name="b-web", trace="gzip")
    for vm, by, answers in ((a_db, people["alice"], CAREFUL), (b_web, people["bob"], QUICK)):
        policy_save(by=by, vm=vm, document=wishes(answers, vm=vm.name, tenant=vm.tenant.slug))
        placement_set(by=by, vm=vm, host=h1)
    return Cast(**people, alpha=alpha, beta=beta, h1=h1, a_db=a_db, b_web=b_web)
