"""Join a session: check the proofs, call the database once, make the participant's token."""

from typing import Any
from uuid import UUID

from fastapi import Request

from api.auth.callers import Caller
from api.auth.participant_tokens import participant_token
from api.errors import Problem, invalid_request
from api.http.client_address import client_hash
from api.http.dependencies import Place
from api.http.parts import parts_of
from api.http.rate_limits import limited
from api.rooms.proofs import anonymous_hashes, invite_of
from api.rooms.schemas import Done, Join, JoinAnswer, Joined
from api.settings import Settings


async def join(request: Request, place: Place, caller: Caller, asked: Join) -> Joined:
    """Join a session, or come back to it.

    Raises 404, 409, 410 or 422 as the database decides, 429 when a limit is reached. A refused invite is counted.
    """
    parts = parts_of(request)
    settings = parts.settings
    if asked.user_id is not None and not caller.service:
        raise invalid_request(("userId", "is for the service only: a user is known by the access token"))
    limits = _limits(settings, caller, request)
    arguments = {
        "access_method": asked.access_method,
        "invite": str(await _invite(request, place.id, asked, limits)) if asked.invite is not None else None,
        "name": asked.name,
        "tab": asked.tab,
        "anonymous": anonymous_hashes(settings, place.id, asked.anonymous_id),
        "user_id": str(asked.user_id) if asked.user_id else None,
    }
    try:
        answer = await parts.call_async(
            JoinAnswer, "lull_join_session", p_join=arguments, p_limits=limits, **place.arguments(caller)
        )
    except Problem as problem:
        raise limited(problem) from None
    if answer.refused is not None or answer.participant is None:
        raise _refused(answer)
    return Joined(
        participant=answer.participant,
        participant_token=participant_token(settings, place.id, answer.participant.id),
        status=answer.status,
        expires_at=answer.expires_at,
        warn_at=answer.warn_at,
        beat_seconds=settings.presence_update_seconds,
    )


def timing(settings: Settings) -> dict[str, float]:
    """The arguments by which SQL functions judge who is away or left: seconds."""
    return {"p_interval": settings.presence_update_seconds, "p_grace": settings.leave_grace_seconds}


def _limits(settings: Settings, caller: Caller, request: Request) -> dict[str, Any]:
    return {
        "interval": settings.presence_update_seconds,
        "grace": settings.leave_grace_seconds,
        "seat_hold": settings.seat_seconds(),
        "max_participants": settings.max_participants or None,
        "client_hash": None if caller.service else client_hash(settings, request),
        "anonymous_joins_per_hour": settings.anonymous_joins_per_hour or None,
        "invite_failures_per_hour": settings.invite_failures_per_hour or None,
    }


async def _invite(request: Request, session: UUID, asked: Join, limits: dict[str, Any]) -> UUID:
    """The invite whose token was sent. A token that is none of this session's is counted, then refused."""
    parts = parts_of(request)
    try:
        return invite_of(parts.settings, session, asked.invite or "")
    except Problem as refusal:
        if refusal.status < 500:
            try:
                await parts.call_async(
                    Done,
                    "lull_count_invite_failure",
                    p_client_hash=limits["client_hash"],
                    p_limit=limits["invite_failures_per_hour"],
                )
            except Problem as problem:
                raise limited(problem) from None
        raise


def _refused(answer: JoinAnswer) -> Problem:
    """The refusal that the database returned: an exception there would have undone its counter."""
    refused = answer.refused
    if refused is None:
        raise RuntimeError("the database answered a join with neither a participant nor a refusal")
    return Problem(refused.status, refused.type, refused.message, **refused.members)
