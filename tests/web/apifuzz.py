"""Calls of the API made from its OpenAPI document, fitting and unfitting ones, as each kind of person.

    python -m tests.web.apifuzz --cases 5000 --seed 1

Every call is made against the site itself and a test database, in a transaction that is taken back, so all calls meet
the same world. One JSON line is printed: the calls by status, and the findings: an answer of 5xx, or one that the
document does not describe. Exit 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
MOST_FINDINGS: Final = 40


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="names of operations, with commas between")
    args = parser.parse_args(argv)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    from django.test.utils import get_runner, setup_test_environment

    setup_test_environment()
    from django.conf import settings

    runner = get_runner(settings)(verbosity=0, interactive=False)
    databases = runner.setup_databases()
    try:
        report = fuzz(world(), cases=args.cases, seed=args.seed, only=args.only)
    finally:
        runner.teardown_databases(databases)
    print(json.dumps(report))
    return 1 if report["findings"] else 0


def world() -> dict[str, Any]:
    """Alice's VM runs on h1, Bob's start there is being negotiated; a token of each person, and the names in use."""
    from tests.conftest import make_cast
    from webapp.agreements.models import Agreement, Negotiation
    from webapp.classroom.models import Cell
    from webapp.classroom.services import table_prepare
    from webapp.ops import story
    from webapp.runs import services
    from webapp.runs.models import Run

    cast = make_cast()
    services.vm_start(by=cast.alice, vm=cast.a_db)
    story.drain()
    services.vm_start(by=cast.bob, vm=cast.b_web)
    story.drain()
    table_prepare()
    numbers = [*Negotiation.objects.values_list("pk", flat=True), *Agreement.objects.values_list("pk", flat=True)]
    return {
        **signed_in(cast),
        "number": sorted({*map(int, numbers)}),
        "run_id": list(Run.objects.values_list("pk", flat=True)),
        "cell_id": list(Cell.objects.values_list("pk", flat=True)[:3]),
    }


def signed_in(cast: Any) -> dict[str, Any]:
    """A token of each person, none for one who is not signed in, and the names that there are."""
    from webapp.accounts import tokens

    people = {"alice": cast.alice, "bob": cast.bob, "olga": cast.olga, "ines": cast.ines}
    secrets = {name: tokens.token_make(by=user, name="f", scope="manage", days=1)[1] for name, user in people.items()}
    return {"secrets": {**secrets, "nobody": ""}, "vms": ["a-db", "b-web"], "hosts": ["h1"]}


def real_places(path: str, places: dict[str, Any], there: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """What is generated for places of the address would nearly never exist; three times in four it does now."""
    found = dict(places)
    for name in places:
        known = there.get(name)
        if name == "name":
            known = there["hosts"] if path.startswith("/api/hosts") else there["vms"]
        elif name == "version":
            known = [1, 2]
        elif name == "wanted":
            known = ["pause", "resume", "cancel"]
        elif name == "case":
            known = ["nested", "plain"]
        elif name == "switch":
            known = ["page_sharing", "memory_protection"]
        if known and dice.random() < 0.75:
            found[name] = dice.choice(known)
    return found


def fuzz(there: dict[str, Any], *, cases: int, seed: int, only: str = "") -> dict[str, Any]:
    """Make the calls, spread over all operations, and half of them unfitting."""
    import schemathesis
    from django.core.signals import request_finished, request_started
    from django.core.wsgi import get_wsgi_application
    from django.db import close_old_connections
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis.core.failures import FailureGroup
    from schemathesis.generation import GenerationMode

    from webapp.api import api

    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(api.get_openapi_schema())))
    schema.app = get_wsgi_application()
    schemathesis.checks.load_all_checks()
    checks = [schemathesis.checks.CHECKS.get_one(name) for name in CHECKS]
    operations = [found.ok() for found in schema.get_all_operations()]
    operations = [found for found in operations if not only or found.definition.raw["operationId"] in only.split(",")]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    each = -(-cases // (len(operations) * len(modes)))
    dice = random.Random(seed)
    statuses: Counter[int] = Counter()
    findings: list[dict[str, Any]] = []

    def call(case: Any) -> None:
        who = dice.choice(list(there["secrets"]))
        case.path_parameters = real_places(case.operation.path, dict(case.path_parameters or {}), there, dice)
        case.headers.pop("Authorization", None)
        case.cookies.clear()
        secret = there["secrets"][who]
        response = taken_back(case, {"Authorization": f"Bearer {secret}"} if secret else {})
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as wrong:
            if len(findings) < MOST_FINDINGS:
                told = " | ".join(f"{type(each).__name__}: {each}"[:400] for each in wrong.exceptions)
                called = f"{response.status_code} {case.as_curl_command()}"[:500]
                findings.append({"who": who, "call": called, "wrong": told})

    signals = (request_started, request_finished)  # as in Django's own test client: one connection throughout
    for signal in signals:
        signal.disconnect(close_old_connections)
    for operation in operations:
        for mode in modes:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception:  # nothing unfitting can be said to it
                continue
            tried = settings(
                max_examples=each,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )(given(case=strategy)(lambda case: call(case)))
            try:
                seeded(seed)(tried)()
            except Exception as wrong:
                if "Unsatisfiable" not in type(wrong).__name__ and "nothing" not in str(wrong):
                    findings.append(
                        {"who": "", "call": operation.label, "wrong": f"{type(wrong).__name__}: {wrong}"[:600]}
                    )
    for signal in signals:
        signal.connect(close_old_connections)
    return {
        "fuzz": "api",
        "seed": seed,
        "cases": sum(statuses.values()),
        "operations": len(operations),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "findings": findings,
    }


def taken_back(case: Any, headers: dict[str, str]) -> Any:
    """The answer to the call, whose effects are undone."""
    from django.db import transaction

    with transaction.atomic():
        response = case.call(headers=headers)
        transaction.set_rollback(True)
    return response


if __name__ == "__main__":
    raise SystemExit(main())
