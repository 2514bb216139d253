"""Lull for bots and game servers. Copy this file into your project: it needs Python 3.11 and httpx, and nothing else.

    async with Lull("https://lull.example.com", SERVICE_SECRET, "bot-1", on_game=resume, on_lost=stop) as lull:
        game = await lull.start("guild-1/channel-1", guild_id="guild-1", mode="duel", state={"left": 3})
        await game.command("guess", lambda state: {"left": state["left"] - 1})
        await game.end("won")

Entering the block opens an instance (a start of this process) and takes over the games whose process is gone: those of
this name's former start first. `on_game` gets each of them. In the background the instance's lease is renewed.
`on_lost` gets each game that this process must not go on with: another one owns it, or the lease ran out. Leaving the
block lets commands in flight finish, and hands the games to the next start. Nothing is deleted.

A call whose answer was lost is repeated until `retry_seconds` are over, and takes effect once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

State = dict[str, Any]
Decide = Callable[[State], Mapping[str, Any] | None]

_MOST_DECISIONS = 10  # on states that others change meanwhile
_PAGE = 100  # games that one call recovers
_TEMPORARY = {429, 502, 503, 504}

log = logging.getLogger("lull")


class LullError(Exception):
    """Lull refused a call, and nothing was changed. `type` is the problem's, such as `wrong-status`."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.members = status, problem
        self.type = str(problem.get("type", "")).rpartition(":")[2]
        super().__init__(f"{status} {self.type}: {problem.get('detail', '')}")


class Unreachable(Exception):
    """Lull did not answer, or not with an answer: whether the call took effect is unknown."""


class GameLost(Exception):
    """This process must not go on with the game: `displaced`, `lease`, `drained`, `released`, `ended` or `gone`."""


