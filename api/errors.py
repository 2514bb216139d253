"""What can go wrong, as problems (RFC 9457): database error → problem, problem → HTTP."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

# Every type there is by its status, as callers may rely on it, and what it means.
PROBLEMS = {
    400: {"undecodable-body": "The body is not JSON."},
    401: {"unauthorized": "The credentials are missing or prove nothing."},
    403: {"early-sessions-off": "Chats begin with their first message here: create it as `active` then."},
    404: {"not-found": "There is no such thing, or not for this caller."},
    405: {"method-not-allowed": "The address knows other methods only."},
    409: {
        "wrong-status": "The session's status has no such transition; `currentStatus` says which it has.",
        "file-not-uploaded": "Storage does not have the file's bytes yet.",
        "file-mismatch": "The bytes are not those that were registered; the members say what they are.",
        "too-many-files": "The session has as many files as it may; `limit` says how many.",
        "cleanup-stopped": "The breaker stopped a policy; the members are the report.",
        "lease-lost": "The run was taken over, or took too long to be trusted.",
    },
    410: {
        "session-archived": "The session was cleaned up; activating it brings it back.",
        "session-gone": "The session was cleaned up for good.",
    },
    412: {"version-mismatch": "The session has another version than the caller expected."},
    422: {
        "invalid-request": "Something in the request cannot be meant; `errors` names it.",
        "idempotency-key-reused": "The key was used for another request.",
    },
    429: {"rate-limited": "A limit is reached: `limit` names it, `retryAfter` is in seconds."},
    500: {
        "cleanup-failed": "A policy failed; the members are the report.",
        "dry-run-failed": "A policy does not fit, or took too long to count; the members are the report.",
        "internal-error": "A fault that nobody foresaw.",
    },
    503: {
        "cleanup-late": "No cleanup ran for two intervals.",
        "cleanup-failing": "The last cleanup failed, was stopped by the breaker, or was killed.",
        "cleanup-stuck": "A cleanup went silent, or files were given up: it will not go on by itself.",
        "not-configured": "The operator has not set a variable; `detail` names it.",
        "not-migrated": "The database is older than this release.",
        "database-unavailable": "The database did not answer: whether the call took effect is unknown.",
        "database-timeout": "The database took too long: nothing took effect.",
        "database-refused": "The database refused Lull's key.",
        "storage-unavailable": "Supabase Storage did not answer.",
        "keys-unavailable": "The keys that users' tokens are signed with cannot be fetched.",
    },
}
TYPES = {slug: meaning for types in PROBLEMS.values() for slug, meaning in types.items()}


MISSING_FUNCTION = "PGRST202"  # PostgREST's code: no function of this name takes these arguments


class Problem(Exception):
    """An answer that is not the one asked for.

    `slug` is a name in TYPES, `detail` a sentence for a person, `members` the RFC's
    extension members. Nothing in here may be internal when the status is 5xx.
    """

    def __init__(
        self, status: int, slug: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail
        self.headers, self.members = headers, members


class DatabaseUnavailable(Problem):
    """The database did not answer, or not as a database: whether the call took effect is unknown."""

    def __init__(self) -> None:
        super().__init__(503, "database-unavailable", "The database cannot be reached. Try again later.")


class DatabaseTimeout(Problem):
    """The database cancelled the call because it took too long: nothing of it took effect."""

    def __init__(self) -> None:
        super().__init__(503, "database-timeout", "The database took too long to answer. Try again later.")


@dataclass
class DatabaseRefusal(Exception):
    """What the database said instead of answering, however it was asked; never for a caller's eyes as it is.

    `code` is a SQLSTATE, one of PostgREST's own codes, or the HTTP status of a gateway before it.
    """

    code: str | None
    message: str | None
    details: str | None = None
    hint: str | None = None


class StorageUnavailable(Problem):
    """Supabase Storage did not answer, or refused the caller altogether."""

    def __init__(self) -> None:
        super().__init__(503, "storage-unavailable", "The file storage cannot be reached. Try again later.")


class ProblemBody(BaseModel):
    """The body of every error, `application/problem+json`; some types carry more members."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="urn:lull:problem: and one of " + ", ".join(TYPES),
        examples=["urn:lull:problem:invalid-request"],
    )
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = Field(default=[], description="What is wrong: {field, message} each.")


def invalid_request(*errors: tuple[str, str]) -> Problem:
    """Refuse a request, naming each (field, message): nothing was done."""
    return Problem(
        422,
        "invalid-request",
        "; ".join(f"{field}: {message}" for field, message in errors),
        errors=[{"field": field, "message": message} for field, message in errors],
    )


