"""Read-only: GET /api/health, /api/flags and, for the admin, /api/admin/funnel, /stats and /metrics."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from api import __version__
from api.auth import ADMIN_SCHEME, CALLER_SCHEMES, Caller, Callers, require_admin
from api.database import Database
from api.errors import documented
from api.flags import EARLY_SESSIONS, Decide
from api.insight.funnel import Funnel, read_funnel
from api.insight.metrics import CONTENT_TYPE, metrics
from api.insight.stats import Stats, read_stats
from api.observability import RequestNumbers
from api.settings import Settings
from api.winged import wing_router
from api.wire import Answer, PlainDigits, Question, refuse_repetition

_NEVER_STORED = {"Cache-Control": "no-store"}


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


class DaysQuery(Question):
    """How far back."""

    days: Annotated[int, Field(ge=1, le=400), PlainDigits] = Field(
        default=7, description="Today included, in UTC."
    )


def insight_routes(
    settings: Settings, database: Database, callers: Callers, decide: Decide, numbers: RequestNumbers
) -> APIRouter:
    """The read-only routes, over these parts."""
    router = wing_router(tags=["insight"], dependencies=[Depends(_never_stored)])

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
    def show_funnel(query: Annotated[DaysQuery, Query()]) -> Funnel:
        """Count the chat drafts created, activated, abandoned and restored per day, from the ledger."""
        return read_funnel(database, query.days)

    @router.get("/api/admin/stats", dependencies=admin_only, responses=documented(401, 422, 500, 503))
    def show_stats(query: Annotated[DaysQuery, Query()]) -> Stats:
        """Answer seed 003's monitoring list: drafts, uploads, cleanup, events, this process's requests."""
        return read_stats(database, numbers, query.days)

    @router.get(
        "/api/admin/metrics",
        dependencies=admin_only,
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **documented(401, 500, 503),
        },
    )
    def show_metrics() -> Response:
        """Give Prometheus the same numbers; only this process's own while the database is away."""
        return Response(metrics(database, numbers), media_type=CONTENT_TYPE, headers=_NEVER_STORED)

    return router


def _never_stored(response: Response) -> None:
    response.headers.update(_NEVER_STORED)
