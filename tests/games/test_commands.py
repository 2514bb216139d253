"""POST /api/sessions/{id}/commands: once each, in the order of versions, refused in a fixed order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.callers import SESSIONS, as_user, problem_of, start
from tests.games.calls import Games, Sql, age
from tests.sql.driver import call


def test_a_command_patches_the_state_and_appends_its_events(games: Games) -> None:
    game = games.start(state={"word": "tea", "left": 3})
    applied = games.command(
        game, 1, commandId="c-1", patch={"left": 2}, events=["guessed", {"event": "scored", "data": {"by": "ada"}}]
    )
    assert applied.json() == {"version": 2, "fence": 0, "replayed": False}
    assert (games.read(game)["state"], games.read(game)["version"]) == ({"word": "tea", "left": 2}, 2)
    told = [(each["event"], each["data"]) for each in games.events(game)]
    assert told == [
        ("created", {"status": "active"}),
        ("initialized", {}),
        ("command_processed", {"commandId": "c-1", "name": "guess", "version": 2}),
        ("guessed", {}),
        ("scored", {"by": "ada"}),
    ]


# RFC 7396, appendix A, where target and patch are objects.
@pytest.mark.parametrize(
    ("state", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "text"}, {"a": {"b": [None]}}, {"a": {"b": [None]}}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_a_patch_is_merged_as_the_rfc_says(games: Games, state: Any, patch: Any, merged: Any) -> None:
    game = games.start(state=state)
    assert games.command(game, 1, patch=patch).status_code == 200
    assert games.read(game)["state"] == merged


def test_an_error_keeps_state_and_version_and_is_reported(games: Games, sql: Sql) -> None:
    game = games.start(state={"left": 3})
    age(sql, game, "20 min")
    failed = games.command(game, 1, commandId="c-1", error="no such word", events=["mocked"])
    assert failed.json() == {"version": 1, "fence": 0, "replayed": False}
    shown = games.read(game)
    assert (shown["state"], shown["version"]) == ({"left": 3}, 1)
    row = sql.execute("select now() - commanded_at < interval '1 min' as is_new from lull.sessions").fetchone()
    assert row == {"is_new": True}
    data = {"commandId": "c-1", "name": "guess", "version": 1, "error": "no such word"}
    assert [(each["event"], each["data"]) for each in games.events(game)[2:]] == [("error", data), ("mocked", {})]


def test_a_repeated_command_is_answered_and_not_applied_again(games: Games) -> None:
    game = games.start(state={"n": 0})
    body: dict[str, Any] = {"commandId": "c-1", "patch": {"n": 1}}
    games.command(game, 1, **body)
    games.command(game, 2, patch={"n": 2})
    assert games.command(game, 1, **body).json() == {"version": 2, "fence": 0, "replayed": True}
    assert games.read(game)["state"] == {"n": 2}
    assert problem_of(games.command(game, 1, commandId="c-1", patch={"n": 9})) == (422, "command-id-reused")
    other = games.start()
    assert games.command(other, 1, **body).json()["replayed"] is False


def test_a_repeated_command_is_answered_when_the_game_has_ended_or_gone(games: Games, sql: Sql) -> None:
    game = games.start()
    games.command(game, 1, commandId="c-1")
    games.move(game, "end")
    assert games.command(game, 1, commandId="c-1").json() == {"version": 2, "fence": 0, "replayed": True}
    sql.execute("delete from lull.sessions")
    assert games.command(game, 1, commandId="c-1").json() == {"version": 2, "fence": None, "replayed": True}


def test_a_refused_command_leaves_nothing_behind_and_can_be_sent_again(games: Games, sql: Sql) -> None:
    game = games.start()
    stale = games.command(game, 7, commandId="c-1", patch={"a": 1})
    assert problem_of(stale) == (412, "version-mismatch")
    assert stale.json()["version"] == 1
    assert sql.execute("select 1 from lull.session_commands").fetchall() == []
    assert [each["event"] for each in games.events(game)] == ["created", "initialized"]
    assert games.command(game, 1, commandId="c-1", patch={"a": 1}).status_code == 200


@pytest.mark.parametrize(("verbs", "status"), [(["pause"], "paused"), (["end"], "ended"), (["pause", "end"], "ended")])
def test_a_paused_or_ended_game_takes_no_command(games: Games, verbs: list[str], status: str) -> None:
    game = games.start()
    for verb in verbs:
        games.move(game, verb)
    answer = games.command(game, 1)
    assert (problem_of(answer), answer.json()["currentStatus"]) == ((409, "wrong-status"), status)


def test_the_refusals_stand_in_this_order(games: Games) -> None:
    """404, then the fence, then the status, then the version, then the size."""
    absent = "00000000-0000-4000-8000-000000000000"
    assert problem_of(games.command(absent, 9, fence=9)) == (404, "not-found")
    game, incarnation = games.start(), games.open()
    fence = games.owned(game, incarnation)
    large = {"a": "x" * 60_000, "b": [1e300] * 20}
    assert problem_of(games.command(game, 1, fence=fence, patch=large)) == (422, "state-too-large")
    assert problem_of(games.command(game, 9, fence=fence, patch=large)) == (412, "version-mismatch")
    games.move(game, "pause")
    assert problem_of(games.command(game, 9, fence=fence, patch=large)) == (409, "wrong-status")
    displaced = games.command(game, 9, fence=fence - 1, patch=large)
    assert (*problem_of(displaced), displaced.json()["fence"]) == (409, "owner-displaced", fence)
    assert problem_of(games.command(game, 9)) == (409, "owner-displaced")
    assert games.read(game)["state"] == {}


def test_only_games_take_commands_and_only_from_the_service(games: Games, environment: dict[str, str]) -> None:
    room = games.post(SESSIONS, kind="room", status="active").json()["session"]["id"]
    assert problem_of(games.command(room, 1)) == (404, "not-found")
    ada = as_user(environment)
    address, _ = start(games.api, ada, kind="game", status="active")
    body = {"commandId": "c", "name": "guess", "version": 1}
    assert problem_of(games.api.post(f"{address}/commands", json=body, headers=ada)) == (401, "unauthorized")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"version": None}, "version"),
    ({"version": 1.5}, "version"),
    ({"version": True}, "version"),
    ({"commandId": ""}, "commandId"),
    ({"name": "n" * 101}, "name"),
    ({"patch": []}, "patch"),
    ({"patch": {}, "error": "e"}, "body"),
    ({"events": ["guessed"] * 21}, "events"),
    ({"events": ["terminated"]}, "events"),
    ({"events": [{"event": "ended"}]}, "events"),
    ({"events": [{"event": "no blanks"}]}, "events"),
    ({"fence": -1}, "fence"),
    ({"incarnation": 1}, "incarnation"),
]


@pytest.mark.parametrize(("change", "field"), BAD, ids=str)
def test_a_bad_command_is_refused_by_its_field(games: Games, change: dict[str, Any], field: str) -> None:
    body = {"commandId": "c-1", "name": "guess", "version": 1, **change}
    answer = games.post(f"{SESSIONS}/00000000-0000-4000-8000-000000000000/commands", **body)
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["field"].split(".")[0] == field


def test_the_end_of_a_game_is_told_with_its_reason(games: Games) -> None:
    game = games.start(status="draft")
    games.move(game, "activate")
    games.move(game, "end", reason="guild left")
    assert [(each["event"], each["data"]) for each in games.events(game)] == [
        ("created", {"status": "draft"}),
        ("activated", {}),
        ("initialized", {}),
        ("ended", {"reason": "guild left"}),
        ("terminated", {"reason": "guild left"}),
    ]


def test_a_command_is_activity_and_keeps_its_game(games: Games, sql: Sql, admin: dict[str, str]) -> None:
    """The clock in the index may lag by 60 s: the cleanup judges by the exact one."""
    game = games.start()
    sql.execute("update lull.sessions set last_activity_at = now() - interval '31 min', commanded_at = now()")
    assert games.read(game)["expired"] is False
    cleanup = "/api/admin/cleanup-sessions?policy=orphaned-games"
    assert games.api.post(cleanup, headers=admin).json()["deleted"] == 0
    age(sql, game, "31 min")
    assert games.read(game)["expired"] is True
    games.command(game, 1)
    assert games.read(game)["expired"] is False
    age(sql, game, "31 min")
    assert games.api.post(cleanup, headers=admin).json()["deleted"] == 1


def test_the_update_of_a_command_is_hot_while_the_clock_is_young(games: Games, sql: Sql) -> None:
    """On one connection: Postgres counts what a connection did when that connection reports it."""
    game = games.start(state={"n": 0})
    before = _updates(sql)
    for version in range(1, 11):
        command = {"id": f"c-{version}", "hash": "00", "name": "n", "version": version, "patch": {"n": version}}
        call(sql, "lull_apply_command", p_session=game, p_command=command, p_max_state_bytes=1000)
    assert [now - was for now, was in zip(_updates(sql), before, strict=True)] == [10, 10]
    row = sql.execute("select last_activity_at < commanded_at as lags from lull.sessions").fetchone()
    assert row == {"lags": True}


def _updates(sql: Sql) -> tuple[int, int]:
    """All updates of sessions, and those that were HOT."""
    sql.execute("select pg_stat_force_next_flush()")
    row = sql.execute(
        "select n_tup_upd as updates, n_tup_hot_upd as hot from pg_stat_user_tables "
        "where schemaname = 'lull' and relname = 'sessions'"
    ).fetchone()
    assert row is not None
    return int(row["updates"]), int(row["hot"])
