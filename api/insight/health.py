"""How the cleanup is doing: late, failing or stuck, by the database's facts and clock."""

from typing import Literal, Self

from pydantic import Field

from api.database import Database
from api.errors import Problem
from api.insight.verdict import shown
from api.wire import Answer, Time

_TIMEOUT_SECONDS = 5  # the function's own statement time-out is 3


class CleanupFacts(Answer):
    """What `lull_cleanup_health` says."""

    at: Time
    interval_minutes: int
    last_started_at: Time | None
    last_finished_at: Time | None
    last_status: str | None
    last_completed_at: Time | None
    late: bool
    running_since: Time | None
    lease_until: Time | None
    lease_expired: bool
    paused_since: Time | None
    consecutive_failures: int
    stopped_policies: int
    failed_policies: int
    dead_files: int
    queued_files: int

    def lateness(self) -> str | None:
        """Why it is late, in words; None when it is not."""
        if not self.late:
            return None
        since = f"since {shown(self.last_started_at)}" if self.last_started_at else "yet"
        paused = f" It is paused since {shown(self.paused_since)}." if self.paused_since else ""
        return (
            f"No run began {since}; one is expected every {self.interval_minutes} minutes. "
            f"A scheduler that sends a plain GET only dry-runs.{paused}"
        )

    def failure(self) -> str | None:
        """How the last run ended, in words, when it ended badly; None when not."""
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
        """What will not go on by itself, in words; None when everything moves."""
        if self.lease_expired:
            return (
                f"The run that began at {shown(self.running_since)} went silent at {shown(self.lease_until)}."
            )
        if self.dead_files:
            return f"{self.dead_files} files could not be removed from Storage and were given up."
        return None


class CleanupHealth(Answer):
    """The cleanup as anybody may see it: times and numbers, no ids and no errors."""

    status: Literal["ok", "paused"] = Field(description="A paused cleanup does nothing, and becomes late.")
    at: Time
    interval_minutes: int = Field(description="How often a run is expected.")
    last_started_at: Time | None
    last_finished_at: Time | None
    last_status: str | None = Field(description="completed, partial, stopped, failed or abandoned.")
    last_completed_at: Time | None
    running_since: Time | None
    paused_since: Time | None
    consecutive_failures: int = Field(description="Of the last 100 runs; the newest first.")
    stopped_policies: int = Field(description="By the breaker, in the last run.")
    dead_files: int = Field(description="Given up: an operator has to look at them.")
    queued_files: int = Field(description="To be removed from Storage; counted up to 10,000.")

    @classmethod
    def of(cls, facts: CleanupFacts) -> Self:
        """What may be told."""
        status = "paused" if facts.paused_since else "ok"
        return cls.model_validate({**facts.model_dump(include=set(cls.model_fields)), "status": status})


def read_cleanup_facts(database: Database, interval_minutes: int) -> CleanupFacts:
    """Ask the database. Raises Problem when it cannot be asked."""
    arguments = {"p_interval_minutes": interval_minutes}
    return CleanupFacts.model_validate(
        database.call("lull_cleanup_health", arguments, timeout_seconds=_TIMEOUT_SECONDS)
    )


def cleanup_health(facts: CleanupFacts) -> CleanupHealth:
    """The health of the cleanup. Raises Problem 503 when it is stuck, failing or late, in this order: what
    will not mend itself is told first. Its members are the same numbers."""
    health = CleanupHealth.of(facts)
    members = health.model_dump(by_alias=True, exclude={"status"})
    if sentence := facts.obstruction():
        raise Problem(503, "cleanup-stuck", sentence, **members)
    if sentence := facts.failure():
        raise Problem(503, "cleanup-failing", sentence, **members)
    if sentence := facts.lateness():
        raise Problem(503, "cleanup-late", sentence, **members)
    return health


def _policies(count: int) -> str:
    return f"{count} {'policy' if count == 1 else 'policies'}"
