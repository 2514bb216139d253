"""Create a session: check the flag, derive the token, call the database once."""

from dataclasses import dataclass
from uuid import uuid4

from fastapi import Request

from api.auth.callers import Caller
from api.auth.session_tokens import session_token, token_hash
from api.errors import Problem, invalid_request
from api.flags import Decision
from api.http.idempotency import idempotency_argument
from api.http.parts import parts_of
from api.http.rate_limits import limit_headers, limited, limits_argument
from api.http.schemas import Session
from api.sessions.schemas import Creation, NewSession


@dataclass(frozen=True)
class Created:
    """A new session (or a replay of the first answer to a key), and the owner's token if it is anonymous."""

    session: Session
    token: str | None
    replayed: bool
    headers: dict[str, str]


def create(request: Request, caller: Caller, new: NewSession, key: str | None) -> Created:
    """Create a session for this caller, or replay the answer of the first request with this key.

    Raises 429 when a limit is reached, 422 for a key used for another request, 403 for an early chat while the flag
    is off for the caller (which can then create the chat as `active` at the first message). The answer to a key
    that was used while the flag was on is repeated.
    """
    parts = parts_of(request)
    settings = parts.settings
    _check_game(caller, new)
    refusal = None
    if new.kind == "chat" and new.status == "draft":
        refusal = _refusal(parts.decide(caller))
        if refusal is not None and key is None:
            raise refusal
    anonymous = not caller.service and caller.user_id is None
    session = uuid4()
    token = session_token(settings, session) if anonymous else None
    limits = limits_argument(settings, caller, request)
    if new.table is not None:
        limits = {**(limits or {}), "table": new.table}
    if new.kind == "game":
        game = {"guild_id": new.guild_id, "state": new.state, "max_state_bytes": settings.max_state_bytes}
        limits = {**(limits or {}), "game": game}
    try:
        answer = parts.call(
            Creation,
            "lull_create_session",
            p_session=str(session),
            p_kind=new.kind,
            p_status=new.status,
            p_title=new.title,
            p_external_key=new.external_key,
            p_mode=new.mode,
            p_metadata=new.metadata,
            p_owner=str(caller.user_id) if caller.user_id else None,
            p_token_hash=token_hash(token) if token else None,
            p_idempotency=idempotency_argument(settings, request, caller, key, new, only_replay=refusal is not None),
            p_limits=limits,
        )
    except Problem as problem:
        if problem.slug == "rate-limited":
            raise limited(problem) from None
        if refusal is not None and problem.slug == refusal.slug:
            raise refusal from None
        raise
    if anonymous:
        token = session_token(settings, answer.session.id, answer.token_rotation)
    return Created(answer.session, token, answer.replayed, limit_headers(answer.limits or ()))


def _check_game(caller: Caller, new: NewSession) -> None:
    """Raise 422 for a game of the service without guild or mode, and for what only such a game has."""
    if new.kind == "game" and caller.service:
        missing = [("guildId", new.guild_id), ("mode", new.mode)]
        faults = [(name, "is needed for a game of the service") for name, value in missing if value is None]
    else:
        own = [("guildId", new.guild_id), ("state", new.state)]
        if new.kind == "game":
            own.append(("externalKey", new.external_key))
        faults = [(name, "is only for games of the service") for name, value in own if value is not None]
    if faults:
        raise invalid_request(*faults)


def _refusal(decision: Decision) -> Problem | None:
    if decision.value:
        return None
    return Problem(
        403,
        "early-sessions-off",
        "Chats cannot be created before their first message here, and nothing was created. "
        'Create the session at the first message instead, with "status": "active".',
        reason=decision.reason,
    )
