"""Seed 003's monitoring list as numbers: from the database, and from this process's own requests."""

from pydantic import Field

from api.database import Database
from api.observability import RequestNumbers
from api.wire import Answer, Time

_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8


class DraftNumbers(Answer):
    """Chat drafts begun, from the ledger: those that are gone count."""

    created_today: int = Field(description="Since midnight UTC.")
    created_per_day: float | None = Field(
        description="On the days asked for before today, on average; null when only today was asked for."
    )


class UploadNumbers(Answer):
    """What became of the files registered on the days asked for, from the ledger."""

    registered: int
    uploaded: int
    expired: int = Field(description="Never uploaded, and the upload URL has expired.")
    pending: int = Field(description="Not uploaded yet, and still possible.")
    success_rate_percent: float | None = Field(
        description="uploaded of uploaded and expired; null when there is neither (seed 003 wants > 95)."
    )


class CleanupNumbers(Answer):
    """The cleanup run that finished last."""

    status: str
    finished_at: Time


class EventNumbers(Answer):
    """The webhook's queue."""

    pending: int = Field(description="Read from the ledger, and not delivered yet.")
    dead: int = Field(description="Given up within the last 30 days.")
    oldest_pending_at: Time | None


class DatabaseNumbers(Answer):
    """What `lull_stats` says."""

    at: Time
    days: int
    drafts: DraftNumbers
    uploads: UploadNumbers
    cleanup: CleanupNumbers | None = Field(description="Null when no run has finished yet.")
    events: EventNumbers
    database_bytes: int = Field(description="The size of Lull's tables and indexes.")


class RouteNumbers(Answer):
    """The requests to one route."""

    method: str
    route: str = Field(description="The template; `none` for addresses where there is nothing.")
    count: int
    statuses: dict[str, int]
    average_ms: float
    p95_ms: float | None = Field(
        description="95 % took at most so long, rounded up to a bucket of the histogram; null: over a minute."
    )


class ProcessNumbers(Answer):
    """Counted by the process that answers, since it started. Serverless instances count each for itself and
    start at nothing; add up the log's lines, or scrape a server that stays, for more."""

    since: Time
    requests: list[RouteNumbers]
    activation_errors: dict[str, int] = Field(description="Activations answered with an error, by status.")


class Stats(DatabaseNumbers):
    """The monitoring list."""

    process: ProcessNumbers


def read_database_numbers(database: Database, days: int) -> DatabaseNumbers:
    """Ask for the numbers of the last days, today included."""
    return DatabaseNumbers.model_validate(
        database.call("lull_stats", {"p_days": days}, timeout_seconds=_TIMEOUT_SECONDS)
    )


def read_stats(database: Database, numbers: RequestNumbers, days: int) -> Stats:
    """Put the database's and this process's numbers together."""
    known = read_database_numbers(database, days)
    return Stats.model_validate({**known.model_dump(), "process": process_numbers(numbers)})


def process_numbers(numbers: RequestNumbers) -> ProcessNumbers:
    """Read this process's histogram, its statuses put together per route."""
    routes: dict[tuple[str, str], _Route] = {}
    for metric in numbers.counters.durations.collect():
        for sample in metric.samples:
            if sample.name.endswith("_created"):
                continue
            key = (sample.labels["method"], sample.labels["route"])
            routes.setdefault(key, _Route()).add(sample.name, sample.labels, sample.value)
    errors = {
        sample.labels["status"]: int(sample.value)
        for metric in numbers.counters.activation_errors.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    requests = [route.numbers(*key) for key, route in sorted(routes.items())]
    return ProcessNumbers(since=numbers.since.isoformat(), requests=requests, activation_errors=errors)


class _Route:
    """One route's samples, added up over its statuses."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.statuses: dict[str, int] = {}
        self.buckets: dict[float, int] = {}

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        if name.endswith("_sum"):
            self.seconds += value
        elif name.endswith("_count"):
            self.statuses[labels["status"]] = int(value)
        else:
            limit = float(labels["le"])
            self.buckets[limit] = self.buckets.get(limit, 0) + int(value)

    def numbers(self, method: str, route: str) -> RouteNumbers:
        count = sum(self.statuses.values())
        limit = min(limit for limit, within in self.buckets.items() if within >= 0.95 * count)
        return RouteNumbers(
            method=method,
            route=route,
            count=count,
            statuses=self.statuses,
            average_ms=round(1000 * self.seconds / count, 1),
            p95_ms=None if limit == float("inf") else 1000 * limit,
        )


def answered_gets(numbers: RequestNumbers, route: str) -> int:
    """How many GETs of a route this process answered with 200."""
    return sum(
        each.statuses.get("200", 0)
        for each in process_numbers(numbers).requests
        if (each.method, each.route) == ("GET", route)
    )
