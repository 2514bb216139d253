"""The monitoring list for Prometheus: gauges of the database, and this process's histogram and counters."""

from datetime import datetime

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from api.database import Database
from api.errors import Problem
from api.insight.stats import DatabaseNumbers, read_database_numbers
from api.observability import RequestNumbers

CONTENT_TYPE = CONTENT_TYPE_LATEST
DAYS = 7


def metrics(database: Database, numbers: RequestNumbers) -> bytes:
    """Everything there is to scrape.

    The gauges are the database's, the same whichever instance is asked. `lull_http_…` and
    `lull_activation_errors_total` are this process's alone and begin again with it.
    """
    registry = CollectorRegistry()
    up = Gauge("lull_database_up", "Whether the database answered just now.", registry=registry)
    try:
        _describe(registry, read_database_numbers(database, DAYS))
        up.set(1)
    except Problem:
        up.set(0)
    return generate_latest(registry) + generate_latest(numbers.counters.registry)


def _describe(registry: CollectorRegistry, known: DatabaseNumbers) -> None:
    def gauge(name: str, meaning: str, value: float) -> None:
        Gauge(f"lull_{name}", meaning, registry=registry).set(value)

    gauge("drafts_created_today", "Chat drafts begun since midnight UTC.", known.drafts.created_today)
    uploads = Gauge(
        "lull_uploads",
        f"Files registered in {DAYS} days, by what became of them.",
        ["state"],
        registry=registry,
    )
    for state in ("uploaded", "expired", "pending"):
        uploads.labels(state).set(getattr(known.uploads, state))
    if known.uploads.success_rate_percent is not None:
        rate = known.uploads.success_rate_percent / 100
        gauge("upload_success_ratio", "Of the uploads that are uploaded or expired: uploaded.", rate)
    gauge("events_pending", "Events that wait to be delivered to the webhook.", known.events.pending)
    gauge("events_dead", "Events given up within 30 days.", known.events.dead)
    waiting = 0.0
    if known.events.oldest_pending_at is not None:
        waiting = _timestamp(known.at) - _timestamp(known.events.oldest_pending_at)
    gauge("events_oldest_pending_seconds", "How long the oldest of them has waited.", waiting)
    gauge("database_bytes", "The size of Lull's tables and indexes.", known.database_bytes)
    if known.cleanup is not None:
        finished = _timestamp(known.cleanup.finished_at)
        gauge("last_cleanup_timestamp_seconds", "When the last cleanup run finished.", finished)
        ok = known.cleanup.status in {"completed", "partial"}
        gauge("last_cleanup_ok", "Whether it completed, or had only too little time.", ok)


def _timestamp(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
