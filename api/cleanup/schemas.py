"""The cleanup's answers: validated from the SQL functions' snake_case, serialised in camelCase."""

from typing import Annotated, Literal

from pydantic import Field, PlainSerializer

from api.http.schemas import Answer, Time


def _short(hours: float) -> int | float:
    return int(hours) if hours == int(hours) else hours


Hours = Annotated[float, PlainSerializer(_short)]


class SampledSession(Answer):
    """A row that would be deleted, and the reason."""

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
    table: str | None = Field(default=None, description="The adopted table that this line is about; null: none.")
    threshold_hours: Hours
    cutoff: Time | None
    would_delete: int | None = Field(description="Null when it was not counted.")
    capped: bool = Field(description="True when there are more than wouldDelete: the count stops at 1,000,000.")


class PolicyPreview(_PolicyReport):
    """What a run would do under one policy."""

    cascaded: dict[str, int] = Field(description="Rows below those that would be deleted with them, by table.")
    cascaded_total: int
    files: int
    oldest: Time | None
    archived: bool
    restore_days: int
    limit: int | None = Field(description="The breaker's limit on wouldDelete.")
    stop: str | None
    stop_reason: str | None
    error: str | None
    notes: list[str] = Field(default=[], description="Rows of an adopted table that stay, and why.")


class SkippedRow(Answer):
    """A row that could not be deleted, and the reason."""

    key: str
    reason: str


class Pacing(Answer):
    """How a run adapted to the other load of the database."""

    largest_batch: int = Field(description="The largest batch size, in rows.")
    lanes: int = Field(description="The most batches in flight at the same time.")
    paused_ms: float = Field(description="Milliseconds waited between batches because of other clients.")
    others: float = Field(description="The average number of other active database clients during a batch.")


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
    kept: int = Field(default=0, description="Rows that were stale and stay: see keptRows. No failure.")
    kept_rows: list[SkippedRow] = Field(
        default=[], description="Up to 100 of them: too much hangs below, or a row from outside refers to it."
    )
    elsewhere: dict[str, int] = Field(
        default={}, description="Rows that triggers deleted in other tables: not archived by Lull."
    )
    busy: int = Field(description="Rows that another transaction had locked: left for the next run.")
    has_more: bool
    next_run: str | None = Field(
        default=None, description="What the next run does about the rows that this one had no time for."
    )


class FilesOutcome(Answer):
    """The removal of files of rows that this run or an earlier one purged."""

    removed: int
    failed: int
    queued: int
    dead: int
    error: str | None


class PrunedUserSessions(Answer):
    """What a run removed, or a dry run counted, in a store of user sessions other than Postgres."""

    store: str
    count: int = Field(description="A dry run counts up to 1,000.")
    more: bool
    error: str | None


class DryRunReport(Answer):
    """The dry run; the first four are about one policy."""

    dry_run: Literal[True] = True
    threshold_hours: Hours
    would_delete: int | None = Field(description="Null when the policy could not be counted.")
    sessions: list[SampledSession]
    policies: list[PolicyPreview]
    user_sessions: PrunedUserSessions | None = Field(default=None, description="Null where a policy prunes them.")
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
    user_sessions: PrunedUserSessions | None = Field(default=None, description="Null where a policy prunes them.")
    shadow: bool = Field(description="CLEANUP_MODE is `shadow`: it was counted and stored, and nothing was deleted.")
    at: Time


class SkippedReport(Answer):
    """Nothing was done: another run is in progress, or the cleanup is paused."""

    dry_run: Literal[False] = False
    skipped: Literal[True] = True
    reason: str
    since: Time
    run_id: str | None
    message: str
