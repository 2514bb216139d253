"""The routes that change one session's status or owner: activate, pause, resume, end, claim.

They are apart from those of creation and lists, because a process's first request is most often an activation.
"""

from typing import Any

from fastapi import Request, Response

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.errors import Problem
from api.http.bodies import parse_body
from api.http.dependencies import (
    BODY,
    CALLER_OF_SESSION,
    CALLER_OF_SESSION_NO_BODY,
    Place,
    Version,
    tagged,
    version_of,
)
from api.http.openapi import RATE_LIMITS, RETRY_AFTER, TAG, TRANSITION, body_of, documented
from api.http.parts import parts_of
from api.http.rate_limits import limited, limits_argument
from api.http.routers import feature_router
from api.http.schemas import OneSession, SessionId, Table
from api.sessions.transition_schemas import Activation, End

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

router = feature_router(prefix="/api/sessions", tags=["sessions"])


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
    return OneSession(session=tagged(response, answer.session))


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
    return OneSession(session=tagged(response, answer.session))


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
    return OneSession(session=tagged(response, answer.session))
