"""The routes under /api/sessions: create, read and change sessions."""

from typing import Annotated, Any

from fastapi import Query, Request, Response

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.errors import Problem
from api.http.bodies import parse_body
from api.http.cursors import cursor_after, position_of
from api.http.dependencies import (
    BODY,
    CALLER,
    CALLER_NO_QUERY,
    CALLER_OF_SESSION,
    CALLER_OF_SESSION_NO_BODY,
    SERVICE,
    IdempotencyKey,
    Place,
    Version,
    version_of,
)
from api.http.idempotency import seconds_left
from api.http.openapi import (
    CALLER_SECURITY,
    RATE_LIMITS,
    READS,
    RETRY_AFTER,
    TAG,
    TRANSITION,
    body_of,
    documented,
    location_of,
)
from api.http.parts import parts_of
from api.http.rate_limits import limited, limits_argument
from api.http.routers import feature_router
from api.http.schemas import OneSession, Session, SessionId, Table
from api.sessions.creation import create
from api.sessions.schemas import (
    Activation,
    Counts,
    CreatedSession,
    End,
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
_DONE = {
    "Session-Activated": {"description": "`true` when this call activated the session.", "schema": {"type": "string"}},
    "Session-Restored": {
        "description": "`true` when the cleanup had archived the session, and this call restored it.",
        "schema": {"type": "string"},
    },
    "Session-Rows-Missing": {
        "description": "How many archived rows could not come back with it; they stay in the archive.",
        "schema": {"type": "integer"},
    },
}
_ACTIVATES: dict[str, Any] = {
    **TRANSITION,
    "responses": {**TRANSITION["responses"], 200: {"headers": {**TAG, **_DONE}}},
}
_CLAIMS: dict[str, Any] = {
    **TRANSITION,
    "responses": {**TRANSITION["responses"], **documented(429, headers={429: {**RETRY_AFTER, **RATE_LIMITS}})},
}
_ENDS: dict[str, Any] = {**TRANSITION, "openapi_extra": body_of(End, required=False)}

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
    return CreatedSession(session=_tagged(response, created.session), **token)


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
    return OneSession(session=_tagged(response, answer.session))


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


@router.post("/{id}/activate", **_ACTIVATES)
async def activate_session(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    version: Version = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> OneSession:
    """Activate a session on its first message. Idempotent; an archived draft is restored completely."""
    answer = await parts_of(request).call_async(
        Activation,
        "lull_activate_session",
        p_version=version_of(version),
        **Place(session, table).arguments(caller),
    )
    # Every call answers with the same body; the headers tell which call changed something.
    response.headers["Session-Activated"] = str(answer.activated).lower()
    response.headers["Session-Restored"] = str(answer.restored).lower()
    response.headers["Session-Rows-Missing"] = str(answer.missing)
    return OneSession(session=_tagged(response, answer.session))


@router.post("/{id}/pause", **TRANSITION)
async def pause_session(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    version: Version = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> OneSession:
    """Pause an active session: the cleanup does not delete it."""
    return await _change(request, response, "lull_pause_session", Place(session, table), caller, version)


@router.post("/{id}/resume", **TRANSITION)
async def resume_session(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    version: Version = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> OneSession:
    """Resume a paused session."""
    return await _change(request, response, "lull_resume_session", Place(session, table), caller, version)


@router.post("/{id}/end", **_ENDS)
async def end_session(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
    body: bytes = BODY,
    version: Version = None,
) -> OneSession:
    """End a session and keep it as history; a draft is discarded."""
    reason = parse_body(body, End, optional=True).reason
    place = Place(session, table)
    return await _change(request, response, "lull_end_session", place, caller, version, p_reason=reason)


@router.post("/{id}/claim-ownership", **_CLAIMS)
async def claim_ownership(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> OneSession:
    """Make the signed-in user the owner of the session whose token was sent. The token becomes invalid.

    A draft or a game that would be one too many for the user is refused, and keeps its token.
    """
    if caller.user_id is None:
        raise unauthorized("Claiming a session needs a user's access token beside the session's.")
    parts = parts_of(request)
    try:
        answer = await parts.call_async(
            OneSession,
            "lull_claim_session",
            p_user=str(caller.user_id),
            p_token_hash=caller.token_hash,
            p_limits=limits_argument(parts.settings, caller, request),
            p_session=str(session),
            p_table=table,
        )
    except Problem as problem:
        raise limited(problem) from None
    return OneSession(session=_tagged(response, answer.session))


async def _change(
    request: Request,
    response: Response,
    function: str,
    place: Place,
    caller: Caller,
    version: str | None,
    **more: Any,
) -> OneSession:
    """Call the SQL function of a transition, which changes the session or refuses."""
    answer = await parts_of(request).call_async(
        OneSession,
        function,
        p_version=version_of(version),
        **place.arguments(caller),
        **more,
    )
    return OneSession(session=_tagged(response, answer.session))


def _tagged(response: Response, session: Session) -> Session:
    response.headers["ETag"] = f'"{session.version}"'
    return session
