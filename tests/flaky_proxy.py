"""A real HTTP proxy in front of a Supabase that passes requests on, and now and then loses an answer."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


class _Forwarding(BaseHTTPRequestHandler):
    server: "FlakyProxy"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = self.server.upstream.request(self.command, self.path, headers=headers, content=body)
        name = self.path.rsplit("/", 1)[-1]
        self.server.seen[name] += 1
        if self.server.to_lose[name] > 0:
            self.server.to_lose[name] -= 1
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["content-type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_DELETE = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class FlakyProxy(ThreadingHTTPServer):
    """Counts in `seen` what it passed on, and loses as many answers per function as `to_lose` says."""

    def __init__(self, upstream: httpx.Client) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.upstream = upstream
        self.seen: Counter[str] = Counter()
        self.to_lose: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def flaky_proxy(upstream: str) -> Iterator[FlakyProxy]:
    """Run such a proxy in front of `upstream` while the block lasts."""
    with httpx.Client(base_url=upstream, trust_env=False) as client:
        proxy = FlakyProxy(client)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.server_close()
