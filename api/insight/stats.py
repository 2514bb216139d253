"""The monitoring list: numbers from the database, and from this process's own requests."""

from api.database import Database
from api.insight.schemas import DatabaseNumbers, ProcessNumbers, RouteNumbers, Stats
from api.observability import RequestNumbers

_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8


def read_database_numbers(database: Database, days: int) -> DatabaseNumbers:
    """Read the numbers of the last days, today included."""
    return DatabaseNumbers.model_validate(
        database.call("lull_stats", {"p_days": days}, timeout_seconds=_TIMEOUT_SECONDS)
    )


def read_stats(database: Database, numbers: RequestNumbers, days: int) -> Stats:
    """Put the database's and this process's numbers together."""
    known = read_database_numbers(database, days)
    return Stats.model_validate({**known.model_dump(), "process": process_numbers(numbers)})


def process_numbers(numbers: RequestNumbers) -> ProcessNumbers:
    """Read this process's counters and its histogram, route by route."""
    counters = numbers.counters
    routes: dict[tuple[str, str], _Route] = {}
    for metric in (*counters.requests.collect(), *counters.durations.collect()):
        for sample in metric.samples:
            key = (sample.labels["method"], sample.labels["route"])
            routes.setdefault(key, _Route()).add(sample.name, sample.labels, sample.value)
    errors = {
        sample.labels["status"]: int(sample.value)
        for metric in counters.activation_errors.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }
    requests = [route.numbers(*key) for key, route in sorted(routes.items())]
    return ProcessNumbers(since=numbers.since.isoformat(), requests=requests, activation_errors=errors)


class _Route:
    """One route's samples."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.statuses: dict[str, int] = {}
        self.buckets: dict[float, int] = {}

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        if name.endswith("_total"):
            self.statuses[labels["status"]] = int(value)
        elif name.endswith("_sum"):
            self.seconds = value
        elif name.endswith("_bucket"):
            self.buckets[float(labels["le"])] = int(value)

    def numbers(self, method: str, route: str) -> RouteNumbers:
        count = int(self.buckets[float("inf")])
        limit = min(limit for limit, within in self.buckets.items() if within >= 0.95 * count)
        return RouteNumbers(
            method=method,
            route=route,
            count=count,
            statuses=self.statuses,
            average_ms=round(1000 * self.seconds / count, 1),
            p95_ms=None if limit == float("inf") else 1000 * limit,
        )
