"""The routes of rooms: /join, /leave, /heartbeat, /touch, /participants, /expiry and /invites of any session."""

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Path, Request

from api.auth.callers import Caller
from api.auth.secrets import unauthorized
from api.errors import Problem
from api.http.bodies import parse_body
from api.http.dependencies import (
    BODY,
    CALLER_IN_SESSION,
    CALLER_IN_SESSION_NO_BODY,
    CALLER_OF_SESSION,
    CALLER_OF_SESSION_NO_BODY,
    IdempotencyKey,
    Place,
)
from api.http.idempotency import idempotency_argument
from api.http.openapi import CALLER_SECURITY, PARTICIPANT_SECURITY, RATE_LIMITS, RETRY_AFTER, body_of, documented
from api.http.parts import parts_of
from api.http.rate_limits import limited
from api.http.routers import feature_router
from api.http.schemas import Id, SessionId, Table
from api.rooms.admin import admin
from api.rooms.joining import join, timing
from api.rooms.proofs import invite_token
from api.rooms.schemas import (
    Beat,
    CreatedInvite,
    Done,
    Expiry,
    Invite,
    InviteList,
    InviteRequest,
    InviteRow,
    InviteRows,
    Join,
    Joined,
    Leave,
    ListedParticipant,
    NewInvite,
    OneTab,
    ParticipantRows,
    Present,
    SessionExpiry,
)
from api.settings import Settings

ParticipantId = Annotated[Id, Path(alias="participant")]
InviteId = Annotated[Id, Path(alias="invite")]

_LIMITED = documented(429, headers={429: {**RETRY_AFTER, **RATE_LIMITS}})
_WRITES = documented(400, 401, 404, 409, 410, 415, 422, 500, 503)
_READS = documented(401, 404, 409, 410, 422, 500, 503)


def _with_body(model: Any, *, required: bool, security: dict[str, Any] = PARTICIPANT_SECURITY) -> dict[str, Any]:
    return {"responses": _WRITES, "openapi_extra": body_of(model, required=required, security=security)}


_JOINS = _with_body(Join, required=True, security={"security": [*PARTICIPANT_SECURITY["security"], {}]})
_JOINS["responses"] = {**_WRITES, **_LIMITED}
_INVITES = _with_body(NewInvite, required=False, security=CALLER_SECURITY)
_INVITES["responses"] = {**_WRITES, **_LIMITED}
_TOUCHES: dict[str, Any] = {"responses": _WRITES, "openapi_extra": PARTICIPANT_SECURITY}
_SHOWS: dict[str, Any] = {"responses": _READS, "openapi_extra": PARTICIPANT_SECURITY}
_OWNS: dict[str, Any] = {"responses": _WRITES, "openapi_extra": CALLER_SECURITY}

router = feature_router(prefix="/api/sessions/{id}", tags=["rooms"])


@router.post("/join", **_JOINS)
async def join_session(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION, body: bytes = BODY
) -> Joined:
    """Join a session, or come back to it: a second tab or device of a person is the same participant."""
    return await join(request, Place(session, table), caller, parse_body(body, Join))


@router.post("/heartbeat", **_with_body(OneTab, required=True))
async def heartbeat(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION, body: bytes = BODY
) -> Beat:
    """Say that a page is open. The participant's token suffices. `expiresAt` is the earliest time of the expiry."""
    parts = parts_of(request)
    tab = parse_body(body, OneTab).tab
    answer = await parts.call_async(
        Present,
        "lull_heartbeat",
        p_participant=str(caller.participant) if caller.participant else None,
        p_tab=tab,
        **timing(parts.settings),
        **Place(session, table).arguments(caller),
    )
    return Beat(**answer.model_dump(), beat_seconds=parts.settings.presence_update_seconds)


@router.post("/leave", status_code=204, **_with_body(Leave, required=False))
async def leave_session(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION, body: bytes = BODY
) -> None:
    """Leave: a page, told after LEAVE_GRACE_SECONDS if it was the person's last; without `tab` the person, at once."""
    parts = parts_of(request)
    tab = parse_body(body, Leave, optional=True).tab
    arguments = Place(session, table).arguments(caller)
    await parts.call_async(Done, "lull_leave_session", p_tab=tab, **timing(parts.settings), **arguments)


