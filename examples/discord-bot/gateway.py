"""Discord's gateway: a connection that brings interactions, and is resumed when it breaks.

https://discord.com/developers/docs/events/gateway. Needs websockets and httpx.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import websockets

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 0, 1, 2, 6, 7, 9, 10, 11
ANSWER = 4  # the type of a callback: a message in the channel

Interaction = dict[str, Any]
log = logging.getLogger("gateway")


class Gateway:
    """Calls `handle` with each slash command; commands are handled beside one another."""

    def __init__(self, api: str, token: str, handle: Callable[[Interaction], Awaitable[str]]) -> None:
        self._handle, self._token = handle, token
        self._rest = httpx.AsyncClient(base_url=api, headers={"Authorization": f"Bot {token}"}, timeout=10)
        self._session: dict[str, Any] | None = None
        self._sequence: int | None = None
        self._is_acknowledged = True
        self._handlers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Stay connected until cancelled; then let the interactions in flight finish."""
        try:
            while True:
                try:
                    await self._connect()
                except (OSError, httpx.HTTPError, websockets.WebSocketException) as error:
                    log.warning("The gateway was lost, and is connected again: %s", error)
                await asyncio.sleep(random.uniform(0.2, 1))  # noqa: S311
        finally:
            if self._handlers:
                await asyncio.wait(self._handlers, timeout=10)
            await self._rest.aclose()

    async def _connect(self) -> None:
        if self._session:
            url = self._session["resume_gateway_url"]
        else:
            url = (await self._rest.get("/gateway/bot")).raise_for_status().json()["url"]
        async with websockets.connect(f"{url}?v=10&encoding=json") as socket:
            hello = json.loads(await socket.recv())
            beat = asyncio.create_task(self._beat(socket, hello["d"]["heartbeat_interval"] / 1000))
            try:
                await self._introduce(socket)
                async for text in socket:
                    if not await self._take(socket, json.loads(text)):
                        return
            finally:
                beat.cancel()

    async def _introduce(self, socket: websockets.ClientConnection) -> None:
        if self._session:
            known = {"token": self._token, "session_id": self._session["session_id"], "seq": self._sequence}
            await self._send(socket, RESUME, known)
        else:
            properties = {"os": "linux", "browser": "lull-example", "device": "lull-example"}
            await self._send(socket, IDENTIFY, {"token": self._token, "intents": 0, "properties": properties})

    async def _take(self, socket: websockets.ClientConnection, message: dict[str, Any]) -> bool:
        """Take one message. False: connect again."""
        match message["op"]:
            case 0:
                self._sequence = message["s"]
                if message["t"] == "READY":
                    self._session = message["d"]
                elif message["t"] == "INTERACTION_CREATE":
                    task = asyncio.create_task(self._answer(message["d"]))
                    self._handlers.add(task)
                    task.add_done_callback(self._handlers.discard)
            case 1:
                await self._send(socket, HEARTBEAT, self._sequence)
            case 7:
                return False
            case 9:
                self._session = None
                return False
            case 11:
                self._is_acknowledged = True
        return True

    async def _answer(self, interaction: Interaction) -> None:
        text = await self._handle(interaction)
        path = f"/interactions/{interaction['id']}/{interaction['token']}/callback"
        try:
            await self._rest.post(path, json={"type": ANSWER, "data": {"content": text}})
        except httpx.HTTPError as error:
            log.warning("An answer was not delivered: %s", error)

    async def _beat(self, socket: websockets.ClientConnection, seconds: float) -> None:
        """A heartbeat that was not acknowledged before the next one means that the connection is dead."""
        self._is_acknowledged = True
        await asyncio.sleep(seconds * random.random())  # noqa: S311
        while self._is_acknowledged:
            self._is_acknowledged = False
            await self._send(socket, HEARTBEAT, self._sequence)
            await asyncio.sleep(seconds)
        await socket.close(4000)

    async def _send(self, socket: websockets.ClientConnection, op: int, data: Any) -> None:
        await socket.send(json.dumps({"op": op, "d": data}))
