"""The routes of /api/sessions/{id}/feedback: give feedback on a session, and read it."""

import hmac
from typing import Annotated, Any

from fastapi import Query, Request

from api.auth.callers import Caller
from api.errors import Problem, invalid_request, not_configured
from api.feedback.schemas import FeedbackPage, FeedbackQuery, GivenFeedback, ListedFeedback, NewFeedback
from api.http.bodies import parse_body
from api.http.cursors import cursor_after, position_of
from api.http.dependencies import BODY, CALLER, CALLER_IN_SESSION, Place
from api.http.openapi import PARTICIPANT_SECURITY, RATE_LIMITS, READS, RETRY_AFTER, body_of, documented
from api.http.parts import parts_of
from api.http.rate_limits import limited
from api.http.routers import feature_router
from api.http.schemas import SessionId, Table
from api.settings import Settings

_GIVES: dict[str, Any] = {
    "responses": documented(
        400, 401, 404, 409, 410, 415, 422, 429, 500, 503, headers={429: {**RETRY_AFTER, **RATE_LIMITS}}
    ),
    "openapi_extra": body_of(NewFeedback, required=True, security=PARTICIPANT_SECURITY),
}

router = feature_router(prefix="/api/sessions/{id}/feedback", tags=["feedback"])


@router.post("", response_model_exclude_unset=True, **_GIVES)
def give_feedback(
    request: Request,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_IN_SESSION,
    body: bytes = BODY,
) -> GivenFeedback:
    """Give feedback on a session, ended or not: its owner, the service, and who takes or took part.

    The same author's next feedback replaces it.
    """
    parts = parts_of(request)
    new = parse_body(body, NewFeedback)
    if new.author is not None and not caller.service:
        raise invalid_request(("author", "only the service passes on the feedback of others"))
    try:
        return parts.call(
            GivenFeedback,
            "lull_give_feedback",
            **Place(session, table).arguments(caller),
            p_score=new.score,
            p_about=new.about,
            p_comment=new.comment,
            p_author=_hashed(parts.settings, new.author) if new.author is not None else None,
            p_most=None if caller.service else parts.settings.feedback_per_hour or None,
        )
    except Problem as problem:
        raise limited(problem) if problem.slug == "rate-limited" else problem from None


@router.get("", response_model_exclude_unset=True, **READS)
def list_feedback(
    request: Request, session: SessionId, query: Annotated[FeedbackQuery, Query()], caller: Caller = CALLER
) -> FeedbackPage:
    """List the feedback on a session: its owner sees no authors. The service reads it when the session is gone, too."""
    page = parts_of(request).call(
        ListedFeedback,
        "lull_list_feedback",
        **Place(session, query.table).arguments(caller),
        p_limit=query.limit,
        p_after=position_of(query.cursor),
    )
    following = cursor_after(page.next)
    return FeedbackPage(feedback=page.feedback, count=page.count, average=page.average, next_cursor=following)


def _hashed(settings: Settings, author: str) -> str:
    """The keyed hash of an author's name: a copy of the database does not tell whose feedback it is."""
    key = settings.derived_key(b"lull feedback author")
    if key is None:
        raise not_configured("SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.")
    return hmac.digest(key, author.encode(), "sha256").hex()
