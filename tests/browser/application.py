"""An application of another origin: a page that uses lull.js, and the messages that were delivered to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

PAGE = Path(__file__).with_name("app.html")


class Application:
    """The application's server. `failures` are statuses of the next answers; 0 is an answer that is lost."""

    def __init__(self) -> None:
        self.delivered: dict[str, str] = {}
        self.requests = 0
        self.failures: list[int] = []
        self.origin = ""

    @property
    def texts(self) -> list[str]:
        """The messages that are stored, in order."""
        return list(self.delivered.values())

    def forget(self) -> None:
        """Begin anew, for the next test."""
        self.delivered.clear()
        self.failures.clear()
        self.requests = 0

    def store(self, body: bytes) -> int:
        """Store a message once for each key; answer the status."""
        self.requests += 1
        status = self.failures.pop(0) if self.failures else 201
        if status in (0, 201):
            message = json.loads(body)
            self.delivered.setdefault(message["key"], message["text"])
        return status


@contextmanager
def serving() -> Iterator[Application]:
    """Serve the application on a port of its own."""
    application = Application()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b"<!doctype html>" if self.path == "/blank" else PAGE.read_bytes()
            self._answer(200, page, "text/html; charset=utf-8")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if status := application.store(body):
                self._answer(status, b"{}", "application/json")
            else:
                self.close_connection = True  # stored, and the answer is lost

        def _answer(self, status: int, content: bytes, media: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    application.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield application
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
