"""The reports of a dry run and of a run: the SQL functions' answers, with sentences for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from api.cleanup.answers import Begun, FinishedRun, Line, Preview, SampledRow
from api.cleanup.policies import Policy
from api.cleanup.schemas import (
    DryRunReport,
    FilesOutcome,
    PolicyOutcome,
    PolicyPreview,
    PrunedUserSessions,
    RunReport,
    SampledSession,
    SkippedReport,
)
from api.errors import Problem

PATH = "/api/admin/cleanup-sessions"
MOST_ROWS = 10_000_000  # the largest `maxRows`


def dry_run_report(
    answer: Preview,
    policies: Sequence[Policy],
    subject: str,
    limit: int = 200,
    user_sessions: dict[str, Any] | None = None,
) -> DryRunReport:
    """Report a preview. Raises Problem with the report when a policy has an error."""
    by_name = {policy.name: policy for policy in policies}
    subjects = [line for line in answer.policies if line.policy == subject]
    sampled = sorted((row for line in subjects for row in line.sample), key=lambda row: row.clock)
    report = DryRunReport(
        threshold_hours=by_name[subject].age / 3600,
        would_delete=_total([line.would for line in subjects]),
        sessions=[_session(row, by_name[subject], answer.at) for row in sampled[:limit]],
        policies=[
            PolicyPreview(**_shared(line, by_name[line.policy]), **line.fields(PolicyPreview))
            for line in answer.policies
        ],
        user_sessions=PrunedUserSessions(**user_sessions) if user_sessions else None,
        at=answer.at,
    )
    errors = [f"{line.name}: {line.error}." for line in report.policies if line.error]
    if errors:
        raise _problem(500, "dry-run-failed", errors, report)
    return report


def run_report(answer: Begun | FinishedRun, policies: Sequence[Policy], subject: str) -> RunReport | SkippedReport:
    """Report a run. Raises Problem with the full report when a policy was stopped or failed."""
    if isinstance(answer, Begun):
        return SkippedReport.model_validate(answer.model_dump(include=set(SkippedReport.model_fields)))
    by_name = {policy.name: policy for policy in policies}
    outcomes = [
        PolicyOutcome(
            deleted=line.did,
            **_shared(line, by_name[line.policy]),
            **{**line.fields(PolicyOutcome), "ms": round(line.ms)},
        )
        for line in answer.policies
    ]
    report = RunReport(
        run_id=answer.run_id,
        shadow=answer.mode == "shadow",
        threshold_hours=by_name[subject].age / 3600,
        deleted=sum(outcome.deleted for outcome in outcomes if outcome.name == subject),
        policies=outcomes,
        files=FilesOutcome(**answer.files),
        user_sessions=PrunedUserSessions(**answer.user_sessions) if answer.user_sessions else None,
        has_more=any(outcome.has_more for outcome in outcomes),
        at=answer.at,
        duration_ms=answer.duration_ms,
    )
    failed = [f"{outcome.name}: {outcome.error}" for outcome in outcomes if outcome.outcome == "failed"]
    if report.user_sessions and report.user_sessions.error:
        failed.append(report.user_sessions.error)
    stopped = [_stop_sentence(outcome) for outcome in outcomes if outcome.outcome == "stopped"]
    if failed:
        raise _problem(500, "cleanup-failed", failed + stopped, report)
    if stopped:
        raise _problem(409, "cleanup-stopped", stopped, report)
    return report


def age_in_words(seconds: float) -> str:
    """ "42 s", "42 min", "25 h 3 min", "3 d 4 h": never rounded up."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _session(row: SampledRow, policy: Policy, at: str) -> SampledSession:
    try:
        age = age_in_words((datetime.fromisoformat(at) - datetime.fromisoformat(row.clock)).total_seconds())
    except ValueError:
        age = "an age beyond the calendar"
    limit = age_in_words(policy.age).removesuffix(" 0 min").removesuffix(" 0 h")
    return SampledSession(
        id=row.key,
        kind=row.kind,
        status=row.status,
        last_activity_at=row.clock,
        age=age,
        files=row.files,
        reason=f"{policy.reason}, last activity {age} ago, limit {limit}",
    )


def _shared(line: Line, policy: Policy) -> dict[str, Any]:
    """The fields that all lines about a policy share, by the models' names."""
    return {
        "name": policy.name,
        "threshold_hours": policy.age / 3600,
        "would_delete": line.would,
        "archived": policy.archive,
        "restore_days": policy.restore_days,
    }


def _total(counts: list[int | None]) -> int | None:
    """The sum; None when one was not counted."""
    return None if None in counts else sum(count or 0 for count in counts)


def _stop_sentence(outcome: PolicyOutcome) -> str:
    """What stopped a policy, and the call that lets it continue."""
    line = outcome.name if outcome.table is None else f"{outcome.name}:{outcome.table}"
    said = f"{line}: {outcome.stop_reason}."
    if outcome.deleted:
        # the remaining rows were never counted
        rest = "the rest was not touched. Read the dry run, then run it again"
        return f"{said} {outcome.deleted} rows were deleted before; {rest}"
    most = f"{MOST_ROWS} (there may be more, but that is the most that one run may take)"
    call = f"POST {PATH}?policy={line}&maxRows={most if outcome.capped else outcome.would_delete}"
    return f"{said} Nothing of this policy was touched. Read the dry run, then let them go with {call}"


def _problem(status: int, slug: str, sentences: list[str], report: BaseModel) -> Problem:
    members = report.model_dump(mode="json", by_alias=True)
    return Problem(status, slug, " ".join(sentences), **members)
