"""The API to read: every operation from the OpenAPI document with a line of curl, and what each code asks for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from webapp.api import api
from webapp.rest.codes import CODES
from webapp.rest.document import REASONS, UNSAFE

TAGS = {
    "account": _("Account and tokens"),
    "people": _("Organisations and people"),
    "vms": _("VMs"),
    "workloads": _("Programs"),
    "wishes": _("Wishes"),
    "agreements": _("Conflicts and negotiations"),
    "papers": _("Agreements and keys"),
    "hosts": _("Documents, capacity and maintenance of hosts"),
    "runs": _("Hosts and runs"),
    "jobs": _("Jobs and workers"),
    "notices": _("Notices and webhooks"),
    "alerts": _("Alerts"),
    "drills": _("Drills"),
    "audit": _("Record"),
    "classroom": _("Attack table"),
    "courses": _("Courses and classes"),
    "shares": _("Links to moments"),
    "lessons": _("Lessons"),
    "labs": _("Attack lab"),
    "grades": _("Gradebook"),
    "policies": _("Policy games"),
    "lti": _("Learning platforms"),
}


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    """All operations, or those in which every word of `q` occurs."""
    document = api.get_openapi_schema()
    wanted = request.GET.get("q", "")[:100]
    base = f"{request.scheme}://{request.get_host()}"
    found = [
        operation_shown(method, path, operation, document, base)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    words = wanted.casefold().split()
    kept = [row for row in found if all(word in row["text"] for word in words)]
    groups = [(words, [row for row in kept if row["tag"] == tag]) for tag, words in TAGS.items()]
    context = {
        "wanted": wanted,
        "groups": [(words, rows) for words, rows in groups if rows],
        "count": len(kept),
        "total": len(found),
        "base": base,
    }
    return render(request, "api/docs.html", context)


@require_safe
def errors(request: HttpRequest) -> HttpResponse:
    """Every code, what it means and what to do."""
    rows = [(code, known.title, known.remedy) for code, known in sorted(CODES.items())]
    return render(request, "api/errors.html", {"rows": rows})


def operation_shown(
    method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any], base: str
) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    example = example_of(body, document) if body else None
    refusals = sorted(int(status) for status in operation["responses"] if int(status) >= 400)
    row = {
        "id": operation["operationId"],
        "tag": operation["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"].replace("`", ""),
        "description": operation["description"].replace("`", ""),
        "scope": operation.get("x-scope", ""),
        "parameters": [parameter_shown(each) for each in operation["parameters"]],
        "body": fields_of(body["schema"], document) if body else [],
        "answer": next((answer_shown(a, document) for s, a in operation["responses"].items() if int(s) < 300), []),
        "refusals": [(status, REASONS[status]) for status in refusals],
        "curl": curl_of(method, path, operation, example, base),
    }
    told = [row["id"], row["method"], path, row["summary"], row["description"], row["tag"]]
    row["text"] = " ".join([*told, *(each["name"] for each in row["parameters"])]).casefold()
    return row


def parameter_shown(parameter: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter["name"],
        "where": parameter["in"],
        "required": parameter["required"],
        "kind": kind_of(parameter["schema"]),
        "words": parameter.get("description", ""),
    }


def resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself where it is named by reference, or the first kind that is not null."""
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return resolved(choice, document)
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def kind_of(schema: Mapping[str, Any]) -> str:
    """A type in a word or two."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind_of(choice) for choice in schema["anyOf"]))
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    return str(schema.get("type", "any value"))


def fields_of(schema: Mapping[str, Any], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members of an object: name, kind, whether it must be there, words."""
    schema = resolved(schema, document)
    needed = schema.get("required", ())
    return [
        {"name": name, "kind": kind_of(each), "required": name in needed, "words": each.get("description", "")}
        for name, each in schema.get("properties", {}).items()
    ]


def answer_shown(answer: Mapping[str, Any], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The members of the answer; of a list, those of its rows."""
    content = answer.get("content", {}).get("application/json")
    if content is None:
        return []
    schema = resolved(content["schema"], document)
    rows = schema.get("properties", {}).get("items", {}).get("items")
    return fields_of(rows if rows else schema, document)


def example_of(body: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    named = body.get("examples")
    if named:
        return next(iter(named.values()))["value"]
    examples = resolved(body["schema"], document).get("examples")
    return examples[0] if examples else None


def curl_of(method: str, path: str, operation: Mapping[str, Any], example: Any, base: str) -> str:
    """A line to try it with: $TOKEN is an API token."""
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "…")))
    needed = [
        f"{parameter['name']}={parameter.get('example', '')}"
        for parameter in operation["parameters"]
        if parameter["in"] == "query" and parameter["required"]
    ]
    line = ["curl"]
    if method != "get":
        line += ["-X", method.upper()]
    address = f"{base}{path}" + ("?" + "&".join(needed) if needed else "")
    line.append(shlex.quote(address) if needed else address)
    told = " ".join(line)
    if operation["security"]:
        told += ' \\\n  -H "Authorization: Bearer $TOKEN"'
    if example is not None:
        told += " \\\n  --json " + shlex.quote(json.dumps(example))
    elif "application/octet-stream" in operation.get("requestBody", {}).get("content", {}):
        told += ' \\\n  -H "Content-Type: application/octet-stream" --data-binary @program.hsvmtrace'
    elif "requestBody" in operation and operation["requestBody"].get("required"):
        told += " \\\n  --json @document.json"
    if method in UNSAFE:
        told += ' \\\n  -H "Idempotency-Key: $(uuidgen)"'
    return told
