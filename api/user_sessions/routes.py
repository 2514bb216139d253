"""GET, PUT, PATCH and DELETE /api/me/session: the signed-in user's own session, as JSON of the application's."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from fastapi import Request, Response

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.errors import Problem, invalid_request
from api.http.bodies import parse_object
from api.http.dependencies import BODY, CALLER_NO_BODY, CALLER_NO_QUERY, expected_version
from api.http.openapi import CALLER_SECURITY, TAG, documented
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.user_sessions.json_data import merged
from api.user_sessions.provider import (
    Conflict,
    Data,
    InvalidData,
    StoreAway,
    StoreFull,
    Unconfirmed,
    UserSessionProvider,
)
from api.user_sessions.schemas import IfMatch, IfNoneMatch

PATH = "/api/me/session"

_OBJECT = {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}
_PATCH = {"application/merge-patch+json": _OBJECT["application/json"], **_OBJECT}
_SESSION: dict[int | str, dict[str, Any]] = {200: {"headers": TAG, "content": _OBJECT}}
_READ: dict[str, Any] = {
    "responses": {**_SESSION, **documented(401, 404, 415, 422, 500, 503)},
    "openapi_extra": CALLER_SECURITY,
}


def _write(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "responses": {**_SESSION, **documented(400, 401, 404, 410, 412, 415, 422, 428, 500, 503)},
        "openapi_extra": {"requestBody": {"required": True, "content": content}, **CALLER_SECURITY},
    }


router = feature_router(prefix=PATH, tags=["user sessions"])


@router.get("", response_class=Response, **_READ)
def get_user_session(request: Request, caller: Caller = CALLER_NO_BODY) -> Response:
    """Show the user's session; this counts as activity."""
    user, store = _user(caller), _store(request)
    with _translated():
        record = store.get_session(user)
        if record is None:
            raise _absent()
        store.touch(user)
    return _answer(record.data, record.version)


@router.put("", response_class=Response, **_write(_OBJECT))
def put_user_session(
    request: Request,
    caller: Caller = CALLER_NO_QUERY,
    body: bytes = BODY,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Replace the user's session, or create it (`If-None-Match: *`)."""
    user, store, expected = _user(caller), _store(request), expected_version(if_match, if_none_match)
    data = parse_object(body)
    with _translated():
        return _answer(data, store.set_session(user, data, expected))


@router.patch("", response_class=Response, **_write(_PATCH))
def patch_user_session(
    request: Request,
    caller: Caller = CALLER_NO_QUERY,
    body: bytes = BODY,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Change the user's session by a JSON Merge Patch (RFC 7396)."""
    user, store, expected = _user(caller), _store(request), expected_version(if_match, if_none_match)
    patch = parse_object(body)
    with _translated():
        record = store.get_session(user)
        if record is None and expected is not None:
            raise Problem(410, "user-session-deleted", "The session was deleted or has expired; nothing was written.")
        if (record.version if record else None) != expected:
            raise Conflict(record.version if record else None)
        data = merged(record.data if record else {}, patch)
        expires_at = record.expires_at if record else None
        return _answer(data, store.set_session(user, data, expected, expires_at=expires_at))


@router.delete("", status_code=204, responses=documented(401, 415, 422, 500, 503), openapi_extra=CALLER_SECURITY)
def delete_user_session(request: Request, caller: Caller = CALLER_NO_BODY) -> None:
    """Delete the user's session. Again is fine; a write that read before it is refused."""
    user, store = _user(caller), _store(request)
    with _translated():
        store.delete_session(user)


def _user(caller: Caller) -> str:
    if caller.user_id is None:
        raise unauthorized("A user's session needs that user's access token.")
    user: UUID = caller.user_id
    return str(user)


def _store(request: Request) -> UserSessionProvider:
    return cast(UserSessionProvider, parts_of(request).user_sessions())


def _absent() -> Problem:
    return Problem(404, "not-found", "There is no session of this user. Create one with PUT and If-None-Match: *.")


def _answer(data: Data, version: str) -> Response:
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Response(
        content, media_type="application/json", headers={"ETag": f'"{version}"', "Cache-Control": "no-store"}
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what a store raises as the problem that it is to a caller."""
    try:
        yield
    except Conflict:
        detail = "The session is not the one that you have read; nothing was written."
        raise Problem(412, "user-session-changed", detail) from None
    except InvalidData as error:
        raise invalid_request(("body", str(error))) from None
    except StoreAway as error:
        detail = "The store of user sessions does not answer: read the session again before you repeat a write."
        raise Problem(503, "store-unavailable", detail, headers={"Retry-After": "1"}) from error
    except StoreFull as error:
        detail = f"{error}; nothing was written."
        raise Problem(503, "store-unavailable", detail, headers={"Retry-After": "60"}) from error
    except Unconfirmed as error:
        done = "deleted" if error.version is None else "written"
        detail = f"The session was {done}, and not by as many replicas as were asked for. Read it again."
        raise Problem(503, "store-unconfirmed", detail, headers={"Retry-After": "1"}) from error
