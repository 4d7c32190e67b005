"""Everything that a page does or shows has an operation of the API beside it; the document of the API is complete."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.conftest import Cast
from tests.web.test_isolation import filled, patterns
from webapp.api import api
from webapp.rest.codes import CODES
from webapp.rest.document import UNSAFE, VERSIONED

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT: dict[str, Any] = api.get_openapi_schema()
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
# Every route of a page by its name: the operations that do and tell the same, or after `-` why there is none. After
# `!`: the page acts, and why no program may do the same. A lost token must never take the account with it.
TWINS = {
    "landing": "- words for people",
    "guide": "! words for people, and what of them was seen",
    "help": "- words for people",
    "styleguide": "- the parts of pages, for those who build them",
    "demo": "- a film for people; its data is the file below",
    "demo-recording": "- the file itself, open to everybody",
    "healthz": "- for programs as it is",
    "readyz": "- for programs as it is",
    "metrics": "- for programs as it is",
    "live-schema": "- for programs as it is",
    "document-schema": "- for programs as it is",
    "webhook-schema": "- for programs as it is",
    "live-newest": "- for programs as it is: the socket's frames by a plain request",
    "api-docs": "- the API in words",
    "api-errors": "- the API in words",
    "sign-in": "! a program signs in by a token",
    "second-step": "! a program signs in by a token, which a person made after this step",
    "openid_connect_login": "! a person signs in elsewhere, in a browser",
    "openid_connect_callback": "- where the browser comes back to from there",
    "sign-out": "token_revoke session_end",
    "theme": "! how pages look in this browser",
    "language": "! how pages read in this browser; of mails: account_put",
    "organisation-choose": "organisation_list",  # a choice for the pages of one sign-in; operations name it each time
    "home": "account_get",
    "account": "account_get account_put",  # the e-mail address is a way back in: changed on the page only
    "email-confirm": "! follows a link that came by mail; the address is a way back in",
    "account-confirm": "! proves that a person is there",
    "account-password": "! changes what opens the account",
    "password-forgotten": "! changes what opens the account, by mail",
    "password-new": "! changes what opens the account, by a link that came by mail",
    "account-factors": "- what opens the account; its numbers are in data_get",
    "account-factor-app": "! changes what opens the account",
    "account-factor-key": "! changes what opens the account, with a key in a person's hand",
    "account-factor-remove": "! changes what opens the account",
    "account-recovery": "! tells codes that open the account",
    "account-elsewhere-part": "! changes what opens the account",
    "account-sessions": "session_list session_end session_end_others",
    "account-data": "data_get",
    "account-delete": "! cannot be taken back: a person types the account's name",
    "organisation-delete": "! cannot be taken back: an owner types the organisation's name",
    "organisation-new": "organisation_make site_organisation_list",
    "people": "member_list invitation_list invitation_send quota_get",
    "people-change": "member_put member_delete invitation_delete factor_demand",
    "site-people": "site_member_list site_invitation_list site_invitation_send",
    "site-people-change": "site_member_put site_member_delete site_invitation_delete",
    "invitation": "! follows a link that came by mail, and makes the account",
    "notices": "notice_list",
    "notices-bell": "unread_get",
    "notices-read": "notice_read",
    "notice-choices": "choice_list choice_put",
    "webhooks": "endpoint_list endpoint_post",
    "webhook": "endpoint_list delivery_list",
    "webhook-act": "endpoint_put endpoint_delete endpoint_secret endpoint_test",
    "site-webhooks": "endpoint_list endpoint_post",
    "site-webhook": "endpoint_list delivery_list",
    "site-webhook-act": "endpoint_put endpoint_delete endpoint_secret endpoint_test",
    "alerts": "alert_list",
    "alert": "alert_get audit_list",
    "alert-act": "alert_acknowledge alert_hand_over alert_silence alert_lift alert_resolve",
    "alert-test": "alert_try",
    "alert-strip": "alert_list",
    "alert-badge": "alert_list",
    "runbooks": "runbook_list",
    "lab-act": "lab_get lab_check lab_draft_put lab_attempt_make",
    "lab-hint": "lab_hint",
    "lab-task": "lab_get",
    "lab-attempt": "lab_attempt_get",
    "lab-replay": "lab_replay_get",
    "policy-act": "game_open game_seat game_get",
    "policy-game-act": "game_change",
    "policy-wall": "game_desk",
    "policy-table": "table_get",
    "policy-claim": "table_claim",
    "policy-answer": "table_answer",
    "drills": "drill_list drill_plan_list drill_now drill_plan_make",
    "drill": "drill_detail",
    "drill-schedule-act": "drill_plan_put drill_plan_delete drill_now",
    "tokens": "token_list token_make",
    "token-revoke": "token_revoke",
    "tenant-audit": "audit_list type_list audit_verify",
    "kiosk": "wall_list playlist_list",
    "kiosk-lock": "! keeps this browser's session on the screen",
    "kiosk-leave": "! lets this browser's session go again",
    "playlists": "playlist_list playlist_put",
    "playlist-change": "playlist_token playlist_delete",
    "wall": "wall_list level_list",
    "wall-seen": "wall_seen",
    "operator-audit": "audit_list type_list audit_verify",
    "tenant-audit-lines": "audit_lines",
    "operator-audit-lines": "audit_lines",
    "vm-new": "vm_declare program_list profile_list host_name_list quota_get",
    "vm-delete": "vm_delete",
    "vm-move": "vm_move place_list",
    "vms-act": "vms_act profile_put",
    "workloads": "workload_list workload_upload quota_get",
    "workload-delete": "workload_delete",
    "wishes-file": "policy_newest_get policy_version",
    "consequences": "consequences_get",
    "conduct": "conduct_list",
    "vm-preferences": "policy_put answers_put policy_check policy_newest_get answers_get check_get policy_list",
    "vm-revert": "policy_restore policy_version",
    "goal-waive": "goal_put",
    "negotiation": "negotiation_get history_list step_list",
    "negotiation-answer": "negotiation_answer counter_preview",
    "negotiation-auto": "auto_accept_put",
    "negotiation-withdraw": "negotiation_withdraw",
    "negotiation-step": "step_choose",
    "move-answer": "move_answer move_list",
    "operator-negotiation": "negotiation_get history_list",
    "tenant-goals": "goal_list",
    "operator-goals": "goal_list",
    "tenant-papers": "agreement_list key_list",
    "operator-papers": "agreement_list key_list",
    "tenant-paper": "agreement_get",
    "operator-paper": "agreement_get",
    "tenant-keys": "key_file",
    "operator-keys": "key_file",
    "tenant-key-replace": "key_replace",
    "operator-key-replace": "key_replace",
    "tenant-conflicts": "conflict_list",
    "operator-conflicts": "conflict_list",
    "my-vms": "vm_list protection_list waiting_list asked_list move_list negotiation_list",
    "vm-start": "vm_start",
    "vm-stop": "vm_stop",
    "my-memory": "picture_get event_list run_list",
    "act-answer": "asked_answer",
    "hosts": "host_list conflict_list negotiation_list",
    "host": "host_detail act_list picture_get event_list conflict_list",
    "host-act": "act_request",
    "host-move": "host_detail act_request",
    "host-run": "run_want",
    "host-new": "host_add",
    "host-document": "host_document_get host_document_put host_document_check host_version_list",
    "host-file": "host_document_get host_version",
    "host-revert": "host_restore",
    "host-platform": "fact_report fact_check",
    "host-retire": "host_retire",
    "host-capacity": "host_capacity_get",
    "capacity": "capacity_list room_list",
    "host-maintenance": "maintenance_plan maintenance_list",
    "maintenance-act": "maintenance_act maintenance_offer",
    "my-maintenance": "consent_list",
    "maintenance-answer": "consent_answer",
    "jobs": "job_list worker_list",
    "job": "job_get",
    "job-act": "job_act",
    "run-moment": "moment_get",
    "run-find": "find_get",
    "run-frame": "frame_get",
    "run-marks": "mark_list reach_get",
    "run-mark": "mark_make",
    "run-unmark": "mark_delete",
    "teach": "matrix",
    "learn": "matrix",
    "teach-run": "run_all",
    "teach-what-if": "column_add",
    "teach-cell": "verdict",
    "teach-compare": "verdict",
    "teach-verdict": "verdict",
    "my-drill": "drill_get",
    "course-item": "- each kind of item has operations of its own",
    "courses": "course_list course_make",
    "course": "course_list item_list",
    "course-add": "item_copy item_make",
    "course-settings": "course_put course_copy course_archive course_get",
    "course-members": "course_member_list course_member_put course_member_delete course_invite course_link_make "
    "course_invitation_list course_invitation_delete",
    "course-leave": "course_leave",
    "course-enter": "course_enter",
    "course-preview": "! how this browser shows the course",
    "preview-end": "! how this browser shows the course",
    "item-edit": "item_text_put item_text_get item_check item_version_list",
    "item-version": "item_restore item_version_get",
    "item-settings": "item_settings_put item_settings_get",
    "item-delete": "item_delete",
    "course-import": "bundle_import",
    "course-bundle": "bundle_get",
    "item-act": "item_place",
    "join": "class_join",
    "join-code": "class_join",
    "class-open": "class_open",
    "class-of-lesson": "class_of_lesson",
    "class": "class_get",
    "class-answer": "class_answer",
    "class-seat": "class_seat",
    "class-spotlight": "spotlight_get spotlight_answer spotlight_end",
    "class-desk": "desk_get",
    "class-act": "desk_show desk_ask desk_reveal desk_change desk_rename desk_remove class_end "
    "spotlight_ask spotlight_end",
    "class-wall": "class_get",
    "shares": "quota_get share_list",
    "share-new": "share_make",
    "share-revoke": "share_revoke",
    "share-open": "share_get",
    "share-picture": "share_get",
    "share-frames": "- moment_get tells what one may see; these are for the page of the link",
    "predict": "prediction_get",
    "predict-answer": "prediction_answer",
    "predict-item-answer": "prediction_item_answer prediction_item_get",
    "mistakes": "mistake_list",
    "grades": "gradebook_get",
    "grades-mine": "grades_mine",
    "grades-export": "grades_document grades_csv",
    "grades-schema": "- for programs as it is",
    "grade": "grade_get grade_points_put",
    "grades-alike": "grades_alike",
    "grades-beside": "grades_beside",
    "regrade-item": "regrade_list regrade_begin",
    "regrade": "regrade_get regrade_act",
    "lti-login": "! a platform begins, in a browser",
    "lti-launch": "! a platform says who somebody is, in a browser",
    "lti-keys": "- for programs as it is",
    "lti-enter": "! says who a person is, in the browser that a platform sent",
    "lti-pick": "! answers a platform, in the browser that it sent",
    "lti-returns": "lti_return_list lti_return_again",
    "lti-operator": "lti_get",
    "lti-rotate": "lti_key_rotate",
    "lessons": "lesson_list",
    "lesson": "lesson_get",
    "lesson-answer": "lesson_answer",
    "lesson-copy": "lesson_copy",
    "lesson-export": "lesson_export",
    "lesson-item-answer": "lesson_item_answer lesson_item_get",
    "lesson-item-export": "lesson_item_export",
    "walk": "walk_get",
    "walk-file": "walk_get",
}
# Their POST reads, and changes nothing but what a browser shows.
ONLY_READ = {
    "tenant-audit",
    "operator-audit",
    "live-newest",
    "home",
    "organisation-choose",
    "account-data",  # the form asks for a copy of what is kept
}
FRAMEWORK = {"api-root", "openapi-json"}


def routes() -> dict[str, str]:
    found = {pattern.name: "/" + route for route, pattern in patterns() if pattern.name}
    ours = {name: route for name, route in found.items() if not route.startswith("/admin/")}  # test_support.py
    return {name: route for name, route in ours.items() if name not in FRAMEWORK and name not in OPERATIONS}


def test_every_page_stands_in_the_table_beside_its_operations() -> None:
    assert set(routes()) == set(TWINS)
    named = {name for row in TWINS.values() if row[:2] not in ("- ", "! ") for name in row.split()}
    assert named <= OPERATIONS.keys()


def test_every_act_of_a_page_can_be_done_by_the_api(cast: Cast) -> None:
    people = {"operator": cast.olga, "teach": cast.ines}
    for name, route in routes().items():
        client = Client()
        client.force_login(people.get(route.split("/")[1], cast.alice))
        client.raise_request_exception = False
        kind = {"content_type": "application/json"} if route.startswith("/api/") else {}
        answer = client.post(filled(route, 999), **kind)
        if answer.status_code == 405 or name in ONLY_READ or TWINS[name].startswith("! "):
            continue
        assert not TWINS[name].startswith("-"), f"{name} acts, and no operation does the same"
        assert any(OPERATIONS[twin][0] in UNSAFE for twin in TWINS[name].split()), name


def test_no_path_is_split_over_two_routers() -> None:
    """The second one's methods would be answered with 405."""
    paths = [path for router in api._get_bound_routers() for path in router.path_operations]
    assert len(paths) == len(set(paths))


