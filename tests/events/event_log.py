"""Events to deliver, appended to the event log as the features do."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg

from tests.calls import ADMIN

DELIVER = "/api/admin/deliver"
Sql = psycopg.Connection[Any]


def append(sql: Sql, sessions: int, events: int = 1) -> dict[str, list[int]]:
    """Append `events` events to each of as many sessions, interleaved; the ids by session."""
    ids: dict[str, list[int]] = {str(uuid4()): [] for _ in range(sessions)}
    for number in range(events):
        for session, of in ids.items():
            sql.execute("select lull.append_event(%s, 'chat', %s)", (session, f"event-{number}"))
            row = sql.execute("select max(id) as id from lull.session_events").fetchone()
            assert row is not None
            of.append(row["id"])
    return ids


def deliver(api: httpx.Client) -> dict[str, Any]:
    answer = api.post(DELIVER, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def counts(report: dict[str, Any]) -> tuple[int, int, int, int]:
    return report["delivered"], report["failed"], report["dead"], report["pending"]


def due_again(sql: Sql) -> None:
    """Let the time pass that failed events wait, and that claims last."""
    sql.execute("update lull.deliveries set due_at = now(), claimed_until = null where state = 'queued'")
