"""A cron monitor and a chat's webhook in one: an HTTP server that keeps what it is sent, and answers as it is told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Monitor:
    """What was received so far. `status` is the answer to everything."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self._received: list[tuple[str, str]] = []
        self._lock = Lock()

    def keep(self, path: str, body: str) -> None:
        with self._lock:
            self._received.append((path, body))

    def pings(self) -> list[tuple[str, str | None, str]]:
        """(`/start`, `` or `/fail`; the run's id; the body) of each ping."""
        with self._lock:
            got = [(urlsplit(path), body) for path, body in self._received if path.startswith("/ping")]
        return [
            (address.path.removeprefix("/ping"), parse_qs(address.query).get("rid", [None])[0], body)
            for address, body in got
        ]

    def messages(self) -> list[dict[str, Any]]:
        """What the chat got."""
        with self._lock:
            return [json.loads(body) for path, body in self._received if path.startswith("/chat")]

    def forget(self) -> None:
        with self._lock:
            self._received.clear()


@contextmanager
def monitoring() -> Iterator[Monitor]:
    """A monitor on a port of its own: `url` + `/ping` and `/chat`."""
    monitor = Monitor()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            monitor.keep(self.path, body.decode())
            self.send_response(monitor.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    monitor.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield monitor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
