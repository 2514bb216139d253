"""What the routes of sessions have in common: headers, bodies, refusals, and how OpenAPI tells of them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from api.auth import CALLER_SECURITY, Caller, Callers
from api.errors import documented, invalid_request
from api.sessions.idempotency import PATTERN
from api.sessions.models import End, NewSession, Nothing
from api.wire import NotNull, parse_body, read_body, refuse_repetition

BODY = Depends(read_body)
Version = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="If-Match",
        pattern=r'^"[1-9][0-9]{0,8}"$',
        description='Only if the session still has this version, such as `"3"`; otherwise 412.',
    ),
]
IdempotencyKey = Annotated[
    str | None,
    NotNull(),
    Header(
        alias="Idempotency-Key",
        pattern=PATTERN,
        description="Repeats the first answer for 24 hours. A UUID, from a caller without an account.",
    ),
]

_TAG = {"ETag": {"description": "The version, for `If-Match`.", "schema": {"type": "string"}}}
_LIMITS = {
    name: {"description": f"{what} (draft-ietf-httpapi-ratelimit-headers).", "schema": {"type": "string"}}
    for name, what in {
        "RateLimit-Policy": "The limits on creating",
        "RateLimit": "What is left of them",
    }.items()
}
_WAIT = {"Retry-After": {"description": "In how many seconds.", "schema": {"type": "integer"}}}
_DONE = {
    "Session-Activated": {"description": "`true` when this call did it.", "schema": {"type": "string"}},
    "Session-Restored": {
        "description": "`true` when the cleanup had taken the session, and this call brought it back.",
        "schema": {"type": "string"},
    },
}
_CREATED = {
    "Location": {"description": "The session's address.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` when the key was used before, and this is the first answer again.",
        "schema": {"type": "string"},
    },
    "Idempotency-Expires-In": {
        "description": "For how many seconds more the key repeats this answer.",
        "schema": {"type": "string"},
    },
    **_LIMITS,
    **_TAG,
}


def body_of(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """The `openapi_extra` of a caller's route that reads its body itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}, **CALLER_SECURITY}


READS: dict[str, Any] = {
    "responses": documented(401, 404, 410, 422, 500, 503),
    "openapi_extra": CALLER_SECURITY,
}
TRANSITION: dict[str, Any] = {
    "responses": {200: {"headers": _TAG}, **documented(400, 401, 404, 409, 410, 412, 422, 500, 503)},
    "openapi_extra": CALLER_SECURITY,
}
ACTIVATES: dict[str, Any] = {
    **TRANSITION,
    "responses": {**TRANSITION["responses"], 200: {"headers": {**_TAG, **_DONE}}},
}
ENDS: dict[str, Any] = {**TRANSITION, "openapi_extra": body_of(End, required=False)}
CREATES: dict[str, Any] = {
    "responses": {
        201: {"headers": _CREATED},
        **documented(400, 401, 403, 422, 429, 500, 503, headers={429: {**_WAIT, **_LIMITS}}),
    },
    "openapi_extra": {
        **body_of(NewSession, required=True),
        "security": [*CALLER_SECURITY["security"], {}],
    },
}


def asked_by(callers: Callers, *checks: Callable[[Request], Awaitable[None]]) -> Any:
    """The caller of a request, as a dependency: first who it is, then whether it passes these checks.

    All in one, because FastAPI takes longer to come to a dependency than these take to answer.
    """

    async def ask(request: Request, response: Response) -> Caller:
        response.headers["Cache-Control"] = "no-store"
        caller = await callers.identify(request)
        for check in (refuse_repetition, *checks):
            await check(request)
        return caller

    return Depends(ask)


async def no_query(request: Request) -> None:
    """Refuse any query."""
    if request.query_params:
        raise invalid_request(*((name, "unknown parameter") for name in request.query_params))


async def no_body(request: Request) -> None:
    """Refuse a body with anything in it: nobody would read it."""
    parse_body(await read_body(request), Nothing, optional=True)