class Game:
    """A game that this process owns. `state` and `version` are as the last command left them."""

    def __init__(self, lull: Lull, session: dict[str, Any]) -> None:
        self._lull = lull
        self._turn = asyncio.Lock()
        self.id = str(session["id"])
        self.lost: str | None = None
        self.session: dict[str, Any] = {}
        self.state: State = {}
        self._take(session)

    def __repr__(self) -> str:
        return f"<Game {self.session.get('externalKey') or self.id} version {self.version}>"

    @property
    def version(self) -> int:
        return int(self.session["version"])

    @property
    def status(self) -> str:
        return str(self.session["status"])

    @property
    def key(self) -> str | None:
        return self.session.get("externalKey")

    async def command(
        self,
        name: str,
        patch: Mapping[str, Any] | Decide | None = None,
        *,
        events: Sequence[str | Mapping[str, Any]] = (),
        command_id: str | None = None,
    ) -> bool:
        """Apply a JSON merge patch to the state. Returns False when the command had been applied before.

        `patch` may be a function of the state: it is called again when another process changed the game meanwhile.
        With an id of your own (the gateway's interaction), a command that is delivered twice is applied once. Commands
        of one game wait for one another. Raises GameLost, LullError, Unreachable.
        """
        async with self._turn:
            for _ in range(_MOST_DECISIONS):
                decided = patch(self.state) if callable(patch) else patch
                body = {"name": name, "patch": None if decided is None else dict(decided), "events": list(events)}
                try:
                    return await self._send(body, command_id)
                except LullError as error:
                    if error.type != "version-mismatch":
                        raise
                    await self._refresh()
                    if not callable(patch):
                        raise
            raise Unreachable(f"The game {self.id} was changed {_MOST_DECISIONS} times meanwhile.")

    async def error(self, name: str, error: str, *, command_id: str | None = None) -> bool:
        """Report that a command failed. State and version stay; it counts as activity."""
        async with self._turn:
            return await self._send({"name": name, "error": error}, command_id)

    async def touch(self) -> None:
        """Say that the game is in use, without a command: it does not expire."""
        self._check()
        await self._lull._call(f"/api/sessions/{self.id}/touch")

    async def pause(self) -> None:
        """Pause the game: it takes no commands, and nothing cleans it up."""
        await self._move("pause", "paused")

    async def resume(self) -> None:
        """Resume the paused game."""
        await self._move("resume", "active")

    async def end(self, reason: str | None = None) -> None:
        """End the game. It stays as history, and its key is free."""
        await self._move("end", "ended", {"reason": reason} if reason else None)
        self._lull._forget(self, "ended")

    async def release(self) -> None:
        """Give the game up: commands need no fence then, and no process recovers it."""
        async with self._turn:
            self._check()
            body = {"incarnation": self._lull.incarnation, "fence": self.session["fence"]}
            try:
                await self._lull._call(f"/api/sessions/{self.id}/release", body)
            except LullError as error:
                if error.type != "owner-displaced":
                    raise  # else an answer was lost, or another process has the game: it is not ours either way
            self._lull._forget(self, "released")

    async def restarted(self) -> None:
        """Say that the game's own task failed and starts again; too many restarts end the game.

        Not repeated: a repetition would count as another restart.
        """
        async with self._turn:
            self._check()
            body = {"incarnation": self._lull.incarnation, "restarted": True}
            answer = await self._lull._call(f"/api/sessions/{self.id}/claim", body, repeat=False)
            self._take(answer["session"])
            if self.status == "ended":
                self._lull._forget(self, "ended")
                raise GameLost(str(self.session["endReason"]))

    async def _send(self, body: dict[str, Any], command_id: str | None) -> bool:
        self._check()
        body |= {"commandId": command_id or str(uuid4()), "version": self.version, "fence": self.session["fence"]}
        try:
            answer = await self._lull._call(f"/api/sessions/{self.id}/commands", body)
        except LullError as error:
            if error.type == "owner-displaced":
                await self._lull._lose(self, "displaced")
                raise GameLost("displaced") from error
            if error.type == "command-id-reused" and command_id:
                await self._refresh()  # applied before, on an older state
                return False
            if error.status in (404, 410) or error.members.get("currentStatus") == "ended":
                reason = "gone" if error.status in (404, 410) else "ended"
                await self._lull._lose(self, reason)
                raise GameLost(reason) from error
            raise
        # A replay is an answer to this very call whose first answer was lost: another one would have another version.
        self.session["version"] = answer["version"]
        if body.get("patch") is not None:
            self.state = merge_patch(self.state, body["patch"])
        return True

    async def _move(self, verb: str, status: str, body: dict[str, Any] | None = None) -> None:
        async with self._turn:
            self._check()
            try:
                answer = await self._lull._call(f"/api/sessions/{self.id}/{verb}", body)
            except LullError as error:
                if error.type != "wrong-status" or error.members.get("currentStatus") != status:
                    raise
                await self._refresh()  # an answer was lost: it is so already
            else:
                self._take({**answer["session"], "state": self.state})

    async def _refresh(self) -> None:
        answer = await self._lull._call(f"/api/sessions/{self.id}", method="GET")
        if answer["session"]["fence"] != self.session["fence"]:
            await self._lull._lose(self, "displaced")
            raise GameLost("displaced")
        self._take(answer["session"])

    async def _finish(self) -> None:
        async with self._turn:  # commands that wait behind this one find that the process is draining
            self.lost = self.lost or "drained"

    def _take(self, session: dict[str, Any]) -> None:
        self.state = session.pop("state", self.state)
        self.session = session

    def _check(self) -> None:
        if self.lost:
            raise GameLost(self.lost)
        if self._lull._is_draining:
            raise GameLost("drained")


