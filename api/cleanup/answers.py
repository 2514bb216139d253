"""The shapes of the cleanup's answers: validated from the SQL functions' snake_case, dumped in camelCase."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def utc(value: object) -> object:
    """A time as RFC 3339 in UTC; a text that is no time of this calendar (infinity, BC) as it is."""
    try:
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return value
    return moment.isoformat().replace("+00:00", "Z")


def _short(hours: float) -> int | float:
    return int(hours) if hours == int(hours) else hours


Time = Annotated[str, BeforeValidator(utc)]
Hours = Annotated[float, PlainSerializer(_short)]


class _Camel(BaseModel):
    """Validated from an answer's snake_case, dumped in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class SampledSession(_Camel):
    """A row that would go, and why."""

    id: str
    kind: str | None
    status: str | None
    last_activity_at: Time
    age: str
    files: int
    reason: str


class _PolicyReport(_Camel):
    name: str
    target: str
    threshold_hours: Hours
    cutoff: Time | None
    would_delete: int | None = Field(description="Null when the run did not get to this policy.")
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


class SkippedRow(_Camel):
    """A row that could not be deleted, and why."""

    key: str
    reason: str


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
    busy: int = Field(description="Rows that somebody else had locked: left for the next run.")
    has_more: bool


class FilesOutcome(_Camel):
    """What became of the files of rows purged by this run or an earlier one."""

    removed: int
    failed: int
    queued: int
    dead: int
    error: str | None


class DryRunReport(_Camel):
    """The dry run; the first four are about one policy."""

    dry_run: Literal[True] = True
    threshold_hours: Hours
    would_delete: int
    sessions: list[SampledSession]
    policies: list[PolicyPreview]
    at: Time


class RunReport(_Camel):
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


class SkippedReport(_Camel):
    """Nothing was done: another run is at it, or the cleanup is paused."""

    dry_run: Literal[False] = False
    skipped: Literal[True] = True
    reason: str
    since: Time
    run_id: str | None
    message: str
