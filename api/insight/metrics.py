"""Metrics in OpenMetrics text: from the database, the same for every instance, and of this process's requests."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from api.database import Database
from api.errors import Problem
from api.insight.schemas import DatabaseNumbers
from api.insight.stats import read_database_numbers
from api.observability import RequestNumbers

CONTENT_TYPE = CONTENT_TYPE_LATEST
DAYS = 7
CONDITIONS = (
    "archive-large", "breaker", "dead-letter", "failing", "falling-behind", "late", "paused-long", "remainder", "stuck",
)  # fmt: skip
MOST_POLICIES = 32  # further ones are counted as `other`
MOST_TABLES = 50

_TIMEOUT_SECONDS = 10  # the functions' own statement time-out is 8
_END = b"# EOF\n"


class _Counter(BaseModel):
    metric: str
    policy: str
    label: str
    n: int


class _Sessions(BaseModel):
    kind: str
    status: str
    n: int


class _Numbers(BaseModel):
    """`lull_metrics`."""

    at: datetime
    alerts: list[str]
    sessions: list[_Sessions]
    archive_bytes: int
    archive_remainders: int
    last_success: datetime | None
    rollup_lag_seconds: float
    counters: list[_Counter]


class _Backlog(BaseModel):
    policy: str
    rows: int
    due: datetime | None


class _Backlogs(BaseModel):
    """`lull_backlog`."""

    policies: list[_Backlog]


def metrics(
    database: Database,
    numbers: RequestNumbers,
    user_sessions: Callable[[], tuple[int | None, int | None]],
    interval_minutes: int,
) -> bytes:
    """All metrics in OpenMetrics text, which ends in `# EOF`.

    `lull_http_…`, `lull_activation_errors_total` and `lull_user_session_unconfirmed_total` count in this process only,
    from its start. While the database does not answer, `lull_database_up` is 0 and its metrics are absent.
    """
    families: list[Metric] = []
    try:
        families += _of_runs(database, interval_minutes)
        families += _of_the_monitoring_list(read_database_numbers(database, DAYS))
        up = 1
    except Problem:
        families, up = [], 0
    families.append(_gauge("database_up", "Whether the database answered just now.", up))
    active, unconfirmed = user_sessions()
    if active is not None:
        families.append(_gauge("user_sessions_active", "User sessions that are alive.", active))
    if unconfirmed is not None:
        meaning = "Writes of user sessions that fewer replicas than asked have confirmed."
        families.append(CounterMetricFamily("lull_user_session_unconfirmed", meaning, value=unconfirmed))
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return _text(registry).removesuffix(_END) + _text(numbers.counters.registry)


def _text(registry: CollectorRegistry) -> bytes:
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


class _Collected:
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lull_{name}", meaning, value=value)


def _labelled(name: str, meaning: str, labels: list[str], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"lull_{name}", meaning, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _of_runs(database: Database, interval_minutes: int) -> Iterable[Metric]:
    arguments = {"p_interval_minutes": interval_minutes}
    known = _Numbers.model_validate(database.call("lull_metrics", arguments, timeout_seconds=_TIMEOUT_SECONDS))
    backlog = _Backlogs.model_validate(database.call("lull_backlog", {}, timeout_seconds=_TIMEOUT_SECONDS)).policies
    name_of = _limited((each.policy for each in backlog), MOST_POLICIES)
    rows: dict[tuple[str, ...], float] = {}
    oldest: dict[tuple[str, ...], float] = {}
    for each in backlog:
        policy = (name_of(each.policy),)
        rows[policy] = rows.get(policy, 0) + each.rows
        waited = max(0.0, (known.at - each.due).total_seconds()) if each.due else 0.0
        oldest[policy] = max(oldest.get(policy, 0.0), waited)
    yield _labelled("backlog_rows", "Stale rows that no run has deleted yet.", ["policy"], rows)
    yield _labelled(
        "backlog_oldest_seconds", "Seconds since the oldest of them became stale.", ["policy"], oldest
    )
    alerts = {(name,): float(name in known.alerts) for name in CONDITIONS}
    yield _labelled("alert", "Whether an alert's condition holds.", ["condition"], alerts)
    sessions = {(each.kind, each.status): float(each.n) for each in known.sessions}
    yield _labelled("sessions", "Sessions in lull.sessions.", ["kind", "status"], sessions)
    yield _gauge("archive_bytes", "What the archive takes on disk.", known.archive_bytes)
    yield _gauge("archive_remainders", "Archived pages that a restore could not bring back.", known.archive_remainders)
    if known.last_success is not None:
        seconds = known.last_success.timestamp()
        yield _gauge("last_success_timestamp_seconds", "When a run of all policies last ended well.", seconds)
    yield _gauge("rollup_lag_seconds", "Age of the oldest event that no roll-up has.", known.rollup_lag_seconds)
    yield from _counters(known.counters)


def _counters(counters: list[_Counter]) -> Iterable[Metric]:
    """Totals since the installation, which pruning runs never lowers."""
    deleted = [each for each in counters if each.metric == "deleted"]
    policy_of = _limited((each.policy for each in deleted), MOST_POLICIES)
    table_of = _limited((each.label for each in deleted), MOST_TABLES)
    rows: dict[tuple[str, ...], float] = {}
    for each in deleted:
        place = (policy_of(each.policy), table_of(each.label))
        rows[place] = rows.get(place, 0) + each.n
    family = CounterMetricFamily("lull_deleted_rows", "Rows that runs deleted.", labels=["policy", "table"])
    for key, value in sorted(rows.items()):
        family.add_metric(key, value)
    yield family
    restored = sum(each.n for each in counters if each.metric == "restored")
    yield CounterMetricFamily("lull_restored_rows", "Rows that came back from the archive.", value=restored)
    runs = CounterMetricFamily("lull_runs", "Runs that are over, by how they ended.", labels=["status"])
    for each in counters:
        if each.metric == "runs":
            runs.add_metric([each.label], each.n)
    yield runs


def _limited(names: Iterable[str], most: int) -> Callable[[str], str]:
    """Keep the number of a label's values small: the first names stay, the others become `other`."""
    kept: dict[str, None] = {}
    for name in sorted(set(names)):
        if len(kept) < most:
            kept[name] = None
    return lambda name: name if name in kept else "other"


