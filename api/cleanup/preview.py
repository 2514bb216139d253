"""The dry run: the selection of a run, without the run."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from api.cleanup.policies import Policy
from api.database import Database

_TIMEOUT_SECONDS = 35  # the function's own statement time-out is 30


def preview_cleanup(
    database: Database,
    policies: Sequence[Policy],
    subject: str,
    *,
    at: datetime | None = None,
    limit: int = 20,
    max_rows: int | None = None,
) -> dict[str, Any]:
    """Ask what a run would delete now, or at another time; with a sample of the `subject` policy's rows."""
    arguments = {
        "p_policies": [policy.arguments() for policy in policies],
        "p_at": at.astimezone(UTC).isoformat() if at else None,  # Postgres knows no offset beyond 15:59
        "p_sample": subject,
        "p_limit": limit,
        "p_max_rows": max_rows,
    }
    return database.call("lull_preview_cleanup", arguments, timeout_seconds=_TIMEOUT_SECONDS)
