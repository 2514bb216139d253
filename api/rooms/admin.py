"""GET and POST /api/admin/sweep, GET /api/admin/rooms."""

from typing import Annotated

from fastapi import Query, Request

from api.http.browsers import is_head
from api.http.openapi import documented
from api.http.parts import parts_of
from api.http.routers import admin_router
from api.http.schedulers import is_scheduler
from api.rooms.joining import timing
from api.rooms.schemas import RoomsQuery, RoomsReport, SweepPreview, SweepReport
from api.rooms.sweep import run_sweep

admin = admin_router(tags=["rooms"])
_ERRORS = documented(401, 422, 500, 503)


@admin.get("/api/admin/sweep", responses=_ERRORS)
def show_sweep(request: Request) -> SweepPreview | SweepReport:
    """Count what a sweep would do, and do nothing. A call of the platform's scheduler sweeps instead."""
    parts = parts_of(request)
    if is_scheduler(request) and not is_head(request):
        return run_sweep(parts.database, parts.settings, caller="vercel-cron", is_stopping=parts.is_stopping)
    return parts.call(SweepPreview, "lull_preview_sweep", **timing(parts.settings))


@admin.post("/api/admin/sweep", responses=_ERRORS)
def sweep(request: Request) -> SweepReport:
    """Warn of sessions that expire soon, and tell who went away or left. Deletes nothing."""
    parts = parts_of(request)
    return run_sweep(parts.database, parts.settings, caller="admin", is_stopping=parts.is_stopping)


@admin.get("/api/admin/rooms", responses=_ERRORS)
def show_rooms(request: Request, query: Annotated[RoomsQuery, Query()]) -> RoomsReport:
    """Count the open rooms that are in use and that are not, and list those used last."""
    return parts_of(request).call(RoomsReport, "lull_report_rooms", p_limit=query.limit)
