"""A receiver of webhooks: a real HTTP server that verifies signatures with the library and answers as told."""

import socket
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the one of the specification's examples


@dataclass(frozen=True)
class Received:
    """One message as it came in."""

    id: str
    session: str
    event: int
    body: bytes
    headers: dict[str, str]
    path: str


Behaviour = Callable[[Received], int | str]


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        data = Webhook(SECRET).verify(body, headers)["data"]
        received = Received(headers["webhook-id"], data["sessionId"], data["id"], body, headers, self.path)
        receiver = self.server.receiver
        receiver.messages.append(received)
        answer = receiver.behave(received)
        if answer == "hangs":
            receiver.stopping.wait(20)
            self.close_connection = True
        elif answer == "hangs up":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif answer == "drips":
            self._drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 1000)
        elif answer == "drips its body":
            self._drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", whole=39)
        else:
            if 200 <= int(answer) <= 299:
                receiver.accepted.append(received)
            self.send_response(int(answer))
            if 300 <= int(answer) <= 399:
                self.send_header("Location", f"{receiver.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _drip(self, text: bytes, whole: int = 0) -> None:
        """Send a byte ten times a second: no single read ever takes long."""
        self.wfile.write(text[:whole])
        for byte in text[whole:] or b"z" * 1000:
            with suppress(OSError):
                self.wfile.write(bytes([byte]))
            if self.server.receiver.stopping.wait(0.1):
                break
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    receiver: "Receiver"
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """Remember what broke in here, such as a signature; that the sender went away is no fault."""
        if not isinstance(sys.exception(), OSError):
            self.receiver.faults += 1


@dataclass
class Receiver:
    """What came in, and what the next message is answered: a status, or a way to misbehave."""

    behave: Behaviour = lambda _message: 204
    port: int = 0
    scheme: str = "http"
    messages: list[Received] = field(default_factory=list)
    accepted: list[Received] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    faults: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hooks"

    def answers(self, answer: int | str) -> None:
        self.behave = lambda _message: answer

    def order(self) -> dict[str, list[int]]:
        """The events of each session in the order in which they were first accepted."""
        order: dict[str, list[int]] = {}
        for message in self.accepted:
            events = order.setdefault(message.session, [])
            if message.event not in events:
                events.append(message.event)
        return order

    def duplicates(self) -> Counter[str]:
        """How often each message came, by its id."""
        return Counter(message.id for message in self.messages)

    @contextmanager
    def listening(self, tls: ssl.SSLContext | None = None) -> Iterator["Receiver"]:
        """Listen while the block lasts; again on the same port when it did before."""
        server = _Server(("127.0.0.1", self.port), _Handler)
        server.receiver = self
        self.port = server.server_address[1]
        if tls is not None:
            self.scheme = "https"
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.stopping.clear()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            server.shutdown()
            thread.join()
            server.server_close()
