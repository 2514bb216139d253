"""The routes under /api/sessions that create and read sessions."""

from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.http.bodies import parse_body
from api.http.cursors import cursor_after, position_of
from api.http.dependencies import (
    BODY,
    CALLER,
    CALLER_NO_QUERY,
    CALLER_OF_SESSION,
    SERVICE,
    IdempotencyKey,
    Place,
    tagged,
)
from api.http.idempotency import seconds_left
from api.http.openapi import (
    CALLER_SECURITY,
    RATE_LIMITS,
    READS,
    RETRY_AFTER,
    TAG,
    body_of,
    documented,
    location_of,
)
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.http.schemas import OneSession, SessionId, Table
from api.sessions.creation import create
from api.sessions.schemas import (
    Counts,
    CreatedSession,
    EventPage,
    EventsQuery,
    ListedSessions,
    ListQuery,
    NewSession,
    SessionPage,
    WhichSessions,
)

PATH = "/api/sessions"

_CREATED = {
    **location_of("session"),
    "Idempotency-Replayed": {
        "description": "`true` when the key was used before, and this is a replay of the first answer.",
        "schema": {"type": "string"},
    },
    "Idempotency-Expires-In": {
        "description": "Seconds for which the key still repeats this answer.",
        "schema": {"type": "string"},
    },
    **RATE_LIMITS,
    **TAG,
}
_CREATES: dict[str, Any] = {
    "responses": {
        201: {"headers": _CREATED},
        **documented(400, 401, 403, 404, 409, 415, 422, 429, 500, 503, headers={429: {**RETRY_AFTER, **RATE_LIMITS}}),
    },
    "openapi_extra": {
        **body_of(NewSession, required=True),
        "security": [*CALLER_SECURITY["security"], {}],
    },
}

router = feature_router(prefix=PATH, tags=["sessions"])


@router.post("", status_code=201, response_model_exclude_unset=True, **_CREATES)
def create_session(
    request: Request,
    response: Response,
    caller: Caller = CALLER_NO_QUERY,
    body: bytes = BODY,
    key: IdempotencyKey = None,
) -> CreatedSession:
    """Create a session. An anonymous caller gets a session token; a draft of a chat needs the flag.

    A game of the service needs a `guildId` and a `mode`; while it is open, no other game has its `externalKey`.
    """
    created = create(request, caller, parse_body(body, NewSession), key)
    response.headers.update(created.headers)
    response.headers["Location"] = f"{PATH}/{created.session.id}"
    if created.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    if key is not None:
        response.headers["Idempotency-Expires-In"] = str(seconds_left(created.session.created_at))
    token = {"session_token": created.token} if created.token else {}
    return CreatedSession(session=tagged(response, created.session), **token)


@router.get("", **READS)
def list_sessions(request: Request, query: Annotated[ListQuery, Query()], caller: Caller = CALLER) -> SessionPage:
    """List the caller's own sessions, newest first; the service gets those of all owners.

    A page ends before `limit` where it would have more than 900,000 bytes: `nextCursor` goes on.
    """
    if not caller.known:
        raise unauthorized("Listing sessions needs an access token, or a session's token.")
    # not async: an answer of 900 KB is parsed in this thread, and not in the event loop
    page = parts_of(request).call(
        ListedSessions,
        "lull_list_sessions",
        p_caller=caller.argument() | {"where": query.where()},
        p_kind=query.kind,
        p_status=query.status,
        p_limit=query.limit,
        p_after=position_of(query.cursor),
    )
    return SessionPage(sessions=page.sessions, next_cursor=cursor_after(page.next))


@router.get("/count", dependencies=[SERVICE], **READS)
def count_sessions(request: Request, query: Annotated[WhichSessions, Query()]) -> Counts:
    """Count the sessions that match, by status. For the service."""
    return parts_of(request).call(
        Counts, "lull_count_sessions", p_kind=query.kind, p_status=query.status, p_where=query.where()
    )


@router.get("/{id}", **READS)
async def get_session(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
) -> OneSession:
    """Show a session."""
    answer = await parts_of(request).call_async(
        OneSession, "lull_get_session", **Place(session, table).arguments(caller)
    )
    return OneSession(session=tagged(response, answer.session))


@router.get("/{id}/events", **READS)
def list_session_events(
    request: Request, session: SessionId, query: Annotated[EventsQuery, Query()], caller: Caller = CALLER
) -> EventPage:
    """Show the events of a session after a given one, oldest first."""
    return parts_of(request).call(
        EventPage,
        "lull_session_events",
        p_after=query.after,
        p_limit=query.limit,
        **Place(session, query.table).arguments(caller),
    )
