"""The dry run: the selection of a run, without the run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
) -> dict[str, Any]:
    """Ask what a run would delete now, or at another time; with a sample of the `subject` policy's rows.

    Each policy is counted by a call of its own, all at the same time `at`, the subject first. One that takes
    too long, or that the time budget does not reach, has `would` null and says so in `error`.
    """
    ends = cleanup.clock() + cleanup.time_budget_seconds
    now = at.astimezone(UTC).isoformat() if at else None  # Postgres knows no offset beyond 15:59
    shared = {
        "p_at": now or _ask(cleanup, {"p_policies": []}, _TIMEOUT_SECONDS)["at"],
        "p_sample": subject,
        "p_limit": limit,
        "p_max_rows": max_rows,
    }
    lines = {
        policy.name: _preview(cleanup, policy, shared, ends)
        for policy in sorted(policies, key=lambda policy: policy.name != subject)
    }
    return {"at": shared["p_at"], "policies": [lines[policy.name] for policy in policies]}


def _preview(cleanup: Cleanup, policy: Policy, shared: dict[str, Any], ends: float) -> dict[str, Any]:
    arguments = {**shared, "p_policies": [policy.arguments()]}
    left = ends - cleanup.clock()
    if left > 0:
        try:
            [line] = _ask(cleanup, arguments, min(_TIMEOUT_SECONDS, left))["policies"]
        except DatabaseTimeout:
            return _uncounted(policy, TOO_MANY_TO_COUNT)
        except DatabaseUnavailable:
            if left >= _TIMEOUT_SECONDS or cleanup.clock() < ends:
                raise
        else:
            return dict(line)
    budget = f"{cleanup.time_budget_seconds:g} s"
    return _uncounted(policy, f"not counted: the time for a dry run ({budget}) was used up; ask again later")


def _ask(cleanup: Cleanup, arguments: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    return cleanup.database.call("lull_preview_cleanup", arguments, timeout_seconds=timeout_seconds)


def _uncounted(policy: Policy, error: str) -> dict[str, Any]:
    """What a preview looks like when nothing is known."""
    nothing = dict.fromkeys(["cutoff", "would", "oldest", "limit", "stop", "stop_reason"])
    named = {"policy": policy.name, "target": policy.target, "error": error}
    return {
        **nothing,
        **named,
        "capped": False,
        "cascaded": {},
        "cascaded_total": 0,
        "files": 0,
        "sample": [],
    }
