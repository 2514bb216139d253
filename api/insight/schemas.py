"""Requests and answers of the read-only routes."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from api import __version__
from api.flags import EARLY_SESSIONS
from api.http.cleanup_facts import AlertFact, CleanupFacts
from api.http.schemas import Answer, PlainDigits, Question, Time

WHY_THEY_DIFFER = (
    "totals counts events of the event log, which outlives the sessions. conversion is a query over existing "
    "sessions: it lacks drafts that were cleaned up or discarded, and includes chats that were created active, "
    "so its rate is too high."
)


class Health(BaseModel):
    """The API is up, and its version."""

    status: Literal["ok"] = "ok"
    version: str = __version__


class Introduction(BaseModel):
    """Says what answers at this address, which version it is, and where to go on."""

    name: Literal["Lull"] = "Lull"
    version: str = __version__
    links: dict[str, str] = {
        "health": "/api/health",
        "cleanupHealth": "/api/health/cleanup",
        "flags": "/api/flags",
        "sessions": "/api/sessions",
        "openapi": "/api/openapi.json",
    }


class Flag(Answer):
    """A flag's value for the caller, and the reason."""

    value: bool
    variant: str
    reason: str


class Flags(Answer):
    """Every flag's value for the caller."""

    flags: dict[str, Flag] = Field(examples=[{EARLY_SESSIONS: {"value": True, "variant": "on", "reason": "SPLIT"}}])


class DaysQuery(Question):
    """The number of days."""

    days: Annotated[int, Field(ge=1, le=400), PlainDigits] = Field(
        default=7, description="Today included, in STATISTICS_TIME_ZONE."
    )


class CleanupHealth(Answer):
    """The state of the cleanup for unauthenticated callers: times and numbers, no ids and no errors."""

    status: Literal["ok", "paused"] = Field(description="A paused cleanup deletes nothing.")
    at: Time
    interval_minutes: int = Field(description="The expected interval between runs.")
    last_started_at: Time | None
    last_finished_at: Time | None
    last_status: str | None = Field(description="completed, partial, stopped, failed or abandoned.")
    last_completed_at: Time | None
    late_policies: list[str] = Field(description="That no run worked for two intervals; at most 20.")
    running_since: Time | None
    paused_since: Time | None
    consecutive_failures: int = Field(description="The number of latest runs without a completed one; of the last 100.")
    stopped_policies: int = Field(description="By the breaker, in the last run.")
    dead_files: int = Field(description="Given up: an operator has to look at them.")
    queued_files: int = Field(description="To be removed from Storage; counted up to 10,000.")
    alerts: list[AlertFact] = Field(description="The conditions that hold now: docs/runbook.md says what to do.")

    @classmethod
    def of(cls, facts: CleanupFacts) -> Self:
        """The fields that are public."""
        status = "paused" if facts.paused_since else "ok"
        return cls.model_validate({**facts.model_dump(include=set(cls.model_fields)), "status": status})


class FunnelDay(Answer):
    """What became of the chat drafts that were begun on one day (of STATISTICS_TIME_ZONE), whenever it happened."""

    day: str
    created: int
    activated: int = Field(description="With a first message by now.")
    activated_in_24_hours: int = Field(description="Of these, within 24 hours of their creation.")
    activated_in_7_days: int
    abandoned: int = Field(description="Taken by the cleanup.")
    restored: int = Field(description="Brought back from the archive.")
    discarded: int = Field(description="Ended by their owners before a first message.")
    complete: bool = Field(description="False until the day is over for 7 days: more of its drafts may be activated.")


class FunnelTotals(Answer):
    """The sum of the days."""

    created: int
    activated: int
    abandoned: int
    restored: int
    discarded: int
    conversion_rate_percent: float | None = Field(description="Null when no draft was created.")


class Conversion(Answer):
    """The conversion rate by the sessions that still exist."""

    total_drafts: int
    activated: int
    conversion_rate_percent: float | None


class Funnel(Answer):
    """The funnel per day and in total, beside the conversion query over the same days."""

    days: list[FunnelDay]
    totals: FunnelTotals
    conversion: Conversion
    why_they_differ: str = WHY_THEY_DIFFER