def not_configured(detail: str) -> Problem:
    """Say which environment variable the operator has to set."""
    return Problem(503, "not-configured", detail)


def documented(
    *statuses: int, headers: dict[int, dict[str, Any]] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route for the OpenAPI document: these errors, each a problem."""
    content = {"application/problem+json": {"schema": _problem_schema()}}
    more = {status: {"headers": described} for status, described in (headers or {}).items()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content, **more.get(status, {})}
        for status in statuses
    }


@cache
def _problem_schema() -> dict[str, Any]:
    return ProblemBody.model_json_schema()


def from_database_error(error: DatabaseRefusal, credentials: str) -> Problem:
    """Say what a refusal means to the caller; `credentials` is the variable that Lull identifies itself by.

    Our SQL functions raise SQLSTATE PTnnn: nnn is the HTTP status, `details` the slug, `message` the
    sentence, `hint` the extension members if any, as a JSON object. Everything else is the house's own
    trouble, and the caller learns no internals of it.
    """
    code = error.code or ""
    if re.fullmatch(r"PT[45]\d\d", code):
        slug = error.details if re.fullmatch(r"[a-z][a-z-]*", str(error.details)) else "refused"
        sentence = error.message or "The database refused the request."
        return Problem(int(code[2:]), str(slug), sentence, **_members(error.hint))
    if code == MISSING_FUNCTION:
        return Problem(
            503,
            "not-migrated",
            "The database lacks a function of this version: run `python -m infra migrate`.",
        )
    if code == "57014":
        return DatabaseTimeout()
    # 28: the login; 42501: its rights
    if re.fullmatch(r"28...|42501|PGRST30[12]|40[13]", code) or "API key" in (error.message or ""):
        return Problem(503, "database-refused", f"The database refused Lull: check {credentials}.")
    # no code: a gateway before PostgREST spoke; three digits: it spoke no JSON, and this is its HTTP status;
    # SQLSTATE classes: 08 connection, 40 deadlock, 53 out of resources, 55 lock not available, 57 shutdown
    if re.fullmatch(r"|\d{3}|PGRST00[0-3]|(08|40|53|55|57)...", code):
        return DatabaseUnavailable()
    return internal_error()


def _members(hint: str | None) -> dict[str, Any]:
    try:
        members = json.loads(hint or "null")
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def internal_error() -> Problem:
    """What a caller learns of a fault that nobody foresaw."""
    return Problem(500, "internal-error", "Something went wrong here. The log has the details.")


def problem_response(problem: Problem) -> JSONResponse:
    """Answer with a problem."""
    content = {
        "type": f"urn:lull:problem:{problem.slug}",
        "title": problem.slug.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return JSONResponse(
        content,
        status_code=problem.status,
        headers={"Cache-Control": "no-store", **(problem.headers or {})},
        media_type="application/problem+json",
    )


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.exception_handler(Problem)(_on_problem)
    app.exception_handler(RequestValidationError)(_on_validation_error)
    app.exception_handler(HTTPException)(_on_http_exception)


def _on_problem(_request: Request, error: Problem) -> JSONResponse:
    return problem_response(error)


def _on_validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
    return problem_response(validation_problem(error.errors(), located=True))


def validation_problem(errors: Sequence[Any], *, located: bool = False) -> Problem:
    """Refuse what pydantic refused; `located` when each `loc` starts with where it was: query, header, …"""
    return invalid_request(*(_field_error(item, located=located) for item in errors))


def _field_error(item: dict[str, Any], *, located: bool) -> tuple[str, str]:
    location = [str(part) for part in item["loc"]]
    if item["type"] == "extra_forbidden":
        return location[-1], "unknown parameter" if located else "unknown field"
    message = str(item["msg"]).removeprefix("Value error, ")
    field = ".".join(location[1:] if located else location) or (location or ["body"])[0]
    return field, message[:1].lower() + message[1:]


def _on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = _methods_of(request) or (error.headers or {}).get("Allow", "")
        detail = f"{request.method} is not possible here, only {allow}."
        return problem_response(Problem(405, "method-not-allowed", detail, headers={"Allow": allow}))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(Problem(404, "not-found", "There is nothing at this address."))
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem_response(Problem(error.status_code, slug, str(error.detail)))


def _methods_of(request: Request) -> str:
    """Every method of this path; the router's own answer names only those of one route."""
    path = getattr(request.scope.get("route"), "path", None)
    return ", ".join(method.upper() for method in request.app.openapi()["paths"].get(path, ()))
