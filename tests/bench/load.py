"""Requests over kept-open connections, one at a time on each: `python -m tests.bench.load URL PATH BODY SECONDS`.

PATH and BODY may have {id}, for which each request takes a new line of the input. Says what it measured as JSON. It reads
no more of an answer than it must: what it costs is taken from what it measures.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

CONNECTIONS = 16
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Client(asyncio.Protocol):
    """A connection: asks, waits for the answer, asks again."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], failures: list[bytes]) -> None:
        self._requests, self._latencies, self._failures = requests, latencies, failures
        self._answer = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _is_whole(self._answer):
            return
        self._latencies.append(time.perf_counter() - self._asked)
        if not self._answer.startswith(b"HTTP/1.1 2"):
            self._failures.append(self._answer)
        self._answer = b""
        self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._asked = time.perf_counter()
        self._transport.write(request)


def _is_whole(answer: bytes) -> bool:
    head, blank, body = answer.partition(b"\r\n\r\n")
    if not blank:
        return False
    length = _LENGTH.search(head)
    return len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")


async def _load(url: str, path: str, body: str, ids: list[str], seconds: float) -> dict[str, float | str]:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 0
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {os.environ['BEARER']}\r\n"
        "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    deadline = time.perf_counter() + seconds

    def requests() -> Iterator[bytes]:
        for session in ids:
            if time.perf_counter() > deadline:
                return
            content = body.replace("{id}", session)
            yield (head.replace("{id}", session).replace("{length}", str(len(content))) + content).encode()
        raise RuntimeError("there were too few ids")

    latencies: list[float] = []
    failures: list[bytes] = []
    shared, loop, began = requests(), asyncio.get_running_loop(), time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: _Client(shared, latencies, failures), host, port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(client.ended for client in clients))
    took = time.perf_counter() - began
    ordered = sorted(latencies)
    return {
        "requests_per_second": len(ordered) / took,
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(0.99 * len(ordered))],
        "failed": len(failures),
        "first_failure": failures[0].decode(errors="replace") if failures else "",
    }


if __name__ == "__main__":
    url, path, body, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(_load(url, path, body, sys.stdin.read().split(), float(seconds)))))
