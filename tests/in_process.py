"""An ordinary httpx client whose requests an ASGI application in this process answers, from any thread."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.recorded import record


class _Bridge(httpx.BaseTransport):
    def __init__(self, app: Any, portal: BlockingPortal) -> None:
        self._asgi = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return record(self._portal.call(self._answer, request))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        again = httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        response = await self._asgi.handle_async_request(again)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


@contextmanager
def client_of(app: Any) -> Iterator[httpx.Client]:
    """Give a client of the application; an exception that escapes it becomes a 500, as in production."""
    with (
        start_blocking_portal() as portal,
        httpx.Client(transport=_Bridge(app, portal), base_url="http://lull.test", timeout=60) as client,
    ):
        yield client
