"""The shapes of the cleanup's answers: validated from the SQL functions' snake_case, dumped in camelCase."""

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from api.wire import Answer, Time


def _short(hours: float) -> int | float:
    return int(hours) if hours == int(hours) else hours


Hours = Annotated[float, PlainSerializer(_short)]


class SampledSession(Answer):
    """A row that would go, and why."""

    id: str
    kind: str | None
    status: str | None
    last_activity_at: Time
    age: str
    files: int
    reason: str


class _PolicyReport(Answer):
    name: str
    target: str
    threshold_hours: Hours
    cutoff: Time | None
    would_delete: int | None = Field(description="Null when it was not counted.")
    capped: bool = Field(description="More than wouldDelete: the count stops at 1,000,000.")


class PolicyPreview(_PolicyReport):
    """What a run would do under one policy."""

    cascaded: dict[str, int] = Field(description="Rows that hang off those and would go along, by table.")
    cascaded_total: int
    files: int
    oldest: Time | None
    archived: bool
    restore_days: int
    limit: int | None = Field(description="The breaker's limit on wouldDelete.")
    stop: str | None
    stop_reason: str | None
    error: str | None


class SkippedRow(Answer):
    """A row that could not be deleted, and why."""

    key: str
    reason: str


class Pacing(Answer):
    """How a run tuned itself to the database's other work."""

    largest_batch: int = Field(description="Rows that it dared to ask for at once.")
    lanes: int = Field(description="Batches that were in flight at once, at most.")
    paused_ms: float = Field(description="Waited between batches, for the sake of others.")
    others: float = Field(description="Other clients of the database at work during a batch, on average.")


class PolicyOutcome(_PolicyReport):
    """What a run did under one policy."""

    deleted: int
    cascaded: int
    files: int
    archived: bool
    restore_days: int
    batches: int
    ms: int
    outcome: str
    stop_reason: str | None
    error: str | None
    skipped_rows: list[SkippedRow]
    pacing: Pacing | None = Field(
        default=None, description="Null when no batch was run, or by a database of an older release."
    )
    busy: int = Field(description="Rows that somebody else had locked: left for the next run.")
    has_more: bool


class FilesOutcome(Answer):
    """What became of the files of rows purged by this run or an earlier one."""

    removed: int
    failed: int
    queued: int
    dead: int
    error: str | None


class DryRunReport(Answer):
    """The dry run; the first four are about one policy."""

    dry_run: Literal[True] = True
    threshold_hours: Hours
    would_delete: int | None = Field(description="Null when the policy could not be counted.")
    sessions: list[SampledSession]
    policies: list[PolicyPreview]
    at: Time


class RunReport(Answer):
    """The run; thresholdHours and deleted are about one policy."""

    dry_run: Literal[False] = False
    run_id: str
    threshold_hours: Hours
    deleted: int
    policies: list[PolicyOutcome]
    has_more: bool
    duration_ms: int
    files: FilesOutcome
    at: Time


class SkippedReport(Answer):
    """Nothing was done: another run is at it, or the cleanup is paused."""

    dry_run: Literal[False] = False
    skipped: Literal[True] = True
    reason: str
    since: Time
    run_id: str | None
    message: str
