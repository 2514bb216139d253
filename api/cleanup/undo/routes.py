"""What an operator does about runs: /api/admin/runs, /archive, /holds, /pause and /unpause."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import BaseModel

from api.cleanup.undo.restore import restore
from api.cleanup.undo.schemas import (
    ArchivedRow,
    ArchivedRows,
    ArchiveQuery,
    HeldRow,
    Hold,
    HoldPage,
    HoldsQuery,
    NewHold,
    OneHold,
    Pause,
    Pauses,
    RestoreArchive,
    RestoreReport,
    RestoreRun,
    RunDetails,
    RunPage,
    RunsQuery,
    RunSummary,
    Unpause,
)
from api.http.bodies import parse_body
from api.http.cursors import cursor_of, place_of, position_of
from api.http.dependencies import BODY
from api.http.openapi import body_of, documented
from api.http.parts import parts_of
from api.http.routers import admin_body_router, admin_router
from api.http.schemas import Answer, Id

RUNS, ARCHIVE, HOLDS = "/api/admin/runs", "/api/admin/archive", "/api/admin/holds"

_RunId = Annotated[Id, Path(alias="id")]
_READS: dict[str, Any] = {"responses": documented(401, 422, 500, 503)}
_FINDS: dict[str, Any] = {"responses": documented(401, 404, 422, 500, 503)}
_CHANGES = documented(400, 401, 415, 422, 500, 503)
_RESTORES = documented(400, 401, 404, 410, 415, 422, 500, 503)


class _Runs(BaseModel):
    """`lull_list_runs`."""

    runs: list[RunSummary]
    next: dict[str, Any] | None


class _Holds(BaseModel):
    """`lull_list_holds`."""

    holds: list[Hold]
    next: dict[str, Any] | None


class _Archived(Answer):
    """`lull_search_archive`."""

    archived: list[ArchivedRow]
    cursor: dict[str, Any] | None
    scanned_back: str | None


router = admin_router(tags=["cleanup"])
writing = admin_body_router(tags=["cleanup"])


@router.get(RUNS, **_READS)
def list_runs(request: Request, query: Annotated[RunsQuery, Query()]) -> RunPage:
    """List the cleanup's runs, newest first, shadow runs too."""
    found = parts_of(request).call(
        _Runs, "lull_list_runs", p_limit=query.limit, p_cursor=position_of(query.cursor), p_status=query.status
    )
    place = found.next and [found.next["created_at"], found.next["id"]]
    return RunPage(runs=found.runs, next_cursor=cursor_of(place))


@router.get(f"{RUNS}/{{id}}", **_FINDS)
def show_run(request: Request, run: _RunId) -> RunDetails:
    """Show a run by policy: what it did or would have done, what came back, and how far it is while in flight."""
    return parts_of(request).call(RunDetails, "lull_show_run", p_run=str(run))


@writing.post(
    f"{RUNS}/{{id}}/restore", responses=_RESTORES, openapi_extra=body_of(RestoreRun, required=False, security={})
)
def restore_run(request: Request, run: _RunId, body: bytes = BODY) -> RestoreReport:
    """Bring back what a run archived, for as long as CLEANUP_TIME_BUDGET_SECONDS allows.

    Repeating it restores nothing twice. A restored session's clock is this moment; a row of an adopted table keeps its
    clock and gets a hold of its policy's age.
    """
    parts = parts_of(request)
    scope = {"run": str(run), **parse_body(body, RestoreRun, optional=True).scope()}
    return restore(parts.database, scope, parts.settings.cleanup_time_budget_seconds)


@router.get(ARCHIVE, **_FINDS)
def find_archived(request: Request, query: Annotated[ArchiveQuery, Query()]) -> ArchivedRows:
    """Find archived rows, newest first. A text that is no key is looked for page by page, for 5 seconds a call."""
    place = place_of(query.cursor, {"page": int, "key": str})
    asked = query.model_dump(include={"owner", "target", "text", "limit"})
    arguments = {f"p_{name}": value for name, value in asked.items()}
    found = parts_of(request).call(_Archived, "lull_search_archive", p_cursor=place, **arguments)
    return ArchivedRows(
        archived=found.archived, next_cursor=cursor_of(found.cursor), scanned_back=found.scanned_back
    )


@writing.post(
    f"{ARCHIVE}/restore", responses=_RESTORES, openapi_extra=body_of(RestoreArchive, required=True, security={})
)
def restore_archive(request: Request, body: bytes = BODY) -> RestoreReport:
    """Bring back everything of an owner, or rows of a target, whichever runs archived them."""
    parts = parts_of(request)
    scope = parse_body(body, RestoreArchive).scope()
    return restore(parts.database, scope, parts.settings.cleanup_time_budget_seconds)


@router.get(HOLDS, **_READS)
def list_holds(request: Request, query: Annotated[HoldsQuery, Query()]) -> HoldPage:
    """List the holds in effect."""
    place = place_of(query.cursor, {"target": str, "key": str})
    found = parts_of(request).call(
        _Holds, "lull_list_holds", p_target=query.target, p_limit=query.limit, p_cursor=place
    )
    return HoldPage(holds=found.holds, next_cursor=cursor_of(found.next))


@writing.post(
    HOLDS,
    status_code=201,
    responses=documented(400, 401, 404, 409, 415, 422, 500, 503),
    openapi_extra=body_of(NewHold, required=True, security={}),
)
def hold_row(request: Request, body: bytes = BODY) -> OneHold:
    """Keep a row from every policy. It is in time, or answers 409: a batch that is taking the row is waited for."""
    hold = parse_body(body, NewHold)
    return parts_of(request).call(
        OneHold, "lull_hold_row", p_target=hold.target, p_key=hold.key, p_reason=hold.reason, p_until=_utc(hold.until)
    )


@router.delete(HOLDS, **_FINDS)
def release_row(request: Request, query: Annotated[HeldRow, Query()]) -> OneHold:
    """End a hold. Answers what it was."""
    return parts_of(request).call(OneHold, "lull_release_row", p_target=query.target, p_key=query.key)


@router.get("/api/admin/pause", **_READS)
def show_pauses(request: Request) -> Pauses:
    """Show which policies are paused, and why."""
    return parts_of(request).call(Pauses, "lull_pauses")


@writing.post("/api/admin/pause", responses=_CHANGES, openapi_extra=body_of(Pause, required=True, security={}))
def pause_cleanup(request: Request, body: bytes = BODY) -> Pauses:
    """Pause the cleanup, or one policy of it. A run in flight stops at its next batch."""
    pause = parse_body(body, Pause)
    return parts_of(request).call(
        Pauses, "lull_pause_cleanup", p_policy=pause.policy, p_reason=pause.reason, p_until=_utc(pause.until)
    )


@writing.post("/api/admin/unpause", responses=_CHANGES, openapi_extra=body_of(Unpause, required=False, security={}))
def unpause_cleanup(request: Request, body: bytes = BODY) -> Pauses:
    """End a pause. Answers the pauses that are left."""
    unpause = parse_body(body, Unpause, optional=True)
    return parts_of(request).call(Pauses, "lull_unpause_cleanup", p_policy=unpause.policy)


def _utc(moment: datetime | None) -> str | None:
    """A time as Postgres reads it: it accepts no offset beyond 15:59."""
    return moment.astimezone(UTC).isoformat() if moment else None


router.routes.extend(writing.routes)
