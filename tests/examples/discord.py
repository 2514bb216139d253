"""Discord for the tests: a gateway of the same protocol, and the REST calls that a bot needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

TOKEN = "the-token-of-the-bot"


class _Rest(BaseHTTPRequestHandler):
    server: Discord

    def do_GET(self) -> None:
        self._answer(200, {"url": self.server.gateway_url})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _, _, interaction, token, _ = self.path.split("/")
        waiting = self.server.waiting.get(interaction)
        if token != f"token-{interaction}" or waiting is None or waiting.done():
            self._answer(400, {"code": 40060, "message": "Interaction has already been acknowledged."})
            return
        self._answer(204, None)
        waiting.set_result(body["data"]["content"])

    def _answer(self, status: int, content: Any) -> None:
        text = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Discord(ThreadingHTTPServer):
    """Bots connect by `api`; `interact` is a person's slash command, sent to the bot that connected last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Rest)
        self.api = f"http://127.0.0.1:{self.server_address[1]}"
        self.gateway_url = ""
        self.waiting: dict[str, Future[str]] = {}
        self.seen: list[str] = []
        self._sent: list[dict[str, Any]] = []
        self._socket: ServerConnection | None = None
        self._changed = threading.Condition()
        self._numbers = count(1000)

    def accept(self, socket: ServerConnection) -> None:
        """Speak with one bot until it goes: hello, identify or resume, heartbeats."""
        _send(socket, 10, {"heartbeat_interval": 500})
        try:
            for text in socket:
                message = json.loads(text)
                if message["op"] == 1:
                    _send(socket, 11, None)
                elif message["op"] == 2 and message["d"]["token"] == TOKEN:
                    ready = {"session_id": "s", "resume_gateway_url": self.gateway_url}
                    self._join(socket, "identify", {"op": 0, "t": "READY", "s": 1, "d": ready})
                elif message["op"] == 6:
                    missed = [each for each in self._sent if each["s"] > message["d"]["seq"]]
                    self._join(socket, "resume", *missed, {"op": 0, "t": "RESUMED", "s": len(self._sent) + 1, "d": {}})
        except ConnectionClosed:
            pass

    def _join(self, socket: ServerConnection, how: str, *messages: dict[str, Any]) -> None:
        for message in messages:
            socket.send(json.dumps(message))
        with self._changed:
            self._socket = socket
            self.seen.append(how)
            self._changed.notify_all()

    def await_bots(self, number: int) -> None:
        """Return when bots have identified themselves, or resumed, this often."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= number, timeout=30), self.seen

    def interact(self, name: str, channel: str = "channel-1", **options: str) -> Future[str]:
        """Send a slash command; the future is what the bot answers."""
        interaction = str(next(self._numbers))
        self.waiting[interaction] = Future()
        given = [{"name": each, "value": value} for each, value in options.items()]
        data = {"id": interaction, "token": f"token-{interaction}", "type": 2, "guild_id": "guild-1"}
        data |= {"channel_id": channel, "data": {"name": name, "options": given}}
        self._sent.append({"op": 0, "t": "INTERACTION_CREATE", "s": len(self._sent) + 2, "d": data})
        self.deliver(-1)
        return self.waiting[interaction]

    def deliver(self, place: int) -> None:
        """Send an interaction, again maybe. The bot may be gone."""
        assert self._socket is not None
        with suppress(ConnectionClosed):
            self._socket.send(json.dumps(self._sent[place]))

    def break_connection(self) -> None:
        """Ask the bot to connect again and resume."""
        assert self._socket is not None
        _send(self._socket, 7, None)


def _send(socket: ServerConnection, op: int, data: Any) -> None:
    socket.send(json.dumps({"op": op, "d": data}))


@contextmanager
def discord() -> Iterator[Discord]:
    """Run Discord until the block is left."""
    rest = Discord()
    gateway: Server = serve(rest.accept, "127.0.0.1", 0)
    rest.gateway_url = f"ws://127.0.0.1:{gateway.socket.getsockname()[1]}"
    threads = [threading.Thread(target=each.serve_forever, daemon=True) for each in (rest, gateway)]
    for thread in threads:
        thread.start()
    try:
        yield rest
    finally:
        gateway.shutdown()
        rest.shutdown()
        rest.server_close()
        for thread in threads:
            thread.join(10)
