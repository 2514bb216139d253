"""What the teams' own documents ask for, item by item, over HTTP: a checklist of six, and three tests of a lifecycle."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.games.calls import Games, Sql, age

CLEANUP = "/api/admin/cleanup-sessions"


@pytest.fixture
def bot(games: Games) -> Bot:
    return Bot(games)


class Bot:
    """A bot that is started again and again: it opens its instance and recovers."""

    def __init__(self, games: Games) -> None:
        self._games = games
        self.incarnation = 0

    def restart(self) -> list[str]:
        """Start; returns the games that it goes on with."""
        self.incarnation = self._games.open("bot-1")
        answer = self._games.instance("recover", "bot-1", self.incarnation)
        return [each["id"] for each in answer.json()["sessions"]]

    def play(self) -> str:
        """Start a game and own it."""
        game = self._games.start()
        self._games.owned(game, self.incarnation)
        return game


def cleaned(api: httpx.Client, admin: dict[str, str]) -> int:
    """What a run of the games' policy deletes."""
    answer = api.post(f"{CLEANUP}?policy=orphaned-games", headers=admin)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["deleted"])


def test_bot_restart_preserves_sessions_with_last_activity_under_30_minutes_ago(
    games: Games, bot: Bot, sql: Sql, admin: dict[str, str]
) -> None:
    bot.restart()
    game = bot.play()
    age(sql, game, "29 min")
    assert bot.restart() == [game]
    assert cleaned(games.api, admin) == 0
    assert games.read(game)["status"] == "active"


def test_bot_restart_cleans_sessions_with_last_activity_over_30_minutes_ago(
    games: Games, bot: Bot, sql: Sql, admin: dict[str, str]
) -> None:
    """The start does not go on with it and deletes nothing; the run after it does."""
    bot.restart()
    game = bot.play()
    age(sql, game, "31 min")
    assert bot.restart() == []
    assert games.read(game)["expired"] is True
    assert cleaned(games.api, admin) == 1
    assert games.api.get(f"/api/sessions/{game}", headers=games.headers).status_code == 410


def test_end_sets_status_ended_and_the_ended_at_timestamp(games: Games) -> None:
    game = games.start()
    assert games.read(game)["endedAt"] is None
    games.move(game, "end")
    shown = games.read(game)
    assert shown["status"] == "ended"
    assert shown["endedAt"] >= shown["createdAt"]


@pytest.mark.parametrize("verb", ["end", "pause"])
def test_ended_and_paused_sessions_are_not_cleaned_up_by_timeout_logic(
    games: Games, sql: Sql, admin: dict[str, str], verb: str
) -> None:
    game = games.start()
    games.move(game, verb)
    age(sql, game, "300 d")
    assert cleaned(games.api, admin) == 0
    assert games.read(game)["id"] == game


def test_analytics_queries_work_on_ended_sessions(games: Games, admin: dict[str, str], sql: Sql) -> None:
    for guild in ("guild-1", "guild-1", "guild-2"):
        game = games.start(guildId=guild)
        games.command(game, 1)
        games.move(game, "end")
    counts = games.api.get("/api/sessions/count?status=ended&guildId=guild-1", headers=games.headers).json()
    assert counts["count"] == 2
    stats = games.api.get("/api/admin/stats", headers=admin)
    assert stats.status_code == 200
    lengths = sql.execute(
        "select guild_id, count(*) as games, avg(ended_at - created_at) >= interval '0' as lasted "
        "from lull.sessions where kind = 'game' and status = 'ended' group by 1 order by 1"
    ).fetchall()
    assert [(row["guild_id"], row["games"], row["lasted"]) for row in lengths] == [
        ("guild-1", 2, True), ("guild-2", 1, True),
    ]  # fmt: skip


def test_initializes_in_correct_state(games: Games) -> None:
    game = games.start(status="draft", state={"players": ["ada", "bo"]})
    shown = games.read(game)
    assert (shown["status"], shown["state"], shown["version"]) == ("draft", {"players": ["ada", "bo"]}, 1)
    games.move(game, "activate")
    assert games.read(game)["status"] == "active"
    assert games.events(game)[-1]["event"] == "initialized"


def test_processes_commands_in_active_state(games: Games) -> None:
    game = games.start(status="draft")
    assert games.command(game, 1).status_code == 409
    games.move(game, "activate")
    assert games.command(game, 2, patch={"guess": "tea"}).json()["version"] == 3
    games.move(game, "pause")
    assert games.command(game, 4).status_code == 409
    games.move(game, "resume")
    assert games.command(game, 5).json()["version"] == 6


def test_manages_complete_session_lifecycle(games: Games, bot: Bot, sql: Sql, admin: dict[str, str]) -> None:
    bot.restart()
    game = games.start(status="draft", externalKey="guild-1/channel-1")
    fence = games.owned(game, bot.incarnation)
    games.move(game, "activate")
    games.command(game, 2, fence=fence, patch={"word": "tea"})
    games.move(game, "pause")
    assert bot.restart() == []
    games.move(game, "resume")
    assert _recovered(games, bot) == [game]
    fence = games.read(game)["fence"]
    games.command(game, 5, fence=fence, error="no such word")
    games.move(game, "end", reason="won")
    assert [each["event"] for each in games.events(game)] == [
        *("created", "activated", "initialized", "command_processed", "paused", "resumed", "recovered"),
        *("error", "ended", "terminated"),
    ]
    age(sql, game, "300 d")
    assert cleaned(games.api, admin) == 0
    assert games.read(game)["state"] == {"word": "tea"}
    assert bot.restart() == []


def _recovered(games: Games, bot: Bot) -> list[Any]:
    answer = games.instance("recover", "bot-1", bot.incarnation)
    return [each["id"] for each in answer.json()["sessions"]]


def test_no_setting_reaches_a_deletion_of_all_active_games(games: Games, bot: Bot, admin: dict[str, str]) -> None:
    """The old start-up deleted every active game. The shortest time-out is a minute, and a start deletes nothing."""
    from api.settings import Settings, SettingsError

    for minutes in ("0", "-1", "0.5", "nan", "1e-9"):
        with pytest.raises(SettingsError, match="SESSION_TIMEOUT_MINUTES"):
            Settings.from_environ({"SESSION_TIMEOUT_MINUTES": minutes})
    bot.restart()
    kept = [bot.play() for _ in range(3)]
    shortest = f"{CLEANUP}?policy=orphaned-games&thresholdHours="
    assert games.api.get(shortest + "0.1", headers=admin).json()["wouldDelete"] == 0
    assert games.api.get(shortest + "0", headers=admin).status_code == 422
    assert games.api.post(shortest + "0.1", headers=admin).status_code == 422, "a run takes no age from its caller"
    assert bot.restart() == kept
