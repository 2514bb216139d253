"""A small HTTP server that misbehaves as a proxy, a gateway or a dying PostgREST does."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"
REFUSED = b'{"statusCode": "%d", "error": "Whatever", "message": "No, because"}'


class _Misbehaving(BaseHTTPRequestHandler):
    server: "BrokenServer"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append(self.path)
        self.server.headers.append(self.headers)
        self.server.behave(self)

    do_GET = do_DELETE = do_CONNECT = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class BrokenServer(ThreadingHTTPServer):
    """Answers every request as `behaviour` says, and remembers the paths asked for, and their headers."""

    def __init__(self, behaviour: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Misbehaving)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.behaviour = behaviour
        self.requests: list[str] = []
        self.headers: list[Message] = []
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def behave(self, request: BaseHTTPRequestHandler) -> None:
        if self.behaviour == "hangs":
            self.stopping.wait()
        elif self.behaviour == "hangs up":
            request.connection.shutdown(socket.SHUT_RDWR)
        else:
            status, content_type, body = {
                "502 with HTML": (502, "text/html", HTML),
                "200 with HTML": (200, "text/html", HTML),
                "200 with a list": (200, "application/json", b"[]"),
                "200 with a list of numbers": (200, "application/json", b"[1]"),
                "200 with nothing": (200, "application/json", b""),
                "404 with HTML": (404, "text/html", HTML),
                "redirects": (307, "text/html", b""),
                "refuses with 400": (400, "application/json", REFUSED % 400),
                "refuses with 403": (400, "application/json", REFUSED % 403),
                "refuses with 429": (429, "application/json", REFUSED % 429),
                "refuses with 503": (503, "application/json", REFUSED % 503),
            }[self.behaviour]
            request.send_response(status)
            request.send_header("Content-Type", content_type)
            request.send_header("Content-Length", str(len(body)))
            if status == 307:
                request.send_header("Location", "/elsewhere")
            request.end_headers()
            request.wfile.write(body)


@contextmanager
def broken_server(behaviour: str, tls: ssl.SSLContext | None = None) -> Iterator[BrokenServer]:
    """Run such a server while the block lasts."""
    server = BrokenServer(behaviour, tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()


def refusing_url() -> str:
    """A URL where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"
