"""One JSON line per request and per event on stdout, and the same requests as numbers.

Never a header, a body, a query or a secret.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_error, problem_response

log = logging.getLogger("lull.http")

ACTIVATION = ("POST", "/api/sessions/{id}/activate")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_MOST_WAITING = 100
_AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str).encode
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def log_as_json(level: str) -> None:
    """Send what the loggers named `lull…` say to stdout, once however often this is called."""
    logger = logging.getLogger("lull")
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers = [_Stdout()]


class RequestNumbers:
    """How long requests took, by route template and status, and which activations failed (seed 003).

    Counted in this process since it started: on a serverless platform every instance counts for itself, and
    what it counted goes with it. The log lines, which the platform keeps, have the same numbers for good.
    """

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self._waiting: list[tuple[str, str, int, float]] = []
        self._counters: _Counters | None = None
        self._lock = Lock()

    @property
    def counters(self) -> "_Counters":
        """Prometheus' counters, with every request that was counted; made when they are first asked for."""
        with self._lock:
            if self._counters is None:
                self._counters = _Counters()
            while self._waiting:
                self._counters.count(*self._waiting.pop())
            return self._counters

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request; what a stranger can make up is counted under one name."""
        self._waiting.append((method if method in _METHODS else "other", route or "none", status, seconds))
        if len(self._waiting) > _MOST_WAITING:
            _ = self.counters


class _Counters:
    def __init__(self) -> None:
        # Imported here: the first answers of a cold start come without.
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self.durations = Histogram(
            "lull_http_request_duration_seconds",
            "Response times by route template and status, in this process.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.activation_errors = Counter(
            "lull_activation_errors",
            "Activations that were answered with an error, in this process.",
            ["status"],
            registry=self.registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        self.durations.labels(method, route, str(status)).observe(seconds)
        if (method, route) == ACTIVATION and status >= 400:
            self.activation_errors.labels(str(status)).inc()


class RequestLog:
    """ASGI middleware: one line per request, and the last resort for a fault that nobody foresaw."""

    def __init__(self, app: ASGIApp, numbers: RequestNumbers) -> None:
        self.app = app
        self.numbers = numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; log its method, route template, status and milliseconds."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            log.exception("unforeseen fault")
            if status:
                raise
            await problem_response(internal_error())(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", None)  # a path could hold ids, its template can not
            seconds = time.monotonic() - started
            self.numbers.count(scope["method"], route, status, seconds)
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.info("request", extra={"fields": fields})


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _AS_JSON(line)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what sys.stdout is now, not to what it was when the handler was made."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_JsonLine())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout
