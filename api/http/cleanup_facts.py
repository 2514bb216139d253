"""The state of the cleanup by the database's clock, for the health route and the doctor."""

from api.database import Database
from api.http.schemas import Answer, Time
from api.http.sentences import shown, some

_TIMEOUT_SECONDS = 5  # the function's own statement time-out is 3


class AlertFact(Answer):
    """A condition of which an operator is told: docs/runbook.md has what to do about each."""

    condition: str
    policy: str | None
    since: Time
    sentence: str


class CleanupFacts(Answer):
    """The answer of `lull_cleanup_health`."""

    at: Time
    interval_minutes: int
    last_started_at: Time | None
    last_finished_at: Time | None
    last_status: str | None
    last_completed_at: Time | None
    late: bool
    late_policies: list[str]
    late_since: Time | None
    running_since: Time | None
    lease_until: Time | None
    lease_expired: bool
    paused_since: Time | None
    consecutive_failures: int
    stopped_policies: int
    failed_policies: int
    dead_files: int
    queued_files: int
    alerts: list[AlertFact]

    def lateness(self) -> str | None:
        """Why the cleanup is late, in words; None when it is not late."""
        if not self.late:
            return None
        since = f"since {shown(self.last_started_at)}" if self.last_started_at else "yet"
        if self.last_started_at and self.late_since and self.late_since < self.last_started_at:
            return (
                f"Runs began, the last at {shown(self.last_started_at)}, but none of them worked "
                f"{some(self.late_policies)} since {shown(self.late_since)}: a run of one policy is no run of the "
                "others, and one that uses up its time budget leaves out the last."
            )
        paused = f" It is paused since {shown(self.paused_since)}." if self.paused_since else ""
        return (
            f"No run began {since}; one is expected every {self.interval_minutes} minutes. "
            f"A scheduler that sends a plain GET only dry-runs.{paused}"
        )

    def failure(self) -> str | None:
        """Why the last run failed, in words; None when it did not fail."""
        if not self.consecutive_failures:
            return None
        how = {
            "failed": f"{_policies(self.failed_policies)} failed",
            "stopped": f"the breaker stopped {_policies(self.stopped_policies)}",
            "abandoned": "it was killed or lost its lease",
        }.get(self.last_status or "", "it did not complete")
        times = f" ({self.consecutive_failures} runs in a row)" if self.consecutive_failures > 1 else ""
        return f"The last run ended badly at {shown(self.last_finished_at)}: {how}{times}."

    def obstruction(self) -> str | None:
        """What an operator has to resolve, in words; None when there is nothing."""
        if self.lease_expired:
            return f"The run that began at {shown(self.running_since)} went silent at {shown(self.lease_until)}."
        if self.dead_files:
            return f"{self.dead_files} files could not be removed from Storage and were given up."
        return None


def read_cleanup_facts(database: Database, interval_minutes: int) -> CleanupFacts:
    """Call `lull_cleanup_health`. Raises Problem."""
    arguments = {"p_interval_minutes": interval_minutes}
    return CleanupFacts.model_validate(
        database.call("lull_cleanup_health", arguments, timeout_seconds=_TIMEOUT_SECONDS)
    )


def _policies(count: int) -> str:
    return f"{count} {'policy' if count == 1 else 'policies'}"
