"""Errors as problems (RFC 9457): database error → problem → HTTP answer."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

# Every problem type by its status, with its meaning. Callers may rely on both.
PROBLEMS = {
    400: {"undecodable-body": "The body is not JSON."},
    401: {"unauthorized": "The credentials are missing or invalid."},
    403: {"early-sessions-off": "Chats begin with their first message here: create it as `active` then."},
    404: {
        "not-found": "It does not exist, or not for this caller.",
        "invite-unknown": "The invite is of another session.",
    },
    405: {"method-not-allowed": "The address has other methods only."},
    409: {
        "wrong-status": "The session's status has no such transition; `currentStatus` says which it has.",
        "file-not-uploaded": "Storage does not have the file's bytes yet.",
        "file-mismatch": "The uploaded bytes differ from what was registered; the members have their size and type.",
        "too-many-files": "The session has the maximum number of files; `limit` says how many.",
        "too-many-items": "The namespace, or the session, has the maximum number of items; `limit` says how many.",
        "cleanup-stopped": "The breaker stopped a policy; the members are the report.",
        "ambiguous-session": "Several sessions have this id; `tables` names where, and `?table=` says which.",
        "refused-by-table": "A constraint or trigger of the team's table refuses; the members name it.",
        "status-not-named": "The table's adoption names no value for this status.",
        "id-taken": "Another session has this id, so that this one can have no files or participants.",
        "participant-left": "The tab left the session, or its seat was given away; join again.",
        "participant-removed": "The participant was removed from the session, and cannot join it again.",
        "session-full": "All seats of the session are taken; `limit` says how many it has.",
        "external-key-taken": "An open game has this external key; `sessionId` names it.",
        "already-owned": "Another instance owns the game, and its lease runs; `instance` names it.",
        "owner-displaced": "The game's owner has changed; `fence` is the current one.",
        "instance-closed": "The instance's lease is over: open it again, and recover.",
        "row-gone": "The row was cleaned up before; `page` is where the archive has it, null when it was purged.",
        "lease-lost": "Another run took over the lease, or this run's lease expired.",
    },
    410: {
        "session-archived": "The session was cleaned up; activating it restores it.",
        "session-gone": "The session was cleaned up and can no longer be restored.",
        "session-expired": "The session expired: no activity for longer than its policy allows.",
        "invite-expired": "The invite's time is over.",
        "invite-used-up": "The invite was used as often as it may be.",
        "invite-revoked": "The invite was withdrawn.",
        "archive-purged": "What was archived was purged: it can no longer be restored.",
        "user-session-deleted": "The user's session was deleted or has expired; nothing was written.",
        "item-deleted": "The item of the library was deleted; it can be undeleted for seven days.",
        "version-pruned": "The version of the item is not kept any more; `version` is the current one.",
    },
    412: {
        "version-mismatch": "The session, or the item, has another version than the caller expected.",
        "user-session-changed": "The user's session is not the one that was read; nothing was written.",
    },
    415: {"unsupported-media-type": "The body has another type than application/json."},
    422: {
        "invalid-request": "A part of the request is invalid; `errors` names it.",
        "invite-malformed": "The invite's token is none, or was not made here.",
        "state-too-large": "The game's state would be larger than MAX_STATE_BYTES.",
        "command-id-reused": "The command id was used for another command of this game.",
        "idempotency-key-reused": "The key was used for another request.",
    },
    428: {"precondition-required": "The write must say which version it is meant for: If-Match or If-None-Match."},
    429: {"rate-limited": "A limit is reached: `limit` names it, `retryAfter` is in seconds."},
    500: {
        "cleanup-failed": "A policy failed; the members are the report.",
        "dry-run-failed": "A policy does not fit, or took too long to count; the members are the report.",
        "internal-error": "An unexpected error.",
    },
    503: {
        "cleanup-late": "No cleanup ran for two intervals.",
        "cleanup-failing": "The last cleanup failed, or was killed.",
        "cleanup-stuck": "A cleanup stopped renewing its lease.",
        "cleanup-behind": "A policy left more stale rows at each of its last runs.",
        "breaker-open": "The breaker stopped a policy: an operator has to look at it.",
        "dead-letters": "Removals of files or deliveries of events were given up: an operator has to act.",
        "archive-remainders": "A restore could not bring back all: the rest is archived until it is purged.",
        "paused-long": "The cleanup, or a policy of it, is paused for over 7 days.",
        "not-configured": "The operator has not set a variable; `detail` names it.",
        "not-migrated": "The database is older than this release.",
        "database-unavailable": "The database did not answer: whether the call took effect is unknown.",
        "database-timeout": "The database took too long: nothing took effect.",
        "database-refused": "The database refused Lull's key.",
        "storage-unavailable": "Supabase Storage did not answer.",
        "store-unavailable": "The store of user sessions did not answer: whether a write took effect is unknown.",
        "store-unconfirmed": "A user's session was written, and not by as many replicas as were asked for.",
        "keys-unavailable": "The keys that users' tokens are signed with cannot be fetched.",
    },
}
TYPES = {slug: meaning for types in PROBLEMS.values() for slug, meaning in types.items()}


MOST_ERRORS = 20  # that one answer names
LONGEST_NAME = 200  # characters of a field or a message

MISSING_FUNCTION = "PGRST202"  # PostgREST's code: no function of this name takes these arguments


class Problem(Exception):
    """An error answer.

    `slug` is a name in TYPES, `detail` a sentence for a person, `members` are the RFC's
    extension members. With a 5xx status it must hold nothing internal.
    """

    def __init__(
        self, status: int, slug: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail
        self.headers, self.members = headers, members


class DatabaseUnavailable(Problem):
    """The database gave no valid answer: whether the call took effect is unknown."""

    def __init__(self) -> None:
        super().__init__(503, "database-unavailable", "The database cannot be reached. Try again later.")


class DatabaseTimeout(Problem):
    """The database cancelled the call after its time-out: nothing took effect."""

    def __init__(self) -> None:
        super().__init__(503, "database-timeout", "The database took too long to answer. Try again later.")


@dataclass
class DatabaseRefusal(Exception):
    """An error of the database, by either transport. It must not be shown to a caller as it is.

    `code` is a SQLSTATE, one of PostgREST's own codes, or the HTTP status of a gateway before it.
    """

    code: str | None
    message: str | None
    details: str | None = None
    hint: str | None = None


class StorageUnavailable(Problem):
    """Supabase Storage did not answer, or refused Lull's key."""

    def __init__(self, detail: str = "The file storage cannot be reached. Try again later.") -> None:
        super().__init__(503, "storage-unavailable", detail)


