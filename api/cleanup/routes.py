"""GET and POST /api/admin/cleanup-sessions: the dry run and the run."""

from typing import Annotated

from fastapi import Query, Request

from api.cleanup.parameters import Parameters, check_parameters
from api.cleanup.policies import subject_of
from api.cleanup.preview import preview_cleanup
from api.cleanup.report import PATH, dry_run_report, run_report
from api.cleanup.run import cleanup_of, run_cleanup
from api.cleanup.schemas import DryRunReport, RunReport, SkippedReport
from api.errors import invalid_request
from api.http.browsers import is_head
from api.http.openapi import documented
from api.http.parts import parts_of
from api.http.routers import admin_router
from api.http.schedulers import is_scheduler

router = admin_router(tags=["cleanup"])
ERRORS = documented(401, 409, 422, 500, 503)


@router.get(PATH, responses=ERRORS)
def show_cleanup(request: Request, query: Annotated[Parameters, Query()]) -> DryRunReport | RunReport | SkippedReport:
    """Show what a run would delete, and delete nothing. A call of the platform's scheduler runs the cleanup instead."""
    return _answer(request, query, dry_run=is_head(request) or not is_scheduler(request))


@router.post(PATH, responses=ERRORS)
def execute_cleanup(
    request: Request, query: Annotated[Parameters, Query()]
) -> DryRunReport | RunReport | SkippedReport:
    """Run the cleanup."""
    return _answer(request, query, dry_run=False)


def _answer(request: Request, query: Parameters, *, dry_run: bool) -> DryRunReport | RunReport | SkippedReport:
    cleanup = cleanup_of(parts_of(request))
    if query.dry_run is not None and not is_head(request):
        dry_run = query.dry_run == "true"
    check_parameters(query, [policy.name for policy in cleanup.policies], dry_run=dry_run)
    if cleanup.shadow and query.max_rows is not None and not dry_run:
        raise invalid_request(("maxRows", "CLEANUP_MODE is shadow: a run deletes nothing, and lets nothing through"))
    subject = (query.policy or subject_of(cleanup.policies)).split(":")[0]
    if not dry_run:
        caller = "vercel-cron" if is_scheduler(request) else "admin"
        outcome = run_cleanup(cleanup, caller=caller, only=query.policy, max_rows=query.max_rows, key=query.key)
        return run_report(outcome, cleanup.policies, subject)
    policies = [policy.aged(query.threshold_hours) if policy.name == subject else policy for policy in cleanup.policies]
    preview = preview_cleanup(cleanup, policies, subject, at=query.at, limit=query.limit or 20, max_rows=query.max_rows)
    return dry_run_report(preview, policies, subject, query.limit or 20, cleanup.prune(True))
