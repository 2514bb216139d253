"""An API whose wings are imported when a request first needs them: a cold start pays for one of them."""

import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic.alias_generators import to_camel
from starlette.types import ASGIApp, Receive, Scope, Send


def wing_router(**how: Any) -> APIRouter:
    """A router for the routes of a wing; they are called in the document as their functions, in camelCase."""
    return APIRouter(generate_unique_id_function=lambda route: to_camel(route.name), **how)


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
        """Add the routes that this path may be one of; without a path, all there are.

        They are put where FastAPI has its own. To include their router would analyse each route once more, at
        the first request, and find it twice at every request.
        """
        if not any(path is None or addresses.match(path) for addresses, _ in self._closed):
            return
        with self._lock, _imports():
            for wing in [wing for wing in self._closed if path is None or wing[0].match(path)]:
                self.router.routes.extend(wing[1]().routes)
                self._closed = [other for other in self._closed if other is not wing]
                self.openapi_schema = None

    def openapi(self) -> dict[str, Any]:
        """The document of all wings."""
        self.open_wings()
        return super().openapi()


@contextmanager
def _imports() -> Iterator[None]:
    """Import without a search for garbage, which imports do not make; what is there is out of later ones.

    FastAPI asks of each type whether it is one of pydantic 1, and imports that to see. There is none.
    """
    absent = {"pydantic.v1"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: importing it fails
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        if collects:
            gc.freeze()
            gc.enable()


class _OpenWings:
    """ASGI middleware, inside of whatever answers faults: importing a wing may fail."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"].open_wings(scope["path"])
        await self._app(scope, receive, send)