class DraftNumbers(Answer):
    """Chat drafts created, from the event log: deleted ones count too."""

    created_today: int = Field(description="Since midnight of STATISTICS_TIME_ZONE.")
    created_per_day: float | None = Field(
        description="The average of the days before today; null when only today was asked for."
    )


class UploadNumbers(Answer):
    """The files registered on the days asked for, by state, from the event log."""

    registered: int
    uploaded: int
    expired: int = Field(description="Never uploaded, and the upload URL has expired.")
    pending: int = Field(description="Not uploaded yet; the upload URL is still valid.")
    success_rate_percent: float | None = Field(
        description="Uploaded among uploaded and expired; null when there is neither. The goal is more than 95."
    )


class Distribution(Answer):
    """Of the sessions that were ended on the days asked for."""

    n: int
    average: float
    median: float = Field(description="Within 9 %.")


class KindNumbers(Answer):
    """The sessions of one kind. Drafts count on the day of their creation, ends on their own day."""

    kind: str
    created: int
    drafts: int
    activated: int = Field(description="Of these drafts, with a first message by now.")
    activated_in_24_hours: int
    activated_in_7_days: int
    abandoned: int = Field(description="Of these drafts, deleted by the cleanup.")
    conversion_rate_percent: float | None
    ended: int
    cleaned: int = Field(description="Active or paused sessions that the cleanup deleted.")
    abandoned_share_percent: float | None = Field(description="cleaned among ended and cleaned.")
    duration_seconds: Distribution | None
    participants: Distribution | None = Field(description="People who joined, in sessions that anyone joined.")
    commands: Distribution | None = Field(description="Of games.")


class ItemUses(Answer):
    """How often sessions used a library item."""

    item: str = Field(description="Namespace and key; `user` for items of users' own namespaces.")
    uses: int


class FeedbackNumbers(Answer):
    """Feedback of the days asked for."""

    kind: str
    mode: str | None
    answers: int
    average_score: float = Field(description="Of 1 to 5.")


class TableSize(Answer):
    """A table of Lull's or an adopted one, as of the last run."""

    table: str
    bytes: int = Field(description="With its indexes.")
    rows: int = Field(description="Postgres' estimate.")
    dead_rows: int = Field(description="Postgres' estimate.")
    since: str = Field(description="The first day within the days asked for whose size is known.")
    grown_bytes: int = Field(description="Since then.")


class CleanupNumbers(Answer):
    """The cleanup run that finished last."""

    status: str
    finished_at: Time


class EventNumbers(Answer):
    """The webhook's queue."""

    pending: int = Field(description="Queued from the event log, and not delivered yet.")
    dead: int = Field(description="Given up within the last 30 days.")
    oldest_pending_at: Time | None


class DatabaseNumbers(Answer):
    """The answer of `lull_stats`."""

    at: Time
    days: int
    time_zone: str = Field(description="Whose days these are: STATISTICS_TIME_ZONE as of the last run.")
    lag_seconds: float = Field(description="The age of the oldest event that is counted live, not from a roll-up.")
    drafts: DraftNumbers
    uploads: UploadNumbers
    kinds: list[KindNumbers]
    items: list[ItemUses] = Field(description="The ten most used.")
    feedback: list[FeedbackNumbers]
    tables: list[TableSize] = Field(description="The largest first.")
    cleanup: CleanupNumbers | None = Field(description="Null when no run has finished yet.")
    events: EventNumbers
    database_bytes: int = Field(description="The size of Lull's tables and indexes.")


class RouteNumbers(Answer):
    """The requests to one route."""

    method: str
    route: str = Field(description="The route's template; `none` for unknown addresses.")
    count: int
    statuses: dict[str, int]
    average_ms: float
    p95_ms: float | None = Field(
        description="The 95th percentile, rounded up to a bucket of the histogram; null means over a minute."
    )


class ProcessNumbers(Answer):
    """Counted by the answering process since its start. Each serverless instance counts for itself; for totals, add up
    the log's lines or scrape a long-lived server."""

    since: Time
    requests: list[RouteNumbers]
    activation_errors: dict[str, int] = Field(description="Activations answered with an error, by status.")


class Stats(DatabaseNumbers):
    """The monitoring list."""

    process: ProcessNumbers
