"""A Discord bot that plays hangman, one game a channel. Its games survive restarts, crashes and deployments.

/start <word>, /guess <letter>, /pause, /resume, /end. All state is in Lull: the bot keeps a copy of its games, and a
new process goes on with them. Reads DISCORD_TOKEN, LULL_URL, SERVICE_SECRET and BOT_NAME (another for each process).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

from gateway import Gateway, Interaction
from lull_client import Game, GameLost, Lull, LullError, State, Unreachable

LIVES = 6
log = logging.getLogger("bot")


class Bot:
    """Hangman by channel. `lull.games` are the games that this process owns."""

    def __init__(self, lull: Lull) -> None:
        self._lull = lull

    async def handle(self, interaction: Interaction) -> str:
        """Do what a slash command says; returns what the channel is told."""
        given = {each["name"]: each["value"] for each in interaction["data"].get("options", [])}
        try:
            return await getattr(self, f"do_{interaction['data']['name']}")(interaction, **given)
        except GameLost as lost:
            return f"Another process goes on with this game ({lost}). Try again."
        except LullError as error:
            return str(error.members.get("detail", error))
        except Unreachable:
            return "The games cannot be reached just now. Try again."
        except Exception:
            log.exception("A command failed")
            game = self._game(interaction)
            if game is not None:
                await game.error(interaction["data"]["name"], "the bot failed")
            return "That did not work."

    async def do_start(self, interaction: Interaction, word: str) -> str:
        state = {"word": word.lower(), "guessed": [], "left": LIVES}
        key = key_of(interaction)
        game = await self._lull.start(key, guild_id=interaction["guild_id"], mode="hangman", state=state)
        return shown(game.state)

    async def do_guess(self, interaction: Interaction, letter: str) -> str:
        game = self._game(interaction)
        if game is None:
            return "No game is on in this channel."
        # The interaction's id is the command's: Discord may deliver it again when a connection is resumed.
        await game.command("guess", lambda state: guessed(state, letter.lower()), command_id=interaction["id"])
        text = shown(game.state)
        if is_over(game.state):
            await game.end("won" if game.state["left"] else "lost")
        return text

    async def do_pause(self, interaction: Interaction) -> str:
        game = self._game(interaction)
        if game is None:
            return "No game is on in this channel."
        await game.pause()
        return "Paused."

    async def do_resume(self, interaction: Interaction) -> str:
        """A paused game is nobody's after a restart, so it may have to be claimed."""
        found = await self._lull.find(key_of(interaction))
        if found is None:
            return "No game is on in this channel."
        game = self._game(interaction) or await self._lull.claim(found["id"])
        await game.resume()
        return shown(game.state)

    async def do_end(self, interaction: Interaction) -> str:
        game = self._game(interaction)
        if game is None:
            return "No game is on in this channel."
        await game.end("ended by a player")
        return f"The word was {game.state['word']}."

    def _game(self, interaction: Interaction) -> Game | None:
        return next((game for game in self._lull.games.values() if game.key == key_of(interaction)), None)


def key_of(interaction: Interaction) -> str:
    """A game's external key: one game a channel."""
    return f"{interaction['guild_id']}/{interaction['channel_id']}"


def guessed(state: State, letter: str) -> dict[str, Any]:
    """What a guess changes."""
    if letter in state["guessed"]:
        return {}
    miss = letter not in state["word"]
    return {"guessed": [*state["guessed"], letter], "left": state["left"] - miss}


def is_over(state: State) -> bool:
    return not state["left"] or set(state["word"]) <= set(state["guessed"])


def shown(state: State) -> str:
    """The word as far as it is known, and the lives that are left."""
    word = "".join(letter if letter in state["guessed"] else "_" for letter in state["word"])
    return f"{word} ({state['left']} lives)"


async def main() -> None:
    """Play until SIGTERM or SIGINT; then finish what was begun."""
    logging.basicConfig(level=logging.WARNING)
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    url, secret, name = (os.environ[each] for each in ("LULL_URL", "SERVICE_SECRET", "BOT_NAME"))
    async with Lull(url, secret, name, lease_seconds=int(os.environ.get("LEASE_SECONDS", "30"))) as lull:
        api = os.environ.get("DISCORD_API", "https://discord.com/api/v10")
        gateway = asyncio.create_task(Gateway(api, os.environ["DISCORD_TOKEN"], Bot(lull).handle).run())
        await asyncio.wait([gateway, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        gateway.cancel()
        await asyncio.gather(gateway, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
