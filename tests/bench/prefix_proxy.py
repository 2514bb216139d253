"""PostgREST under /rest/v1, where a hosted project has it: `python -m tests.bench.prefix_proxy <port> <PostgREST's port>`.

The gateway of the local Supabase does this too, and signed URLs and Storage; it would be most of what the benchmarks
measure. This one only takes the prefix off each request's first line.
"""

import asyncio
import re
import sys

from infra.local.ports import HOST

# A client sends a request only after the answer to the one before, so that one begins where what was sent begins.
_PREFIX = re.compile(rb"\A([A-Z]+ )/rest/v1/")


class _Answers(asyncio.Protocol):
    """PostgREST's side of a connection."""

    def __init__(self, caller: asyncio.Transport) -> None:
        self._caller = caller

    def data_received(self, data: bytes) -> None:
        self._caller.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._caller.close()


class _Caller(asyncio.Protocol):
    """A client's side of a connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._waiting = b""
        self._upstream: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        upstream, _ = await loop.create_connection(lambda: _Answers(self._transport), HOST, self._port)
        upstream.write(self._waiting)
        self._upstream = upstream

    def data_received(self, data: bytes) -> None:
        data = _PREFIX.sub(rb"\1/", data, count=1)
        if self._upstream is None:
            self._waiting += data
        else:
            self._upstream.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._connecting.cancel()
        if self._upstream is not None:
            self._upstream.close()


async def _serve(port: int, postgrest_port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Caller(postgrest_port), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
