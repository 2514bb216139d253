"""FastAPI subclass that imports a feature's router on the first request whose path matches it."""

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from threading import Lock
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True)
class Feature:
    """A feature: its name, the exact paths of its routes (`{…}` is one segment), the module that has its `router`."""

    name: str
    paths: tuple[str, ...]
    module: str

    def matches(self, path: str) -> bool:
        """Whether one of the feature's routes has this path, from its first to its last character."""
        return self._pattern.fullmatch(path) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(re.sub(r"\{\w+\}", "[^/]+", template) for template in self.paths))


class FeatureAPI(FastAPI):
    """FastAPI subclass that imports a feature's router on the first request whose path matches it.

    `importing` is a context manager around such an import (api/cold_start.py).
    """

    def __init__(
        self,
        features: Iterable[Feature],
        importing: type[AbstractContextManager[None]] | Any = nullcontext,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._closed = list(features)
        self._importing = importing
        self._lock = Lock()
        self.add_middleware(_OpenFeatures)

    def open_features(self, path: str | None = None) -> None:
        """Add the routes of the features that have this path; without a path, those of all features.

        The routes are added, their router is not included: including it would analyse each route once more at the
        first request, and look each address up twice.
        """
        if not any(path is None or feature.matches(path) for feature in self._closed):
            return
        with self._lock, self._importing():
            for feature in [each for each in self._closed if path is None or each.matches(path)]:
                self.router.routes.extend(import_module(feature.module).router.routes)
                self._closed.remove(feature)
                self.openapi_schema = None

    def openapi(self) -> dict[str, Any]:
        """The document of all features."""
        self.open_features()
        return super().openapi()


class _OpenFeatures:
    """ASGI middleware that opens features. It is inside the error middleware, because an import may fail."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"].open_features(scope["path"])
        await self._app(scope, receive, send)
