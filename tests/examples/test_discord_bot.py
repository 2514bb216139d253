"""examples/discord-bot in processes of its own, against the local stack and a gateway of Discord's protocol."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.callers import SESSIONS, as_service
from tests.examples.discord import TOKEN, Discord, discord
from tests.games.calls import Games, Sql

Bot = subprocess.Popen[bytes]
Launch = Callable[..., Bot]
SECONDS = 30


@pytest.fixture
def games(live_api: httpx.Client, environment: dict[str, str]) -> Games:
    return Games(live_api, as_service(environment))


@pytest.fixture
def chat() -> Iterator[Discord]:
    with discord() as running:
        yield running


@pytest.fixture
def launch(chat: Discord, live_api: httpx.Client, environment: dict[str, str], checkout: Path) -> Iterator[Launch]:
    """Give a function that starts a bot by its name, and returns when it is connected."""
    bots: list[Bot] = []

    def started(name: str = "bot-1") -> Bot:
        number = len(chat.seen) + 1
        variables = {"LULL_URL": str(live_api.base_url), "SERVICE_SECRET": environment["SERVICE_SECRET"]}
        variables |= {"DISCORD_API": chat.api, "DISCORD_TOKEN": TOKEN, "BOT_NAME": name, "LEASE_SECONDS": "10"}
        variables |= {"PYTHONPATH": str(checkout / "api" / "clients")}
        program = str(checkout / "examples" / "discord-bot" / "bot.py")
        bots.append(subprocess.Popen([sys.executable, "-B", program], env=os.environ | variables))
        chat.await_bots(number)
        return bots[-1]

    yield started
    for bot in bots:
        if bot.poll() is None:
            bot.kill()
        bot.wait(SECONDS)


def say(chat: Discord, name: str, **options: str) -> str:
    return chat.interact(name, **options).result(SECONDS)


def the_game(games: Games) -> str:
    found = games.api.get(f"{SESSIONS}?kind=game", headers=games.headers).json()["sessions"]
    assert len(found) == 1
    return str(found[0]["id"])


def test_a_game_is_played_to_its_end(chat: Discord, launch: Launch, games: Games) -> None:
    launch()
    assert say(chat, "guess", letter="a") == "No game is on in this channel."
    assert say(chat, "start", word="lull") == "____ (6 lives)"
    assert "An open game has this externalKey" in say(chat, "start", word="lull")
    assert say(chat, "guess", letter="x") == "____ (5 lives)"
    assert say(chat, "pause") == "Paused."
    assert "paused" in say(chat, "guess", letter="l")
    assert say(chat, "resume") == "____ (5 lives)"
    assert say(chat, "guess", letter="l") == "l_ll (5 lives)"
    assert say(chat, "guess", letter="u") == "lull (5 lives)"
    assert games.read(the_game(games))["endReason"] == "won"
    assert say(chat, "start", word="again") == "_____ (6 lives)"


def test_after_sigkill_the_next_start_goes_on_and_no_guess_counts_twice(
    chat: Discord, launch: Launch, games: Games
) -> None:
    bot = launch()
    say(chat, "start", word="abcdefghijklmnop")
    answers = [chat.interact("guess", letter=letter) for letter in "abcdefghijkl"]
    answers[3].result(SECONDS)
    bot.send_signal(signal.SIGKILL)
    assert bot.wait(SECONDS) == -signal.SIGKILL
    answered = sum(answer.done() for answer in answers)
    launch()
    say(chat, "guess", letter="m")
    shown = games.read(the_game(games))
    letters = shown["state"]["guessed"]
    assert len(letters) == len(set(letters)) >= answered + 1
    assert shown["version"] == 1 + len(letters)
    events = [each["event"] for each in games.events(shown["id"])]
    assert events.count("command_processed") == len(letters)
    assert events.count("recovered") == 1
    for place in range(1, 13):
        chat.deliver(place)  # a gateway that brings everything again
    assert say(chat, "guess", letter="n").startswith("abc")
    again = games.read(shown["id"])
    assert sorted(again["state"]["guessed"]) == sorted(set("abcdefghijklmn"))
    assert again["version"] == 1 + 14


def test_the_games_of_a_crashed_bot_go_to_another_one(chat: Discord, launch: Launch, games: Games, sql: Sql) -> None:
    other, bot = launch("bot-2"), launch("bot-1")
    say(chat, "start", word="tea")
    bot.kill()
    bot.wait(SECONDS)
    sql.execute("update lull.instances set lease_until = now() where id = 'bot-1'")
    game = the_game(games)
    deadline = time.monotonic() + SECONDS  # its next renewal tells it, within a third of the lease
    while games.read(game)["instance"] != "bot-2":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    other.send_signal(signal.SIGTERM)
    assert other.wait(SECONDS) == 0
    row = sql.execute("select count(*) as n from lull.instances where id = 'bot-2' and closed_at is not null")
    assert row.fetchone() == {"n": 1}
    launch("bot-3")
    assert say(chat, "guess", letter="t") == "t__ (6 lives)"


def test_a_gateway_that_asks_for_it_is_resumed(chat: Discord, launch: Launch, games: Games) -> None:
    launch()
    say(chat, "start", word="tea")
    chat.break_connection()
    chat.await_bots(2)
    assert chat.seen == ["identify", "resume"]
    assert say(chat, "guess", letter="e") == "_e_ (6 lives)"
