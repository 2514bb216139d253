"""Creating a session: the flag, the token, the key, one call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from api.auth import Caller
from api.database import Database
from api.errors import Problem
from api.flags import Decide
from api.sessions.idempotency import idempotency_argument
from api.sessions.limits import check_size, limit_headers, limited
from api.sessions.models import NewSession
from api.sessions.tokens import session_token, token_hash
from api.settings import Settings

TIMEOUT_SECONDS = 10  # the functions' own statement time-out is 8


@dataclass(frozen=True)
class Created:
    """What lull_create_session answered, and the owner's token if it is anonymous."""

    session: dict[str, Any]
    token: str | None
    replayed: bool
    headers: dict[str, str]


@dataclass(frozen=True)
class Creation:
    """What creating a session takes."""

    settings: Settings
    database: Database
    decide: Decide
    new_id: Callable[[], UUID] = uuid4

    def create(
        self, caller: Caller, request: NewSession, key: str | None, limits: dict[str, Any] | None
    ) -> Created:
        """Create a session for this caller, or give the answer of the first request with this key again.

        `limits` are those of `limits_argument`. Raises 429 when one of them is reached, 403 for an early chat
        while the flag is off for the caller (seed 003's original behaviour is then one call away: `active` at
        the first message), 422 for a key used for another request.
        """
        check_size(self.settings, "metadata", request.metadata)
        if request.kind == "chat" and request.status == "draft":
            self._check_flag(caller)
        anonymous = not caller.service and caller.user_id is None
        session = self.new_id()
        token = session_token(self.settings, session) if anonymous else None
        arguments = {
            "p_session": str(session),
            "p_kind": request.kind,
            "p_status": request.status,
            "p_title": request.title,
            "p_external_key": request.external_key,
            "p_mode": request.mode,
            "p_metadata": request.metadata,
            "p_owner": str(caller.user_id) if caller.user_id else None,
            "p_token_hash": token_hash(token) if token else None,
            "p_idempotency": idempotency_argument(key, caller, request),
            "p_limits": limits,
        }
        try:
            answer = self.database.call("lull_create_session", arguments, timeout_seconds=TIMEOUT_SECONDS)
        except Problem as problem:
            if problem.slug == "rate-limited":
                raise limited(problem) from None
            raise
        if anonymous:
            token = session_token(self.settings, UUID(answer["session"]["id"]), answer["token_rotation"])
        headers = limit_headers(answer.get("limits") or ())
        return Created(answer["session"], token, answer["replayed"], headers)

    def _check_flag(self, caller: Caller) -> None:
        decision = self.decide(caller)
        if not decision.value:
            raise Problem(
                403,
                "early-sessions-off",
                "Chats cannot be created before their first message here, and nothing was created. "
                'Create the session at the first message instead, with "status": "active".',
                reason=decision.reason,
            )
