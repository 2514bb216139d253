"""Read-only: GET /api/health, GET /api/flags, GET /api/admin/funnel."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from api import __version__
from api.auth import ADMIN_SCHEME, CALLER_SCHEMES, Caller, Callers, require_admin
from api.database import Database
from api.errors import documented
from api.flags import EARLY_SESSIONS, Decide
from api.insight.funnel import Funnel, read_funnel
from api.settings import Settings
from api.wire import Answer, PlainDigits, Question, refuse_repetition


class Health(BaseModel):
    """Says that this process answers, and which version it is."""

    status: Literal["ok"] = "ok"
    version: str = __version__


class Flag(Answer):
    """What a flag is for the caller, and why."""

    value: bool
    variant: str
    reason: str


class Flags(Answer):
    """Every flag, as it is for the caller."""

    flags: dict[str, Flag] = Field(
        examples=[{EARLY_SESSIONS: {"value": True, "variant": "on", "reason": "SPLIT"}}]
    )


class FunnelQuery(Question):
    """How far back."""

    days: Annotated[int, Field(ge=1, le=400), PlainDigits] = Field(
        default=7, description="Today included, in UTC."
    )


def insight_routes(settings: Settings, database: Database, callers: Callers, decide: Decide) -> APIRouter:
    """The read-only routes, over these parts."""
    router = APIRouter(tags=["insight"], dependencies=[Depends(_never_stored)])

    def admin(request: Request) -> None:
        require_admin(request, settings)

    admin_only = [Depends(admin), Depends(refuse_repetition), *ADMIN_SCHEME]

    @router.get("/api/health")
    def health() -> Health:
        """Answer that the API is up; asks nothing of the database."""
        return Health()

    @router.get(
        "/api/flags",
        dependencies=CALLER_SCHEMES,
        responses=documented(401, 500, 503),
        openapi_extra={"security": [{}]},
    )
    def show_flags(caller: Annotated[Caller, Depends(callers.identify)]) -> Flags:
        """Evaluate the flags for this caller, so that a front end need not bake their values in."""
        decision = decide(caller)
        flag = Flag(value=decision.value, variant=decision.variant, reason=decision.reason)
        return Flags(flags={EARLY_SESSIONS: flag})

    @router.get("/api/admin/funnel", dependencies=admin_only, responses=documented(401, 422, 500, 503))
    def show_funnel(query: Annotated[FunnelQuery, Query()]) -> Funnel:
        """Count the chat drafts created, activated, abandoned and restored per day, from the ledger."""
        return read_funnel(database, query.days)

    return router


def _never_stored(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
