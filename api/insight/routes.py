"""Read-only numbers: GET /api/health[/cleanup], /api/flags, and /api/admin/funnel, /stats, /overview, /metrics."""

from typing import Annotated

from fastapi import Depends, Query, Request, Response

from api.auth.callers import Caller
from api.flags import EARLY_SESSIONS
from api.http.cleanup_facts import read_cleanup_facts
from api.http.dependencies import NEVER_STORED, never_stored
from api.http.openapi import CALLER_SCHEMES, documented
from api.http.parts import parts_of
from api.http.routers import admin_router, feature_router
from api.insight.dashboard_schemas import Overview, Regret, RegretQuery
from api.insight.funnel import read_funnel
from api.insight.health import cleanup_health
from api.insight.overview import read_overview
from api.insight.schemas import (
    CleanupHealth,
    DaysQuery,
    Flag,
    Flags,
    Funnel,
    Health,
    Introduction,
    Stats,
)
from api.insight.stats import read_stats

router = feature_router(tags=["insight"], dependencies=[Depends(never_stored)])
admin = admin_router(tags=["insight"])


@router.get("/")
def introduce() -> Introduction:
    """Answer what this is, and where to go on."""
    return Introduction()


@router.get("/api/health")
def health() -> Health:
    """Answer that the API is up. Does not call the database."""
    return Health()


@router.get("/api/health/cleanup", responses=documented(500, 503))
def show_cleanup_health(request: Request) -> CleanupHealth:
    """Answer whether the cleanup runs. A 503 says whether it is late, failing or stuck."""
    parts = parts_of(request)
    return cleanup_health(read_cleanup_facts(parts.database, parts.settings.interval_minutes()))


@router.get(
    "/api/flags",
    dependencies=CALLER_SCHEMES,
    responses=documented(401, 500, 503),
    openapi_extra={"security": [{}]},
)
async def show_flags(request: Request) -> Flags:
    """Evaluate the flags for this caller, so that a front end does not need their values at build time."""
    parts = parts_of(request)
    decision = parts.decide(await parts.callers.identify(request))
    flag = Flag(value=decision.value, variant=decision.variant, reason=decision.reason)
    return Flags(flags={EARLY_SESSIONS: flag})


@admin.get("/api/admin/funnel", responses=documented(401, 422, 500, 503))
def show_funnel(request: Request, query: Annotated[DaysQuery, Query()]) -> Funnel:
    """Count the chat drafts created, activated, abandoned and restored per day, from the event log."""
    return read_funnel(parts_of(request).database, query.days)


@admin.get("/api/admin/stats", responses=documented(401, 422, 500, 503))
def show_stats(request: Request, query: Annotated[DaysQuery, Query()]) -> Stats:
    """Answer the monitoring list: drafts, uploads, cleanup, events, this process's requests."""
    parts = parts_of(request)
    return read_stats(parts.database, parts.numbers, query.days)


@admin.get("/api/admin/regret", responses=documented(401, 422, 500, 503))
def show_regret(request: Request, query: Annotated[RegretQuery, Query()]) -> Regret:
    """Answer what each age of a policy would cost: the share of the sessions it takes that would have come back."""
    from api.insight.regret import read_regret

    return read_regret(parts_of(request).database, query.kind, query.status, query.regret)


@admin.get(
    "/api/admin/overview",
    response_model=Overview,
    responses={304: {"description": "Nothing has changed but the time."}, **documented(401, 422, 500, 503)},
)
def show_overview(request: Request) -> Response:
    """Answer what the dashboard shows at a glance. `If-None-Match` with its ETag: 304 while nothing has changed."""
    parts = parts_of(request)
    overview, tag = read_overview(parts.database, parts.settings.interval_minutes(), parts.decide(Caller()))
    headers = {**NEVER_STORED, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(overview.model_dump_json(by_alias=True), media_type="application/json", headers=headers)


@admin.get(
    "/api/admin/metrics",
    response_class=Response,
    responses={
        200: {"content": {"application/openmetrics-text": {"schema": {"type": "string"}}}},
        **documented(401, 422, 500, 503),
    },
)
def show_metrics(request: Request) -> Response:
    """Answer the numbers for a monitor, as OpenMetrics text. Without the database, only those of this process."""
    from api.insight.metrics import CONTENT_TYPE, metrics

    parts = parts_of(request)
    interval = parts.settings.interval_minutes()
    content = metrics(parts.database, parts.numbers, parts.user_session_numbers, interval)
    return Response(content, media_type=CONTENT_TYPE, headers=NEVER_STORED)


router.routes.extend(admin.routes)