def _of_the_monitoring_list(known: DatabaseNumbers) -> Iterable[Metric]:
    yield _gauge("drafts_created_today", "Chat drafts begun since midnight UTC.", known.drafts.created_today)
    uploads: Any = known.uploads
    states = {(state,): float(getattr(uploads, state)) for state in ("uploaded", "expired", "pending")}
    yield _labelled("uploads", f"Files registered in {DAYS} days, by state.", ["state"], states)
    if known.uploads.success_rate_percent is not None:
        rate = known.uploads.success_rate_percent / 100
        yield _gauge("upload_success_ratio", "The share of uploaded files among uploaded and expired ones.", rate)
    yield _gauge("events_pending", "Events that wait to be delivered to the webhook.", known.events.pending)
    yield _gauge("events_dead", "Events given up within 30 days.", known.events.dead)
    waiting = 0.0
    if known.events.oldest_pending_at is not None:
        waiting = _timestamp(known.at) - _timestamp(known.events.oldest_pending_at)
    yield _gauge("events_oldest_pending_seconds", "Seconds since the oldest pending event was queued.", waiting)
    yield _gauge("database_bytes", "The size of Lull's tables and indexes.", known.database_bytes)
    if known.cleanup is not None:
        finished = _timestamp(known.cleanup.finished_at)
        yield _gauge("last_cleanup_timestamp_seconds", "When the last cleanup run finished.", finished)
        ok = known.cleanup.status in {"completed", "partial"}
        yield _gauge("last_cleanup_ok", "Whether the last run completed, or ended because its time was up.", ok)


def _timestamp(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
