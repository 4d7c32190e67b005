"""The OpenAPI document: what the routers say, completed with what every operation shares."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from webapp.rest.doors import Door
from webapp.rest.problems import MEDIA_TYPE
from webapp.vpms import documents

UNSAFE: Final = ("post", "put", "patch", "delete")
VERSIONED: Final = (
    "policy_put",
    "answers_put",
    "policy_restore",
    "host_document_put",
    "host_restore",
    "item_text_put",
    "item_restore",
    "item_settings_put",
    "course_put",
)  # operations that take If-Match
TAGGED: Final = (  # operations that answer an ETag
    *("policy_newest_get", "answers_get", "host_document_get", "item_text_get", "item_settings_get", "course_get"),
    *VERSIONED,
)
EXAMPLES: Final[dict[str, Any]] = {
    "name": "my-vm",
    "number": 7,
    "run_id": 3,
    "cell_id": 12,
    "version": 1,
    "mfn": 42,
    "switch": "page_sharing",
    "wanted": "pause",
    "case": "nested",
    "limit": 50,
    "cursor": "",
    "what": "denied",
    "op": 100,
    "pk": 5,
    "kind": "deadline",
    "source": "walk",
    "seed": 1,
    "course_id": 3,
    "at": 5,
    "title": "nightly backup",
    "organisation": "my-clinic",
    "step": 10,
    "job": "run",
    "act": "pause",
    "architecture": "nested",
    "code": "K7QP2X",
    "ref": "12-0123456789abcdef0123456789abcdef01234567",
    "member": 4,
    "item": 5,
    "one": 4,
    "other": 9,
    "first": "2026-10-01",
}
NAMES: Final = {
    "hosts": "h1",
    "predictions": "nested",
    "organisations": "my-clinic",
}  # of what is named in other places than VMs
SENT: Final[dict[str, dict[str, Any]]] = {
    "Idempotency-Key": {
        "in": "header",
        "name": "Idempotency-Key",
        "required": False,
        "description": "Repeats with the same key and body are done once and answered alike, for 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        "example": "3f1c9d52-6f0e-4b1e-9a54-2f7f3c1f8d10",
    },
    "If-Match": {
        "in": "header",
        "name": "If-Match",
        "required": False,
        "description": "The ETag of the version that you had read. Where a newer is stored: 412 and the difference.",
        "schema": {"type": "string", "pattern": '^(\\*|"[0-9]{1,10}-[0-9a-f]{16}")$'},
        "example": '"3-0f5d8c1b2a3e4f60"',
    },
}
HEADERS: Final = {
    "RateLimit-Limit": ("The calls that are possible within a minute.", "integer"),
    "RateLimit-Remaining": ("How many of them are left.", "integer"),
    "RateLimit-Reset": ("Seconds until the count begins anew.", "integer"),
    "Retry-After": ("Seconds after which the call can be made.", "integer"),
    "ETag": ("Names the version; goes into If-Match.", "string"),
    "Link": ('The next page of the list: <address>; rel="next".', "string"),
}
REASONS: Final = {
    400: "The request is not understood.",
    401: "Nobody is signed in, or the token does not count.",
    403: "Your role, or the scope of your token, does not open this.",
    404: "There is nothing here that you may see.",
    409: "Not possible in the present state; the code says why.",
    410: "What the link was for is over; it was used, withdrawn or is too old.",
    412: "Somebody else saved a newer version; the answer holds the difference.",
    413: "The body is longer than 1 MiB.",
    415: "The body is not JSON.",
    422: "Something in it cannot be used; the faults name each place.",
    429: "Too many calls, or too many versions; Retry-After says when again.",
    500: "A fault of the site; nothing was changed.",
    503: "Too much at once; try again in a moment.",
}
ABOUT: Final = (
    "Everything that the pages do. Sign in with an API token (Authorization: Bearer) or with the cookies of a session, "
    "then with the CSRF token in X-CSRFToken on unsafe calls. Refusals are problems (RFC 9457) with stable codes, "
    "listed at /api/errors. Lists come in pages: follow `next`. The messages of the websocket are described by "
    "/api/live.schema.json."
)


def body_of_kind(kind: str) -> dict[str, Any]:
    """The body of an operation that reads a whole document itself."""
    schema = {"$ref": f"#/components/schemas/{kind.capitalize()}Document"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def body_of_file(words: str) -> dict[str, Any]:
    """The body of an operation that takes a file as it is."""
    schema = {"type": "string", "format": "binary", "description": words}
    return {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": schema}}}}


class Api(NinjaAPI):
    """Operations are named as the functions that do them; the document is made once."""

    made: dict[str, Any] | None = None

    def get_openapi_operation_id(self, operation: Operation) -> str:
        return operation.view_func.__name__

    def get_openapi_schema(self, **_: Any) -> OpenAPISchema:
        if self.made is None:
            found = super().get_openapi_schema(path_prefix="api")
            operations = self.operations()
            for path, methods in found["paths"].items():
                for method, shown in methods.items():
                    complete(shown, method, path, operations[shown["operationId"]])
            found["info"]["description"] = ABOUT
            found["components"] |= {"securitySchemes": schemes(), "responses": refusals(), "headers": headers()}
            found["components"]["schemas"] |= {"Problem": PROBLEM, **document_schemas()}
            found["externalDocs"] = {"url": "/api/docs", "description": "The same to read, with curl lines"}
            self.made = found
        return self.made  # type: ignore[return-value]

    def operations(self) -> dict[str, Operation]:
        return {
            operation.view_func.__name__: operation
            for router in self._get_bound_routers()
            for view in router.path_operations.values()
            for operation in view.operations
        }


def complete(shown: dict[str, Any], method: str, path: str, operation: Operation) -> None:
    """Summary, security, shared parameters, examples and every refusal of one operation."""
    summary, _, rest = " ".join((operation.description or "").split()).partition(". ")
    shown["summary"] = summary.rstrip(".")
    shown["description"] = rest or shown["summary"] + "."
    door = next((each for each in operation.auth_callbacks if isinstance(each, Door)), None)
    scope = door.needed(method.upper()) if door else ""
    shown["security"] = [{"sessionCookie": []}, {"apiToken": []}] if door else []
    if door:
        shown["x-scope"] = scope
    parameters = shown.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["name"] in EXAMPLES and "examples" not in parameter:
            area = path.split("/")[2] if parameter["name"] == "name" else ""
            parameter.setdefault("example", NAMES.get(area, EXAMPLES[parameter["name"]]))
        elif parameter["in"] == "query":
            parameter.setdefault("example", parameter["schema"].get("default") or "")
    if method in UNSAFE:
        parameters.append(SENT["Idempotency-Key"])
    if shown["operationId"] in VERSIONED:
        parameters.append(SENT["If-Match"])
    answers = shown["responses"]
    for status, answer in answers.items():
        answer["description"] = answer.get("description") or HTTPStatus(int(status)).phrase
        answer["headers"] = given_headers(shown)
    for status in possible(shown, method, path, bool(door)):
        answers[status] = {"$ref": f"#/components/responses/Problem{status}"}


def possible(shown: dict[str, Any], method: str, path: str, secured: bool) -> list[int]:
    """The refusals that this operation can answer."""
    found = [400, 401, 404, 422, 429, 500, 503]  # 401: a token that does not count is refused everywhere
    if secured:
        found += [403]
    if method in UNSAFE:
        found += [409, 413, 415]
    elif "/runs/" in path:
        found += [409]
    if shown["operationId"] in VERSIONED:
        found += [412]
    if path.endswith("/courses/members"):
        found += [410]
    return sorted(found)


def given_headers(shown: dict[str, Any]) -> dict[str, Any]:
    names = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]
    names += ["ETag"] if shown["operationId"] in TAGGED else []
    names += ["Link"] if any(each["name"] == "cursor" for each in shown["parameters"]) else []
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "RFC 9457. `message` says the same as `detail`. Some codes carry more members.",
    "required": ["type", "title", "status", "detail", "code", "message", "faults"],
    "properties": {
        "type": {"type": "string", "description": "The address of the code's description."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable: branch on this."},
        "message": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "reason"],
                "properties": {"path": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
        "changes": {
            "type": "array",
            "description": "Of stale: what your document would change now.",
            "items": {"type": "object"},
        },
        "changed": {
            "type": "array",
            "description": "Of stale: what others changed since the version that you had read.",
            "items": {"type": "object"},
        },
        "agreements": {
            "type": "array",
            "description": "Of contradicts_agreements: what in which agreement stands against the document, and whose.",
            "items": {"type": "object"},
        },
    },
    "example": {
        "type": "/api/errors#bad_input",
        "title": "Something in it cannot be used",
        "status": 422,
        "detail": "$.version: must be above 3, the version that is stored",
        "code": "bad_input",
        "message": "$.version: must be above 3, the version that is stored",
        "faults": [{"path": "$.version", "reason": "must be above 3, the version that is stored"}],
    },
}


def refusals() -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    found: dict[str, Any] = {}
    for status, reason in REASONS.items():
        found[f"Problem{status}"] = {"description": reason, "content": content}
    found["Problem429"]["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return found


def headers() -> dict[str, Any]:
    return {name: {"description": words, "schema": {"type": kind}} for name, (words, kind) in HEADERS.items()}


def schemes() -> dict[str, Any]:
    return {
        "apiToken": {
            "type": "http",
            "scheme": "bearer",
            "description": "A token from /account/tokens/. Its scope is read, write or manage; each includes the ones "
            "before it. `x-scope` names what an operation needs.",
        },
        "sessionCookie": {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "The session of the pages. Unsafe calls also need the CSRF token in X-CSRFToken.",
        },
    }


def document_schemas() -> dict[str, Any]:
    """The documents that operations take whole."""
    found = {}
    for kind in ("policy", "host"):
        schema = {key: value for key, value in documents.json_schema(kind).items() if key != "$schema"}
        words = {"title": f"vpms-{kind}/1", "description": f"Also at /api/schemas/{kind}.json."}
        found[f"{kind.capitalize()}Document"] = {**schema, **words}
    return found
