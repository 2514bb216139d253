"""The dry run: the same selection as a run's, without changing anything."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from api.cleanup.answers import Preview, PreviewedLine
from api.cleanup.policies import Policy
from api.cleanup.run import TOO_MANY_TO_COUNT, Cleanup
from api.errors import DatabaseTimeout, DatabaseUnavailable

_TIMEOUT_SECONDS = 32  # the function's own statement time-out is 30


def preview_cleanup(
    cleanup: Cleanup,
    policies: Sequence[Policy],
    subject: str,
    *,
    at: datetime | None = None,
    limit: int = 20,
    max_rows: int | None = None,
) -> Preview:
    """Count what a run would delete now, or at the time `at`, with a sample of the `subject` policy's rows.

    Each policy is counted by a call of its own, all at the same time `at`, the subject first. A policy
    whose count timed out or did not fit into the time budget has `would` null and the reason in `error`.
    """
    ends = cleanup.clock() + cleanup.time_budget_seconds
    now = at.astimezone(UTC).isoformat() if at else None  # Postgres accepts no offset beyond 15:59
    most = min(_TIMEOUT_SECONDS, cleanup.time_budget_seconds)
    shared = {
        "p_at": now or _ask(cleanup, {"p_policies": []}, most).at,
        "p_sample": subject,
        "p_limit": limit,
        "p_max_rows": max_rows,
    }
    lines = {
        policy.name: _preview(cleanup, policy, shared, ends)
        for policy in sorted(policies, key=lambda policy: policy.name != subject)
    }
    return Preview(at=str(shared["p_at"]), policies=[line for policy in policies for line in lines[policy.name]])


def _preview(cleanup: Cleanup, policy: Policy, shared: dict[str, Any], ends: float) -> list[PreviewedLine]:
    """The lines of one policy: its own, and one for each adopted table."""
    arguments = {**shared, "p_policies": [policy.arguments()]}
    left = ends - cleanup.clock()
    if left > 0:
        try:
            lines = _ask(cleanup, arguments, min(_TIMEOUT_SECONDS, left)).policies
        except DatabaseTimeout:
            return [_uncounted(policy, TOO_MANY_TO_COUNT)]
        except DatabaseUnavailable:
            if left >= _TIMEOUT_SECONDS or cleanup.clock() < ends:
                raise
        else:
            return lines
    budget = f"{cleanup.time_budget_seconds:g} s"
    return [_uncounted(policy, f"not counted: the time for a dry run ({budget}) was used up; ask again later")]


def _ask(cleanup: Cleanup, arguments: dict[str, Any], timeout_seconds: float) -> Preview:
    answer = cleanup.database.call("lull_preview_cleanup", arguments, timeout_seconds=timeout_seconds)
    return Preview.model_validate(answer)


def _uncounted(policy: Policy, error: str) -> PreviewedLine:
    """The preview of a policy that was not counted."""
    nothing = dict.fromkeys(["cutoff", "would", "oldest", "limit", "stop", "stop_reason"])
    named = {"policy": policy.name, "target": policy.target, "error": error}
    counted = {"capped": False, "cascaded": {}, "cascaded_total": 0, "files": 0}
    return PreviewedLine.model_validate({**nothing, **named, **counted})
