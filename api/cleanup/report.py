"""What a dry run and a run say, from what the SQL functions answered, with sentences for a person."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from api.cleanup.answers import (
    DryRunReport,
    FilesOutcome,
    PolicyOutcome,
    PolicyPreview,
    RunReport,
    SampledSession,
    SkippedReport,
)
from api.cleanup.policies import Policy
from api.errors import Problem

PATH = "/api/admin/cleanup-sessions"
MOST_ROWS = 10_000_000  # that `maxRows` may be


def dry_run_report(answer: dict[str, Any], policies: Sequence[Policy], subject: str) -> DryRunReport:
    """Report what `lull_preview_cleanup` answered; raise Problem, report included, when a policy is wrong."""
    by_name = {policy.name: policy for policy in policies}
    previews = {line["policy"]: line for line in answer["policies"]}
    report = DryRunReport(
        threshold_hours=by_name[subject].age / 3600,
        would_delete=previews[subject]["would"],
        sessions=[
            _session(row, by_name[subject], answer["at"]) for row in previews[subject].get("sample", [])
        ],
        policies=[
            PolicyPreview(**_shared(line, by_name[name]), **_only(line, PolicyPreview))
            for name, line in previews.items()
        ],
        at=answer["at"],
    )
    errors = [f"{line.name}: {line.error}." for line in report.policies if line.error]
    if errors:
        raise _problem(500, "dry-run-failed", errors, report)
    return report


def run_report(answer: dict[str, Any], policies: Sequence[Policy], subject: str) -> RunReport | SkippedReport:
    """Report what a run answered; raise Problem with the full report when a policy was stopped or failed."""
    if not answer.get("started", True):
        return SkippedReport(**_only(answer, SkippedReport))
    by_name = {policy.name: policy for policy in policies}
    outcomes = [
        PolicyOutcome(
            deleted=line["did"],
            **_shared(line, by_name[line["policy"]]),
            **{**_only(line, PolicyOutcome), "ms": round(line["ms"])},
        )
        for line in answer["policies"]
    ]
    report = RunReport(
        run_id=answer["run_id"],
        threshold_hours=by_name[subject].age / 3600,
        deleted=sum(outcome.deleted for outcome in outcomes if outcome.name == subject),
        policies=outcomes,
        files=FilesOutcome(**answer["files"]),
        has_more=any(outcome.has_more for outcome in outcomes),
        at=answer["at"],
        duration_ms=answer["duration_ms"],
    )
    failed = [f"{outcome.name}: {outcome.error}" for outcome in outcomes if outcome.outcome == "failed"]
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


def _session(row: dict[str, Any], policy: Policy, at: str) -> SampledSession:
    try:
        age = age_in_words(
            (datetime.fromisoformat(at) - datetime.fromisoformat(row["clock"])).total_seconds()
        )
    except ValueError:
        age = "an age beyond the calendar"
    limit = age_in_words(policy.age).removesuffix(" 0 min").removesuffix(" 0 h")
    return SampledSession(
        id=row["key"],
        kind=row["kind"],
        status=row["status"],
        last_activity_at=row["clock"],
        age=age,
        files=row["files"],
        reason=f"{policy.reason}, last activity {age} ago, limit {limit}",
    )


def _shared(line: dict[str, Any], policy: Policy) -> dict[str, Any]:
    """What every line about a policy says, in the models' words."""
    return {
        "name": policy.name,
        "threshold_hours": policy.age / 3600,
        "would_delete": line["would"],
        "archived": policy.archive,
        "restore_days": policy.restore_days,
    }


def _only(line: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    return {name: line[name] for name in model.model_fields if name in line}


def _stop_sentence(outcome: PolicyOutcome) -> str:
    """What stopped a policy, and a call that gets past it."""
    said = f"{outcome.name}: {outcome.stop_reason}."
    if outcome.deleted:
        # how many are left was never counted
        rest = "the rest was not touched. Read the dry run, then run it again"
        return f"{said} {outcome.deleted} rows went before; {rest}"
    most = f"{MOST_ROWS} (there may be more, but that is the most that one run may take)"
    call = f"POST {PATH}?policy={outcome.name}&maxRows={most if outcome.capped else outcome.would_delete}"
    return f"{said} Nothing of this policy was touched. Read the dry run, then let them go with {call}"


def _problem(status: int, slug: str, sentences: list[str], report: BaseModel) -> Problem:
    members = report.model_dump(mode="json", by_alias=True)
    return Problem(status, slug, " ".join(sentences), **members)
