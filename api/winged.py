"""An API whose wings are imported when a request first needs them: a cold start pays for one of them."""

import re
from collections.abc import Callable
from threading import Lock
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send


class WingedAPI(FastAPI):
    """A FastAPI that has all of its routes as soon as anybody could tell the difference."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self._closed: list[tuple[re.Pattern[str], Callable[[], APIRouter]]] = []
        self._lock = Lock()
        self.add_middleware(_OpenWings)

    def add_wing(self, addresses: str, routes: Callable[[], APIRouter]) -> None:
        """Add routes, to be made when one is asked for; the regular expression says how they begin."""
        self._closed.append((re.compile(addresses), routes))

    def open_wings(self, path: str | None = None) -> None:
        """Include the routes that this path may be one of; without a path, all there are."""
        if not self._closed:
            return
        with self._lock:
            wanted = [wing for wing in self._closed if path is None or wing[0].match(path)]
            for wing in wanted:
                self.include_router(wing[1]())
                self._closed.remove(wing)

    def openapi(self) -> dict[str, Any]:
        """The document of all wings."""
        self.open_wings()
        return super().openapi()


class _OpenWings:
    """ASGI middleware, inside of whatever answers faults: importing a wing may fail."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"].open_wings(scope["path"])
        await self._app(scope, receive, send)
