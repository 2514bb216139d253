"""What the routes of sessions have in common: headers, bodies, refusals, and how OpenAPI tells of them."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Response, params
from pydantic import BaseModel

from api.auth import CALLER_SCHEMES, Callers
from api.errors import documented
from api.sessions.idempotency import PATTERN
from api.sessions.models import End, NewSession, Nothing
from api.wire import NotNull, parse_body, read_body, refuse_repetition

Body = Annotated[bytes, Depends(read_body)]
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
    """The `openapi_extra` of a route that reads its body itself."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


READS: dict[str, Any] = {"responses": documented(401, 404, 410, 422, 500, 503)}
TRANSITION: dict[str, Any] = {
    "responses": {200: {"headers": _TAG}, **documented(400, 401, 404, 409, 410, 412, 422, 500, 503)}
}
ACTIVATES: dict[str, Any] = {
    "responses": {**TRANSITION["responses"], 200: {"headers": {**_TAG, **_DONE}}},
}
ENDS: dict[str, Any] = {**TRANSITION, "openapi_extra": body_of(End, required=False)}
CREATES: dict[str, Any] = {
    "responses": {
        201: {"headers": _CREATED},
        **documented(400, 401, 403, 422, 429, 500, 503, headers={429: {**_WAIT, **_LIMITS}}),
    },
    "openapi_extra": {**body_of(NewSession, required=True), "security": [{}]},
}


def guards(callers: Callers) -> Sequence[params.Depends]:
    """What every route asks first, in this order: who is it, and is anything said twice."""
    return [
        Depends(callers.identify),
        Depends(refuse_repetition),
        Depends(_never_stored),
        *CALLER_SCHEMES,
    ]


async def no_query(_query: Annotated[Nothing, Query()]) -> None:
    """Refuse any query."""


async def expect_no_body(body: Body) -> None:
    """Refuse a body with anything in it: nobody would read it."""
    parse_body(body, Nothing, optional=True)


async def _never_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
