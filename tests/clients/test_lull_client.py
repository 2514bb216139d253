"""The client for bots against the API in a process of its own, over real sockets; some answers are lost on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from api.clients.lull_client import Game, GameLost, Lull, LullError, Unreachable, merge_patch
from tests.callers import as_service
from tests.games.calls import Games, Sql, age, expire_lease

Connect = Callable[..., Lull]


@pytest.fixture
def games(live_api: httpx.Client, environment: dict[str, str]) -> Games:
    return Games(live_api, as_service(environment))


@pytest.fixture
def connect(live_api: httpx.Client, environment: dict[str, str]) -> Connect:
    """Give a function that makes the client of a process by its name."""

    def made(name: str = "bot-1", **given: Any) -> Lull:
        return Lull(str(live_api.base_url), environment["SERVICE_SECRET"], name, **given)

    return made


class Losing(httpx.AsyncBaseTransport):
    """Real HTTP that loses requests on their way there, and answers on their way back.

    `chance` is that of either; `answers_of` names a path whose next answer is lost for certain.
    """

    def __init__(self, chance: float = 0.0, answers_of: str = "") -> None:
        self._http, self._chance, self._path = httpx.AsyncHTTPTransport(), chance, answers_of
        self._random = random.Random(16)
        self.lost = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._random.random() < self._chance:
            self.lost += 1
            raise httpx.ConnectError("the request was lost")
        answer = await self._http.handle_async_request(request)
        is_named = bool(self._path) and request.url.path.endswith(self._path)
        if is_named or self._random.random() < self._chance:
            self._path = "" if is_named else self._path
            self.lost += 1
            await answer.aread()
            await answer.aclose()
            raise httpx.ReadError("the answer was lost")
        return answer

    async def aclose(self) -> None:
        await self._http.aclose()


async def crash(lull: Lull) -> None:
    """Let a process end as SIGKILL ends it: nothing is said to Lull."""
    if lull._heart is not None:
        lull._heart.cancel()
        await asyncio.gather(lull._heart, return_exceptions=True)
    await lull._http.aclose()


async def start(lull: Lull, key: str = "channel-1", **given: Any) -> Game:
    return await lull.start(key, guild_id="guild-1", mode="duel", **given)


def taken(games: list[Game]) -> Callable[[Game], Awaitable[None]]:
    """An `on_game` that collects."""

    async def on_game(game: Game) -> None:
        games.append(game)

    return on_game


def test_a_game_from_its_start_to_its_end(connect: Connect, games: Games) -> None:
    async def play() -> str:
        async with connect() as lull:
            game = await start(lull, state={"left": 3})
            assert await game.command("guess", lambda state: {"left": state["left"] - 1}, events=["guessed"])
            assert await game.error("guess", "no such word")
            await game.pause()
            with pytest.raises(LullError, match="wrong-status"):
                await game.command("guess", {"left": 0})
            await game.resume()
            await game.command("guess", {"left": 1, "word": "tea"})
            assert (game.state, game.version) == ({"left": 1, "word": "tea"}, 5)
            assert await lull.count(guildId="guild-1") == {"draft": 0, "active": 1, "paused": 0, "ended": 0}
            await game.end("won")
            assert (await lull.find("channel-1"), lull.games) == (None, {})
            return game.id

    shown = games.read(asyncio.run(play()))
    assert (shown["state"], shown["status"], shown["endReason"]) == ({"left": 1, "word": "tea"}, "ended", "won")
    assert [each["event"] for each in games.events(shown["id"])] == [
        *("created", "initialized", "command_processed", "guessed", "error", "paused", "resumed"),
        *("command_processed", "ended", "terminated"),
    ]


def test_commands_whose_answers_are_lost_are_applied_once(connect: Connect, games: Games) -> None:
    losing = Losing(0.15)

    async def play() -> str:
        lull = connect(transport=losing)
        async with lull:
            pair = [await start(lull, f"channel-{n}", state={"n": 0}) for n in range(2)]
            for _ in range(20):
                await asyncio.gather(*(game.command("add", lambda state: {"n": state["n"] + 1}) for game in pair))
            for game in pair:
                assert (game.state, game.version) == ({"n": 20}, 21)
            await pair[0].pause()
            await pair[0].resume()
            await pair[0].end()
            return pair[0].id

    game = asyncio.run(play())
    assert losing.lost > 5
    told = [each["event"] for each in games.events(game)]
    assert told == ["created", "initialized", *["command_processed"] * 20, "paused", "resumed", "ended", "terminated"]
    assert games.api.get("/api/sessions/count", headers=games.headers).json()["count"] == 2


def test_the_next_start_of_a_process_goes_on_with_its_games(connect: Connect, games: Games) -> None:
    async def play() -> None:
        found: list[Game] = []
        async with connect() as lull:
            old = await start(lull, state={"n": 1})
            await old.command("add", {"n": 2})
        with pytest.raises(GameLost, match="drained"):
            await old.command("add", {"n": 3})
        async with connect(on_game=taken(found)) as lull:
            assert [(game.id, game.state, game.version) for game in found] == [(old.id, {"n": 2}, 2)]
            await found[0].command("add", {"n": 3})
            assert list(lull.games.values()) == found
        assert games.read(old.id)["state"] == {"n": 3}

    asyncio.run(play())


def test_a_touch_is_activity_and_no_change(connect: Connect, games: Games, sql: Sql) -> None:
    async def play() -> str:
        async with connect() as lull:
            game = await start(lull)
            age(sql, game.id, "29 min")
            await game.touch()
            age(sql, game.id, "2 min")
            return game.id

    shown = games.read(asyncio.run(play()))
    assert (shown["expired"], shown["version"]) == (False, 1)


def test_a_callback_that_fails_keeps_no_other_game_from_going_on(connect: Connect) -> None:
    async def play() -> None:
        seen: list[str] = []

        async def on_game(game: Game) -> None:
            seen.append(game.id)
            raise RuntimeError("the bot's own fault")

        async with connect() as lull:
            started = [(await start(lull, f"channel-{n}")).id for n in range(2)]
        async with connect(on_game=on_game) as lull:
            assert (seen, list(lull.games)) == (started, started)

    asyncio.run(play())


def test_draining_lets_a_command_in_flight_finish(connect: Connect, games: Games) -> None:
    async def play() -> str:
        lull = connect()
        async with lull:
            game = await start(lull)
            flying = asyncio.create_task(game.command("add", {"n": 1}))
            await asyncio.sleep(0)  # it has its turn
        assert await flying
        return game.id

    assert games.read(asyncio.run(play()))["state"] == {"n": 1}


def test_a_renewal_finds_the_games_of_another_process_that_crashed(connect: Connect, sql: Sql) -> None:
    async def play() -> None:
        found: list[Game] = []
        gone = connect("bot-1")
        async with connect("bot-2", on_game=taken(found)) as lull:
            await gone.__aenter__()
            game = await start(gone)
            await crash(gone)
            assert await lull._renew()
            assert found == [], "its lease runs"
            expire_lease(sql, gone.incarnation)
            assert await lull._renew()
            assert [each.id for each in found] == [game.id]
            assert await found[0].command("add", {"n": 1})

    asyncio.run(play())


def test_a_displaced_owner_is_told_and_stops(connect: Connect) -> None:
    async def play() -> None:
        lost: list[tuple[str, str]] = []

        async def on_lost(game: Game, reason: str) -> None:
            lost.append((game.id, reason))

        async with connect("hung", on_lost=on_lost) as hung, connect("fresh") as fresh:
            games = [await start(hung, f"channel-{n}") for n in range(2)]
            for game in games:
                with pytest.raises(LullError, match="already-owned"):
                    await fresh.claim(game.id)
                await fresh.claim(game.id, force=True)
            with pytest.raises(GameLost, match="displaced"):
                await games[0].command("add", {"n": 1})
            assert lost == [(games[0].id, "displaced")]
            assert await hung._renew()
            assert lost == [(game.id, "displaced") for game in games]
            assert (hung.games, len(fresh.games)) == ({}, 2)

    asyncio.run(play())


def test_a_process_whose_lease_ran_out_stops_its_games_and_gets_them_anew(connect: Connect, sql: Sql) -> None:
    async def play() -> None:
        found: list[Game] = []
        lost: list[str] = []

        async def on_lost(game: Game, reason: str) -> None:
            lost.append(reason)

        async with connect(on_game=taken(found), on_lost=on_lost) as lull:
            old = await start(lull)
            expire_lease(sql, lull.incarnation)
            assert not await lull._renew()
            await lull._begin()
            assert (lost, [game.id for game in found]) == (["lease"], [old.id])
            assert await found[0].command("add", {"n": 1})
            with pytest.raises(GameLost, match="lease"):
                await old.command("add", {"n": 2})

    asyncio.run(play())


def test_games_in_an_answer_that_was_lost_are_not_lost(connect: Connect, games: Games) -> None:
    async def play() -> None:
        found: list[Game] = []
        async with connect() as lull:
            mine = {(await start(lull, f"channel-{n}")).id for n in range(3)}
        async with connect(on_game=taken(found), transport=Losing(answers_of="/recover")):
            assert {game.id for game in found} == mine
            for game in found:
                assert await game.command("add", {"n": 1})

    asyncio.run(play())


def test_an_interaction_that_is_delivered_twice_is_applied_once(connect: Connect, games: Games) -> None:
    async def play() -> None:
        async with connect() as lull:
            game = await start(lull, state={"n": 0})
            for is_new in (True, False):
                assert await game.command("add", lambda s: {"n": s["n"] + 1}, command_id="interaction-7") is is_new
            assert (game.state, game.version) == ({"n": 1}, 2)

    asyncio.run(play())


def test_a_function_is_asked_again_when_the_game_was_changed_meanwhile(connect: Connect, games: Games) -> None:
    async def play() -> None:
        async with connect() as lull:
            game = await start(lull, state={"n": 0})
            fence = game.session["fence"]
            assert games.command(game.id, 1, patch={"n": 10}, fence=fence).status_code == 200
            await game.command("add", lambda state: {"n": state["n"] + 1})
            assert (game.state, game.version) == ({"n": 11}, 3)
            assert games.command(game.id, 3, patch={"n": 20}, fence=fence).status_code == 200
            with pytest.raises(LullError, match="version-mismatch"):
                await game.command("set", {"n": 0})
            assert game.state == {"n": 20}

    asyncio.run(play())


def test_a_game_whose_process_died_before_it_was_owned_is_taken_over_by_the_next_start(
    connect: Connect, games: Games
) -> None:
    bare = games.start(externalKey="channel-1", state={"n": 1})

    async def play() -> None:
        async with connect() as lull:
            game = await start(lull)
            assert (game.id, game.state) == (bare, {"n": 1})
            with pytest.raises(LullError, match="external-key-taken"):
                await start(lull)

    asyncio.run(play())


def test_too_many_restarts_end_the_game(connect: Connect) -> None:
    async def play() -> None:
        async with connect() as lull:
            game = await start(lull)
            for _ in range(3):
                await game.restarted()
            assert await game.command("add", {"n": 1})
            with pytest.raises(GameLost, match="restart_limit"):
                await game.restarted()
            assert lull.games == {}

    asyncio.run(play())


def test_a_call_that_is_never_answered_ends_when_its_time_is_over() -> None:
    async def play() -> None:
        async with Lull("http://127.0.0.1:9", "secret", "bot-1", retry_seconds=0.3):
            raise AssertionError("nothing listens there")

    with pytest.raises(Unreachable):
        asyncio.run(play())


def test_the_client_merges_as_the_server_does(games: Games) -> None:
    state = {"a": {"b": 1, "c": [1]}, "d": None, "e": "x"}
    patch = {"a": {"b": None, "c": {"z": {"y": None}}}, "e": None, "f": {"g": {"h": 1}}}
    game = games.start(state=state)
    games.command(game, 1, patch=patch)
    assert games.read(game)["state"] == merge_patch(state, patch)
