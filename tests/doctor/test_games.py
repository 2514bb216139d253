"""The doctor names games that share a key, and games that the recovery passes over."""

from __future__ import annotations

from typing import Any

import httpx
import psycopg

from tests.calls import add_session

Sql = psycopg.Connection[Any]


def lines(api: httpx.Client, admin: dict[str, str]) -> list[dict[str, Any]]:
    answer = api.get("/api/admin/doctor", headers=admin)
    return [each for each in answer.json()["checks"] if each["check"] == "games"]


def test_games_that_share_a_key_are_named_until_one_is_left(
    api: httpx.Client, sql: Sql, admin: dict[str, str]
) -> None:
    old = add_session(sql, "game", "active", age="1 s", external_key="channel-1", key_exempt=True)
    new = add_session(sql, "game", "active", age="1 s", external_key="channel-1")
    (line,) = lines(api, admin)
    assert (line["status"], "share the key channel-1" in line["message"]) == ("warn", True)
    assert old in line["message"]
    assert new in line["message"]
    sql.execute("update lull.sessions set status = 'ended', ended_at = now() where id = %s", (old,))
    assert lines(api, admin) == []


def test_a_game_that_is_passed_over_is_named(api: httpx.Client, sql: Sql, admin: dict[str, str]) -> None:
    add_session(sql, "game", "active", age="1 s", incarnation=1, recoveries=2)
    assert lines(api, admin) == []
    poison = add_session(sql, "game", "active", age="1 s", incarnation=1, recoveries=3)
    (line,) = lines(api, admin)
    assert f"The game {poison} was recovered 3 times" in line["message"]