@router.post("/touch", **_TOUCHES)
async def touch_session(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION_NO_BODY
) -> Expiry:
    """Stay: record activity without a participant, for the owner, the service, and participants."""
    parts = parts_of(request)
    answer = await parts.call_async(
        Present,
        "lull_touch_session",
        p_interval=parts.settings.presence_update_seconds,
        **Place(session, table).arguments(caller),
    )
    return Expiry(expires_at=answer.expires_at, warn_at=answer.warn_at)


@router.get("/expiry", **_SHOWS)
async def show_expiry(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION
) -> SessionExpiry:
    """Answer whether and when the session expires, to its owner, the service, and all who are or were in it."""
    arguments = Place(session, table).arguments(caller)
    return await parts_of(request).call_async(SessionExpiry, "lull_session_expiry", **arguments)


@router.get("/participants", response_model_exclude_unset=True, **_SHOWS)
async def list_participants(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_IN_SESSION
) -> list[ListedParticipant]:
    """List who is here, by the time of joining, at most 500: for the owner, the service, and participants."""
    parts = parts_of(request)
    arguments = Place(session, table).arguments(caller)
    answer = await parts.call_async(
        ParticipantRows, "lull_list_participants", **timing(parts.settings), **arguments
    )
    return answer.participants


@router.delete("/participants/{participant}", status_code=204, **_OWNS)
async def remove_participant(
    request: Request,
    session: SessionId,
    participant: ParticipantId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> None:
    """Remove a participant for good. For the owner and the service."""
    arguments = Place(session, table).arguments(caller)
    await parts_of(request).call_async(Done, "lull_remove_participant", p_participant=str(participant), **arguments)


@router.post("/invites", status_code=201, **_INVITES)
async def create_invite(
    request: Request,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
    body: bytes = BODY,
    key: IdempotencyKey = None,
) -> Invite:
    """Create an invite. For the owner and the service. A retry with the `Idempotency-Key` repeats it."""
    if not caller.known:
        raise unauthorized("Inviting needs the session's token, its owner's access token or the service secret.")
    parts = parts_of(request)
    new = parse_body(body, NewInvite, optional=True)
    asked = InviteRequest(**new.model_dump(), session=str(session))
    try:
        answer = await parts.call_async(
            CreatedInvite,
            "lull_create_invite",
            p_invite=str(uuid4()),
            p_seconds=new.expires_in_hours * 3600,
            p_max_uses=new.max_uses,
            p_most=parts.settings.max_invites_per_session or None,
            p_idempotency=idempotency_argument(parts.settings, request, caller, key, asked),
            **Place(session, table).arguments(caller),
        )
    except Problem as problem:
        raise limited(problem) from None
    return _invite(parts.settings, session, answer.invite)


@router.get("/invites", **{**_OWNS, "responses": _READS})
async def list_invites(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_OF_SESSION
) -> InviteList:
    """List the session's invites with their tokens, newest first. For the owner and the service."""
    parts = parts_of(request)
    answer = await parts.call_async(InviteRows, "lull_list_invites", **Place(session, table).arguments(caller))
    return InviteList(invites=[_invite(parts.settings, session, row) for row in answer.invites])


@router.delete("/invites/{invite}", status_code=204, **_OWNS)
async def revoke_invite(
    request: Request,
    session: SessionId,
    invite: InviteId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> None:
    """Revoke an invite: it lets no one in from now on. For the owner and the service."""
    arguments = Place(session, table).arguments(caller)
    await parts_of(request).call_async(Done, "lull_revoke_invite", p_invite=str(invite), **arguments)


def _invite(settings: Settings, session: UUID, row: InviteRow) -> Invite:
    return Invite(**row.model_dump(), token=invite_token(settings, session, row.id))


router.routes.extend(admin.routes)