class Lull:
    """The games of one process. `instance` is its name: the same after each restart, another for each process."""

    def __init__(
        self,
        url: str,
        service_secret: str,
        instance: str,
        *,
        on_game: Callable[[Game], Awaitable[None]] | None = None,
        on_lost: Callable[[Game, str], Awaitable[None]] | None = None,
        lease_seconds: int = 30,
        retry_seconds: float = 20,
        drain_seconds: float = 10,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.instance, self.lease_seconds = instance, lease_seconds
        self.games: dict[str, Game] = {}
        self.incarnation = 0
        self._on_game, self._on_lost = on_game, on_lost
        self._retry_seconds, self._drain_seconds = retry_seconds, drain_seconds
        self._lease_ends = 0.0
        self._is_draining = False
        self._heart: asyncio.Task[None] | None = None
        headers = {"Authorization": f"Bearer {service_secret}"}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=10, transport=transport)

    async def __aenter__(self) -> Self:
        """Open the instance, recover its games, and keep its lease."""
        try:
            await self._begin()
        except BaseException:
            await self._http.aclose()
            raise
        self._heart = asyncio.create_task(self._beat(), name="lull heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def start(
        self, key: str, *, guild_id: str, mode: str, state: State | None = None, title: str | None = None
    ) -> Game:
        """Create an active game and own it. Raises LullError `external-key-taken` while a game with this key is open.

        A game of this key that was created and never owned (the process died in between) is taken over.
        """
        body = {"kind": "game", "status": "active", "externalKey": key, "guildId": guild_id, "mode": mode}
        body |= {"state": state or {}, "title": title}  # type: ignore[dict-item]
        try:
            answer = await self._call("/api/sessions", body, key=str(uuid4()))
        except LullError as error:
            if error.type != "external-key-taken":
                raise
            found = await self.find(key)
            if found is None or found.get("instance") or found["fence"]:
                raise
            return await self.claim(found["id"])
        return await self.claim(answer["session"]["id"])

    async def claim(self, session_id: str, *, force: bool = False) -> Game:
        """Own a game; `force` takes it from another process whose lease runs."""
        body = {"incarnation": self.incarnation, "force": force}
        answer = await self._call(f"/api/sessions/{session_id}/claim", body)
        return self._remember(answer["session"])

    async def find(self, key: str) -> dict[str, Any] | None:
        """The open game with this key, without its state; None when there is none."""
        found = await self._call("/api/sessions", method="GET", query={"kind": "game", "externalKey": key, "limit": 5})
        return next((each for each in found["sessions"] if each["status"] != "ended"), None)

    async def count(self, **where: str) -> dict[str, int]:
        """How many games there are by status: of a guild (`guildId="…"`), a mode, or all."""
        found = await self._call("/api/sessions/count", method="GET", query={"kind": "game", **where})
        counts: dict[str, int] = found["byStatus"]
        return counts

    async def drain(self) -> None:
        """Stop: let commands in flight finish, and close the instance, so that the next start recovers its games."""
        self._is_draining = True
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        finishing = [asyncio.create_task(game._finish()) for game in self.games.values()]
        if finishing:
            _, late = await asyncio.wait(finishing, timeout=self._drain_seconds)
            for task in late:
                task.cancel()
        try:
            await self._call(f"/api/instances/{self.instance}/close", {"incarnation": self.incarnation})
        except (LullError, Unreachable) as error:
            log.warning("The instance was not closed, its lease runs out by itself: %s", error)
        self.games.clear()
        await self._http.aclose()

    async def _begin(self) -> None:
        """Open the instance anew and recover. Games of before are stopped first: the lease was theirs."""
        for game in list(self.games.values()):
            await self._lose(game, "lease")
        while True:
            sent = time.monotonic()
            body = {"leaseSeconds": self.lease_seconds}
            answer = await self._call(f"/api/instances/{self.instance}/open", body)
            self.incarnation, self._lease_ends = answer["incarnation"], sent + self.lease_seconds
            if await self._recover():
                return

    async def _recover(self) -> bool:
        """Recover until nothing is left. False: the lease is over, or an answer with games was lost. Open anew then."""
        wait = 0.2
        while not self._is_draining:
            try:
                body = {"incarnation": self.incarnation, "limit": _PAGE}
                path = f"/api/instances/{self.instance}/recover"
                answer = await self._call(path, body, repeat=False)
            except Unreachable:
                return False
            except LullError as error:
                if error.type == "instance-closed" or error.status in _TEMPORARY:
                    return False
                raise
            for session in answer["sessions"]:
                game = self._remember(session)
                if self._on_game is not None:
                    await _told(self._on_game(game))
            if not answer["more"]:
                break
            if not answer["sessions"]:  # another process holds them just now
                await asyncio.sleep(wait * (0.5 + random.random()))  # noqa: S311
                if wait > 2:
                    break  # the next renewal says whether there are orphans still
                wait *= 2
        return True

    async def _beat(self) -> None:
        """Renew the lease each third of it, for ever. A lease that ran out is over: begin anew."""
        while True:
            await asyncio.sleep(self.lease_seconds / 3 * random.uniform(0.9, 1))  # noqa: S311
            try:
                if not await self._renew():
                    await self._begin()
            except (LullError, Unreachable) as error:
                log.warning("The lease could not be renewed: %s", error)
                if time.monotonic() >= self._lease_ends:
                    for game in list(self.games.values()):
                        await self._lose(game, "lease")

    async def _renew(self) -> bool:
        sent = time.monotonic()
        try:
            path = f"/api/instances/{self.instance}/renew"
            answer = await self._call(path, {"incarnation": self.incarnation}, seconds=self.lease_seconds / 3)
        except LullError as error:
            if error.type == "instance-closed":
                return False
            raise
        self._lease_ends = sent + self.lease_seconds
        for session_id in answer["displaced"]:
            if session_id in self.games:
                await self._lose(self.games[session_id], "displaced")
        return not answer["orphans"] or await self._recover()

    def _remember(self, session: dict[str, Any]) -> Game:
        game = self.games.get(str(session["id"]))
        if game is None:
            game = self.games[str(session["id"])] = Game(self, session)
        else:
            game._take(session)
        return game

    def _forget(self, game: Game, reason: str) -> None:
        game.lost = game.lost or reason
        if self.games.get(game.id) is game:
            del self.games[game.id]

    async def _lose(self, game: Game, reason: str) -> None:
        if game.lost is None:
            self._forget(game, reason)
            if self._on_lost is not None:
                await _told(self._on_lost(game, reason))

    async def _call(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        method: str = "POST",
        query: dict[str, Any] | None = None,
        key: str | None = None,
        repeat: bool = True,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Call Lull, again while it gives no answer and `seconds` are not over. Raises LullError, Unreachable."""
        deadline = time.monotonic() + (self._retry_seconds if seconds is None else seconds)
        headers = {"Idempotency-Key": key} if key else {}
        wait = 0.1
        while True:
            failure: LullError | Unreachable
            try:
                answer = await self._http.request(method, path, json=body, params=query, headers=headers)
                if answer.is_success:
                    content: dict[str, Any] = answer.json() if answer.content else {}
                    return content
                failure = LullError(answer.status_code, _problem_of(answer))
                if answer.status_code not in _TEMPORARY:
                    raise failure
                wait = max(wait, _seconds_to_wait(answer))
            except (httpx.TransportError, ValueError) as error:
                failure = Unreachable(f"{method} {path}: {type(error).__name__} {error}")
            pause = wait * (0.5 + random.random())  # noqa: S311
            if not repeat or time.monotonic() + pause >= deadline:
                raise failure
            await asyncio.sleep(pause)
            wait = min(wait * 2, 5)


async def _told(callback: Awaitable[None]) -> None:
    """Await a callback. What it raises is logged: the other games and the lease go on."""
    try:
        await callback
    except Exception:
        log.exception("A callback failed")


def merge_patch(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396): null removes a name, an object is merged, any other value replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def _problem_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _seconds_to_wait(answer: httpx.Response) -> float:
    after = answer.headers.get("retry-after", "")
    return float(after) if after.isdecimal() else 0.0
