"""A real HTTP proxy in front of a Supabase that passes requests on, but loses, delays or refuses some."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

REFUSAL = {"statusCode": "400", "error": "InvalidKey", "message": "Invalid key: poison"}


class _Forwarding(BaseHTTPRequestHandler):
    server: "FlakyProxy"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append(f"{self.command} {self.path}")
        name = self.path.rsplit("/", 1)[-1]
        if name in self.server.to_hang:
            self.server.stopping.wait()
            self.close_connection = True
            return
        if self.path.startswith("/storage/"):
            time.sleep(self.server.storage_delay)
            if self.server.poison and self.server.poison in body:
                self.answer(400, "application/json", json.dumps(REFUSAL).encode())
                return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = self.server.upstream.request(self.command, self.path, headers=headers, content=body)
        self.server.seen[name] += 1
        if self.server.to_lose[name] > 0:
            self.server.to_lose[name] -= 1
            self.close_connection = True
            return
        self.answer(answer.status_code, answer.headers["content-type"], answer.content)

    do_GET = do_DELETE = do_POST  # noqa: N815

    def answer(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class FlakyProxy(ThreadingHTTPServer):
    """Counts in `seen` what it passed on, and loses as many answers per function as `to_lose` says.

    Never answers a function in `to_hang`; Storage takes `storage_delay` seconds longer, and refuses a body
    that has `poison` in it.
    """

    def __init__(self, upstream: httpx.Client) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.upstream = upstream
        self.requests: list[str] = []
        self.seen: Counter[str] = Counter()
        self.to_lose: Counter[str] = Counter()
        self.to_hang: set[str] = set()
        self.storage_delay = 0.0
        self.poison = b""
        self.stopping = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def flaky_proxy(upstream: str) -> Iterator[FlakyProxy]:
    """Run such a proxy in front of `upstream` while the block lasts."""
    with httpx.Client(base_url=upstream, trust_env=False, timeout=60) as client:
        proxy = FlakyProxy(client)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.stopping.set()
            proxy.shutdown()
            thread.join()
            proxy.server_close()
