"""GET and POST /api/admin/cleanup-sessions: the dry run and the run."""

import re
from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.auth import ADMIN_SCHEME, require_admin
from api.cleanup.answers import DryRunReport, RunReport, SkippedReport
from api.cleanup.policies import USUAL_SUBJECT, subject_of
from api.cleanup.preview import preview_cleanup
from api.cleanup.report import MOST_ROWS, PATH, dry_run_report, run_report
from api.cleanup.run import Cleanup, run_cleanup
from api.errors import documented, invalid_request
from api.settings import Settings
from api.winged import wing_router
from api.wire import NotNull, PlainDigits


def _number(value: object) -> object:
    """Only plain digits: no 1e3, no 1_000, no inf."""
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,12})?", str(value)):
        raise ValueError("must be a number")
    return value


def _rfc3339(value: object) -> object:
    text = str(value)
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", text, re.ASCII):
        raise ValueError("must be a time with a zone, such as 2026-01-31T12:00:00Z (write + as %2B)")
    if not "1970" <= text[:4] <= "9000":
        raise ValueError("must be between the years 1970 and 9000")
    return value


class Parameters(BaseModel):
    """The query. `at`, `thresholdHours` and `limit` simulate: they go with a dry run only."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    dry_run: Annotated[Literal["true", "false"] | None, NotNull()] = Field(
        default=None,
        description="Decides; by default GET only shows, except for the scheduler, and POST executes.",
    )
    policy: Annotated[str | None, NotNull()] = Field(
        default=None, description=f"Default: {USUAL_SUBJECT}, else the first of the file; all of them run."
    )
    max_rows: Annotated[Annotated[int, Field(ge=1, le=MOST_ROWS), PlainDigits] | None, NotNull()] = Field(
        default=None, description="With `policy`: let up to so many rows pass its breaker, this once."
    )
    threshold_hours: Annotated[
        Annotated[float, Field(ge=0.1, le=8760), BeforeValidator(_number)] | None, NotNull()
    ] = None
    at: Annotated[Annotated[AwareDatetime, BeforeValidator(_rfc3339)] | None, NotNull()] = None
    limit: Annotated[Annotated[int, Field(ge=1, le=200), PlainDigits] | None, NotNull()] = Field(
        default=None, description="How many sessions to show, oldest first (20)."
    )


def cleanup_routes(settings: Settings, cleanup: Cleanup) -> APIRouter:
    """The routes of the cleanup, over these parts."""

    def admin(request: Request) -> None:
        require_admin(request, settings)

    # In this order, and before the query is read: who is not the admin learns nothing about it.
    guards = [Depends(admin), Depends(_refuse_what_nobody_reads), *ADMIN_SCHEME]
    router = wing_router(tags=["cleanup"], dependencies=guards)
    errors = documented(401, 409, 422, 500, 503)

    @router.get(PATH, responses=errors)
    def show_cleanup(
        request: Request, response: Response, query: Annotated[Parameters, Query()]
    ) -> DryRunReport | RunReport | SkippedReport:
        """Show what a run would delete, and delete nothing; the platform's scheduler gets a run instead."""
        return answer(request, response, query, dry_run=not _is_scheduler(request))

    @router.post(PATH, responses=errors)
    def execute_cleanup(
        request: Request, response: Response, query: Annotated[Parameters, Query()]
    ) -> DryRunReport | RunReport | SkippedReport:
        """Run the cleanup."""
        return answer(request, response, query, dry_run=False)

    def answer(
        request: Request, response: Response, query: Parameters, *, dry_run: bool
    ) -> DryRunReport | RunReport | SkippedReport:
        response.headers["Cache-Control"] = "no-store"
        if query.dry_run is not None:
            dry_run = query.dry_run == "true"
        _check(query, [policy.name for policy in cleanup.policies], dry_run=dry_run)
        subject = query.policy or subject_of(cleanup.policies)
        if not dry_run:
            caller = "vercel-cron" if _is_scheduler(request) else "admin"
            outcome = run_cleanup(cleanup, caller=caller, only=query.policy, max_rows=query.max_rows)
            return run_report(outcome, cleanup.policies, subject)
        policies = [
            policy.aged(query.threshold_hours) if policy.name == subject else policy
            for policy in cleanup.policies
        ]
        preview = preview_cleanup(
            cleanup, policies, subject, at=query.at, limit=query.limit or 20, max_rows=query.max_rows
        )
        return dry_run_report(preview, policies, subject)

    return router


def _is_scheduler(request: Request) -> bool:
    headers = request.headers
    return headers.get("user-agent", "").startswith("vercel-cron/") or "x-vercel-cron-schedule" in headers


async def _refuse_what_nobody_reads(request: Request) -> None:
    """Refuse a parameter given twice, and a body: who posts {"dryRun": true} must not get a run."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    errors = [(name, "given more than once") for name, count in counts.items() if count > 1]
    if re.sub(rb"\s", b"", await request.body()) not in (b"", b"{}"):
        errors.append(("body", "must be empty: parameters go into the query"))
    if errors:
        raise invalid_request(*errors)


def _check(query: Parameters, names: list[str], *, dry_run: bool) -> None:
    """Refuse parameters that do not go together, before anything runs."""
    errors = []
    if query.policy is not None and query.policy not in names:
        errors.append(("policy", f"must be one of {', '.join(names)}"))
    if query.max_rows is not None and query.policy is None:
        errors.append(("maxRows", "goes with policy: it lets one policy through, not all"))
    if not dry_run:
        simulated = {"at": query.at, "thresholdHours": query.threshold_hours, "limit": query.limit}
        errors += [
            (name, "goes with a dry run only") for name, value in simulated.items() if value is not None
        ]
    if errors:
        raise invalid_request(*errors)
