"""The sweep and the statistics of rooms over HTTP."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import psycopg
import pytest

from tests.callers import events_of, start
from tests.calls import add_session
from tests.rooms.people import enter

SWEEP = "/api/admin/sweep"
Row = dict[str, object]


def test_a_get_counts_and_a_post_and_the_scheduler_sweep(
    api: httpx.Client, sql: psycopg.Connection[Row], admin: dict[str, str]
) -> None:
    address, owner = start(api, kind="room", status="active")
    enter(api, address, headers=owner)
    sql.execute("update lull.sessions set last_activity_at = now() - interval '55 min'")
    sql.execute("update lull.session_participants set last_seen_at = now() - interval '55 min'")
    assert api.get(SWEEP, headers=admin).json() == {"wouldWarn": 1, "wouldTell": 1, "last": None}
    assert api.post(SWEEP, headers=admin).json() == {"warned": 1, "told": 1, "moved": 0, "hasMore": False}
    seen = api.get(SWEEP, headers=admin).json()
    assert (seen["wouldWarn"], seen["wouldTell"], seen["last"]["warned"], seen["last"]["told"]) == (0, 0, 1, 1)
    scheduled = api.get(SWEEP, headers=admin | {"User-Agent": "vercel-cron/1.0"}).json()
    assert scheduled == {"warned": 0, "told": 0, "moved": 0, "hasMore": False}
    assert events_of(api, address, owner)[-2:] == ["participant.away", "session.expiring"]
    assert api.post(SWEEP).status_code == 401


def test_the_log_says_what_a_sweep_and_a_cleanup_did(
    api: httpx.Client,
    sql: psycopg.Connection[Row],
    admin: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(logging.getLogger("lull"), "propagate", True)
    caplog.set_level(logging.INFO, "lull")
    add_session(sql, "room", "active", age="2 h")
    add_session(sql, "room", "active", age="5 min")
    api.post(SWEEP, headers=admin)
    api.post("/api/admin/cleanup-sessions", headers=admin)
    lines: dict[str, Any] = {record.message: record.__dict__.get("fields") for record in caplog.records}
    assert lines["sweep.started"] == {"caller": "admin"}
    assert lines["sweep.finished"] == {"caller": "admin", "warned": 0, "told": 0}
    assert lines["cleanup.removed"]["n"] == 1
    assert lines["cleanup.statistics"] == {"totalSessions": 1, "activeSessions": 1, "inactiveSessions": 0}


def test_rooms_in_use_are_counted_and_listed(
    api: httpx.Client, sql: psycopg.Connection[Row], admin: dict[str, str]
) -> None:
    address, owner = start(api, kind="room")
    enter(api, address, headers=owner)
    add_session(sql, "room", "active", age="2 h")
    report = api.get("/api/admin/rooms", headers=admin).json()
    assert {name: report[name] for name in report if name != "rooms"} == {
        "totalSessions": 2, "activeSessions": 1, "inactiveSessions": 1}  # fmt: skip
    newest = report["rooms"][0]
    assert (f"/api/sessions/{newest['id']}", newest["participants"]) == (address, 1)
    assert len(api.get("/api/admin/rooms?limit=1", headers=admin).json()["rooms"]) == 1