class ProblemBody(BaseModel):
    """The body of every error, `application/problem+json`. Some types have more members."""

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
    """A 422 that names each (field, message). Nothing was done.

    At most 20 errors of 200 characters each: the answer does not repeat what was sent.
    """
    named = [(_shortened(field), _shortened(message)) for field, message in errors[:MOST_ERRORS]]
    if len(errors) > MOST_ERRORS:
        named.append(("request", f"{len(errors) - MOST_ERRORS} more errors"))
    return Problem(
        422,
        "invalid-request",
        "; ".join(f"{field}: {message}" for field, message in named),
        errors=[{"field": field, "message": message} for field, message in named],
    )


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "…"


def not_configured(detail: str) -> Problem:
    """A 503 that names the environment variable which the operator has to set."""
    return Problem(503, "not-configured", detail)


def from_database_error(error: DatabaseRefusal, credentials: str) -> Problem:
    """The problem for an error of the database. `credentials` names the variable with Lull's credentials.

    Our SQL functions raise SQLSTATE PTnnn: nnn is the HTTP status, `details` the slug, `message` the
    sentence, `hint` the extension members if any, as a JSON object. Any other error is
    internal, and the caller is not told its text.
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
    # SQLSTATE class 28: the login was refused; 42501: the role lacks a privilege
    if re.fullmatch(r"28...|42501|PGRST30[12]|40[13]", code) or "API key" in (error.message or ""):
        return Problem(503, "database-refused", f"The database refused Lull: check {credentials}.")
    # no code: a gateway in front of PostgREST answered; three digits: its answer was no JSON, and this is its status;
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
    """The answer to an unexpected error: no details."""
    return Problem(500, "internal-error", "Something went wrong here. The log has the details.")


def problem_response(problem: Problem) -> JSONResponse:
    """The HTTP answer of a problem."""
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
    """A 422 with pydantic's errors. `located` means that each `loc` begins with query, header, …"""
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
        detail = f"{_shortened(request.method)} is not possible here, only {allow}."
        return problem_response(Problem(405, "method-not-allowed", detail, headers={"Allow": allow}))
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_response(Problem(404, "not-found", "There is nothing at this address."))
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem_response(Problem(error.status_code, slug, str(error.detail)))


def _methods_of(request: Request) -> str:
    """All methods of this path: the router's own answer names those of one route only."""
    path = getattr(request.scope.get("route"), "path", None)
    methods = [method.upper() for method in request.app.openapi()["paths"].get(path, ())]
    return ", ".join(["GET", "HEAD", *(each for each in methods if each != "GET")] if "GET" in methods else methods)
