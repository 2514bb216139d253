"""The routes under /api/sessions: the whole life of a session."""

from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from api.auth import Caller, Callers, unauthorized
from api.sessions.creation import TIMEOUT_SECONDS, Creation
from api.sessions.idempotency import seconds_left
from api.sessions.limits import limits_argument
from api.sessions.models import (
    CreatedSession,
    End,
    EventPage,
    EventsQuery,
    Id,
    ListQuery,
    NewSession,
    OneSession,
    SessionPage,
)
from api.sessions.pages import cursor_after, position_of
from api.sessions.requests import (
    ACTIVATES,
    BODY,
    CREATES,
    ENDS,
    READS,
    TRANSITION,
    IdempotencyKey,
    Version,
    asked_by,
    no_body,
    no_query,
)
from api.winged import wing_router
from api.wire import parse_body

PATH = "/api/sessions"

SessionId = Annotated[Id, Path(alias="id")]
One = TypeVar("One", bound=OneSession)


def session_routes(creation: Creation, callers: Callers) -> APIRouter:
    """The routes of sessions, over these parts."""
    router = wing_router(prefix=PATH, tags=["sessions"])
    who = asked_by(callers)
    plain = asked_by(callers, no_query)
    empty = asked_by(callers, no_query, no_body)

    async def call(function: str, **arguments: Any) -> dict[str, Any]:
        return await creation.database.ask(function, arguments, timeout_seconds=TIMEOUT_SECONDS)

    async def transition(
        function: str, session: UUID, caller: Caller, version: str | None, **more: Any
    ) -> Any:
        owner, expected = caller.argument(), int(version.strip('"')) if version else None
        return await call(function, p_session=str(session), p_caller=owner, p_version=expected, **more)

    @router.post("", status_code=201, response_model_exclude_unset=True, **CREATES)
    def create_session(
        request: Request,
        response: Response,
        caller: Caller = plain,
        body: bytes = BODY,
        key: IdempotencyKey = None,
    ) -> CreatedSession:
        """Create a session. An anonymous caller gets its token; a chat's draft needs the flag."""
        limits = limits_argument(creation.settings, caller, request)
        created = creation.create(caller, parse_body(body, NewSession), key, limits)
        response.headers.update(created.headers)
        response.headers["Location"] = f"{PATH}/{created.session['id']}"
        if created.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        if key is not None:
            response.headers["Idempotency-Expires-In"] = str(seconds_left(created.session["created_at"]))
        token = {"session_token": created.token} if created.token else {}
        return _tagged(response, CreatedSession.model_validate({"session": created.session, **token}))

    @router.get("", **READS)
    async def list_sessions(query: Annotated[ListQuery, Query()], caller: Caller = who) -> SessionPage:
        """List the caller's own sessions, newest first; the service's list has everybody's."""
        if not caller.known:
            raise unauthorized("Listing sessions needs an access token, or a session's token.")
        page = await call(
            "lull_list_sessions",
            p_caller=caller.argument(),
            p_kind=query.kind,
            p_status=query.status,
            p_limit=query.limit,
            p_after=position_of(query.cursor),
        )
        return SessionPage(sessions=page["sessions"], next_cursor=cursor_after(page["next"]))

    @router.get("/{id}", **READS)
    async def get_session(response: Response, session: SessionId, caller: Caller = plain) -> OneSession:
        """Show a session."""
        answer = await call("lull_get_session", p_session=str(session), p_caller=caller.argument())
        return _tagged(response, OneSession.model_validate(answer))

    @router.get("/{id}/events", **READS)
    async def list_session_events(
        session: SessionId, query: Annotated[EventsQuery, Query()], caller: Caller = who
    ) -> EventPage:
        """Show what happened to a session after an event, oldest first."""
        answer = await call(
            "lull_session_events",
            p_session=str(session),
            p_caller=caller.argument(),
            p_after=query.after,
            p_limit=query.limit,
        )
        return EventPage.model_validate(answer)

    @router.post("/{id}/activate", **ACTIVATES)
    async def activate_session(
        response: Response, session: SessionId, version: Version = None, caller: Caller = empty
    ) -> OneSession:
        """Activate a session on its first message. Again is fine; an archived draft comes back whole."""
        answer = await transition("lull_activate_session", session, caller, version)
        # Every call answers with the same body; which of them did it stands beside it.
        for what in ("activated", "restored"):
            response.headers[f"Session-{what.capitalize()}"] = str(answer[what]).lower()
        return _tagged(response, OneSession.model_validate(answer))

    @router.post("/{id}/pause", **TRANSITION)
    async def pause_session(
        response: Response, session: SessionId, version: Version = None, caller: Caller = empty
    ) -> OneSession:
        """Pause an active session: no timeout cleans it."""
        answer = await transition("lull_pause_session", session, caller, version)
        return _tagged(response, OneSession.model_validate(answer))

    @router.post("/{id}/resume", **TRANSITION)
    async def resume_session(
        response: Response, session: SessionId, version: Version = None, caller: Caller = empty
    ) -> OneSession:
        """Resume a paused session."""
        answer = await transition("lull_resume_session", session, caller, version)
        return _tagged(response, OneSession.model_validate(answer))

    @router.post("/{id}/end", **ENDS)
    async def end_session(
        response: Response,
        session: SessionId,
        caller: Caller = plain,
        body: bytes = BODY,
        version: Version = None,
    ) -> OneSession:
        """End a session and keep it as history; a draft is discarded."""
        reason = parse_body(body, End, optional=True).reason
        answer = await transition("lull_end_session", session, caller, version, p_reason=reason)
        return _tagged(response, OneSession.model_validate(answer))

    @router.post("/{id}/claim-ownership", **TRANSITION)
    async def claim_ownership(response: Response, session: SessionId, caller: Caller = empty) -> OneSession:
        """Make the signed-in user the owner of the session whose token came along; the token is void then."""
        if caller.user_id is None:
            raise unauthorized("Claiming a session needs a user's access token beside the session's.")
        answer = await call(
            "lull_claim_ownership",
            p_session=str(session),
            p_user=str(caller.user_id),
            p_token_hash=caller.token_hash,
        )
        return _tagged(response, OneSession.model_validate(answer))

    return router


def _tagged(response: Response, answer: One) -> One:
    response.headers["ETag"] = f'"{answer.session.version}"'
    return answer
