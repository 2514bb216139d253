"""Games by their external key: created once, found, listed and counted."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from infra import migrate
from infra.local.environment import ROOT
from tests.callers import SESSIONS, as_user, problem_of
from tests.games.calls import Games, Sql
from tests.policies import policy_arguments
from tests.sql.driver import add_session, call
from tests.sql_servers import Database


def ids(games: Games, **where: str) -> list[str]:
    answer = games.api.get(SESSIONS, params={"kind": "game", **where}, headers=games.headers)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["sessions"]]


def test_a_game_shows_its_guild_mode_state_and_owner(games: Games) -> None:
    game = games.start(externalKey="guild-1/channel-1", state={"round": 1})
    shown = games.read(game)
    assert (shown["guildId"], shown["mode"], shown["externalKey"]) == ("guild-1", "duel", "guild-1/channel-1")
    assert (shown["state"], shown["fence"], shown["version"]) == ({"round": 1}, 0, 1)
    assert "instance" not in shown


@pytest.mark.parametrize("missing", ["guildId", "mode"])
def test_a_game_of_the_service_needs_a_guild_and_a_mode(games: Games, missing: str) -> None:
    answer = games.create(**{missing: None})
    assert problem_of(answer) == (422, "invalid-request")
    assert [each["field"] for each in answer.json()["errors"]] == [missing]


def test_only_the_service_names_keys_guilds_and_states(games: Games, environment: dict[str, str]) -> None:
    ada = as_user(environment)
    fields: list[dict[str, object]] = [{"externalKey": "k"}, {"guildId": "g"}, {"state": {}}]
    for field in fields:
        answer = games.api.post(SESSIONS, json={"kind": "game", **field}, headers=ada)
        assert [each["field"] for each in answer.json()["errors"]] == list(field)
    assert problem_of(games.create(kind="room", mode=None)) == (422, "invalid-request")
    assert games.api.get(f"{SESSIONS}/count", headers=ada).status_code == 401


def test_a_state_that_is_too_large_is_refused_and_nothing_is_created(games: Games, sql: Sql) -> None:
    answer = games.create(state={"a": "x" * 60_000, "b": [1e300] * 20})
    assert [each["field"] for each in answer.json()["errors"]] == ["state"]
    assert sql.execute("select 1 from lull.sessions").fetchall() == []


def test_the_key_of_an_open_game_is_taken_until_it_ends(games: Games) -> None:
    first = games.start(externalKey="channel-1")
    games.move(first, "pause")
    taken = games.create(externalKey="channel-1", status="draft")
    assert (*problem_of(taken), taken.json()["sessionId"]) == (409, "external-key-taken", first)
    games.start(externalKey="channel-2")
    games.move(first, "end")
    second = games.start(externalKey="channel-1")
    assert ids(games, externalKey="channel-1") == [second, first]
    assert ids(games, externalKey="channel-1", status="active") == [second]


def test_of_eight_creations_of_one_key_at_once_one_succeeds(games: Games) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: games.create(externalKey="channel-1"), range(8)))
    created = [each.json()["session"]["id"] for each in answers if each.status_code == 201]
    assert len(created) == 1
    assert {each.json()["sessionId"] for each in answers if each.status_code == 409} == set(created)
    assert sum(each.status_code == 409 for each in answers) == 7


def test_games_are_listed_and_counted_by_guild_mode_and_status(games: Games) -> None:
    duel, coop = games.start(), games.start(mode="coop")
    other, over = games.start(guildId="guild-2"), games.start()
    games.move(coop, "pause")
    games.move(over, "end")
    games.post(SESSIONS, kind="room")
    assert ids(games, guildId="guild-1") == [over, coop, duel]
    assert ids(games, guildId="guild-2") == [other]
    assert ids(games, guildId="guild-1", mode="duel", status="active") == [duel]
    counts = games.api.get(f"{SESSIONS}/count?kind=game&guildId=guild-1", headers=games.headers).json()
    assert counts == {"count": 3, "byStatus": {"draft": 0, "active": 1, "paused": 1, "ended": 1}}
    active = games.api.get(f"{SESSIONS}/count?kind=game&status=active", headers=games.headers).json()
    assert active["count"] == 2


def test_a_repeated_creation_answers_with_the_first_game(games: Games) -> None:
    headers = games.headers | {"Idempotency-Key": "start-channel-1"}
    body = {"kind": "game", "guildId": "g", "mode": "m", "externalKey": "channel-1", "status": "active"}
    first, again = (games.api.post(SESSIONS, json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()


def test_a_restored_game_whose_key_is_taken_leaves_a_remainder(
    games: Games, sql: Sql, admin: dict[str, str], api: httpx.Client
) -> None:
    old = games.start(externalKey="channel-1")
    sql.execute("update lull.sessions set last_activity_at = now() - interval '1 h'")
    assert api.post("/api/admin/cleanup-sessions?policy=orphaned-games", headers=admin).json()["deleted"] == 1
    new = games.start(externalKey="channel-1")
    restored = games.move(old, "activate")
    assert restored.status_code == 410
    games.move(new, "end")
    assert games.move(old, "activate").headers["session-rows-missing"] == "0"
    assert games.read(old)["status"] == "active"


def test_the_migration_lets_games_that_share_a_key_go_on_and_no_new_one_gets_it(
    sql_database: Database, tmp_path: Path
) -> None:
    """Before the migration nothing kept two open games from one key."""
    with sql_database.connect() as db:
        db.execute("drop schema lull cascade")
        rows = db.execute("select oid::regprocedure::text as f from pg_proc where proname like 'lull\\_%'").fetchall()
        for row in rows:
            db.execute(f"drop function {row['f']}")
    before = Path(shutil.copytree(ROOT / "sql", tmp_path / "sql"))
    for ours in (before / "migrations").glob("*_games.sql"):
        ours.unlink()
    tables = ("lull.session_commands", "lull.instances", "lull.displacements")
    policies = [each for each in policy_arguments() if each["target"] not in tables]
    migrate.apply(sql_database.url, [each | {"also_clocks": []} for each in policies], sql=before)
    db = sql_database.connect()
    ids = [add_session(db, "game", "active", idle, external_key="k") for idle in ("3 min", "2 min", "1 min")]
    db.execute("update lull.sessions set created_at = last_activity_at")
    add_session(db, "game", "ended", external_key="k")
    migrate.apply(sql_database.url, policy_arguments())
    exempt = db.execute("select id from lull.sessions where key_exempt order by created_at").fetchall()
    assert [str(row["id"]) for row in exempt] == ids[:2]
    db.execute("update lull.sessions set status = 'ended', ended_at = now() where id = %s", [ids[2]])
    with pytest.raises(psycopg.Error) as refused:
        call(
            db, "lull_create_session", p_session=str(uuid4()), p_kind="game", p_status="active", p_title=None,
            p_external_key="k", p_mode=None, p_metadata={}, p_owner=None, p_token_hash=None, p_idempotency=None,
        )  # fmt: skip
    assert refused.value.diag.message_detail == "external-key-taken"
    assert ids[1] in str(refused.value.diag.message_hint)