@pytest.mark.django_db
def test_every_operation_is_reached_at_its_path() -> None:
    for name, (method, path, _) in OPERATIONS.items():
        answer = Client().generic(method.upper(), re.sub(r"{\w+}", "1", path))
        assert answer.status_code != 405, name


def test_shapes_of_the_same_name_are_the_same() -> None:
    """The document holds one shape for a name: of two, one would be described wrongly."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "webapp").glob("*/*api.py"):
        for name in re.findall(r"^class (\w+(?:In|Out))\(", path.read_text(), re.MULTILINE):
            found.setdefault(name, set()).add(path.name)
    assert [name for name, files in found.items() if len(files) > 1] == []


def test_every_operation_is_told_whole() -> None:
    for name, (method, path, operation) in OPERATIONS.items():
        assert operation["summary"] and operation["description"] and operation["tags"], name
        statuses = {int(status) for status in operation["responses"]}
        assert {400, 401, 404, 422, 429, 500, 503} <= statuses and min(statuses) < 300, name
        assert operation["security"] or path.startswith(("/api/matrix", "/api/walks")), name
        assert all("example" in each or "examples" in each for each in operation["parameters"]), name
        sent = {each["name"] for each in operation["parameters"]}
        assert ("Idempotency-Key" in sent) == (method in UNSAFE) and ("If-Match" in sent) == (name in VERSIONED), name
        if method == "get" and "Page" in json.dumps(operation["responses"]["200" if "200" in statuses else 200]):
            assert {"limit", "cursor"} <= sent, name
    assert len(OPERATIONS) == sum(len(methods) for methods in DOCUMENT["paths"].values())
    assert set(DOCUMENT["components"]["securitySchemes"]) == {"apiToken", "sessionCookie"}
    text = json.dumps(DOCUMENT)
    for section, key in re.findall(r'"#/components/(\w+)/([\w-]+)"', text):
        assert key in DOCUMENT["components"][section], (section, key)


def codes_raised() -> set[str]:
    """Every constant code with which the source raises a refusal or writes a problem."""
    found = set()
    calls = re.compile(r"\b(VpmsError|problem|refusal|Quota)\(")
    for source in filter(calls.search, (path.read_text() for path in (ROOT / "webapp").rglob("*.py"))):
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = {"VpmsError": 0, "problem": 1, "refusal": 2, "Quota": 3}.get(name)
            if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                found.add(str(node.args[at].value))  # type: ignore[attr-defined]
    return found | {"bad_input"}


def test_every_code_is_in_the_table_and_the_table_has_no_other() -> None:
    raised = codes_raised()
    assert raised - CODES.keys() == set() and CODES.keys() - raised == set()


@pytest.mark.django_db
def test_the_docs_show_every_operation_with_a_line_to_try_and_find_by_words() -> None:
    client = Client()
    told = client.get("/api/docs").content.decode()
    whole = re.sub(r'"csrfmiddlewaretoken" value="\w+"', "", told)  # random letters may spell anything
    for name in OPERATIONS:
        assert f'id="{name}"' in whole
    assert whole.count("\n  -H &quot;Authorization: Bearer $TOKEN&quot;") >= len(OPERATIONS) - 4
    assert "/api/live.schema.json" in whole and 'src="http' not in whole and "cdn" not in whole
    found = client.get("/api/docs", {"q": "replace key"}).content.decode()
    assert 'id="key_replace"' in found and 'id="vm_list"' not in found
    assert "No operation has these words" in client.get("/api/docs", {"q": "no such words"}).content.decode()
    codes = client.get("/api/errors").content.decode()
    assert all(f'id="{code}"' in codes for code in CODES)
