"""JSON log lines on stdout for requests and events, and counters of the same requests.

No header, body, query or secret is ever logged.
"""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TextIO

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import telemetry
from api.errors import internal_error, problem_response
from api.request_context import RequestContext, current_request, enter_request, leave_request

log = logging.getLogger("lull.http")

ACTIVATION = ("POST", "/api/sessions/{id}/activate")
CLEANUP = ("GET", "/api/admin/cleanup-sessions")
BROKEN_OFF = 499  # logged and counted for a request whose body broke off: there is no answer to send
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_MOST_WAITING = 100
_AS_JSON = json.JSONEncoder(ensure_ascii=False, default=str).encode
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def log_as_json(level: str) -> None:
    """Send the loggers named `lull…` to stdout as JSON. Calling it again changes nothing."""
    logger = logging.getLogger("lull")
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers = [_Stdout()]


class RequestNumbers:
    """Durations of requests by route template and status, and counts of failed activations.

    Counted in this process since its start. On a serverless platform each instance counts for itself, and its
    counts are lost with it. The platform's log has the same numbers.
    """

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self._waiting: list[tuple[str, str, int, float]] = []
        self._counters: _Counters | None = None
        self._lock = Lock()

    @property
    def counters(self) -> "_Counters":
        """Prometheus' counters with every counted request. They are created at the first use."""
        with self._lock:
            if self._counters is None:
                self._counters = _Counters()
            while self._waiting:
                self._counters.count(*self._waiting.pop())
            return self._counters

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count an answered request. Unknown methods and routes are counted under one name each."""
        self._waiting.append((method if method in _METHODS else "other", route or "none", status, seconds))
        if len(self._waiting) > _MOST_WAITING:
            _ = self.counters

    def answered(self, method: str, route: str) -> int:
        """The number of requests to a route that this process answered with 200."""
        samples = (each for metric in self.counters.requests.collect() for each in metric.samples)
        labels = {"method": method, "route": route, "status": "200"}
        return sum(int(each.value) for each in samples if each.name.endswith("_total") and each.labels == labels)


class _Counters:
    def __init__(self) -> None:
        # imported at the first use: a cold start does not need it
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lull_http_requests",
            "Answered requests by route template and status, in this process.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        # without the status: a histogram for each would make the answer larger than 1 MB
        self.durations = Histogram(
            "lull_http_request_duration_seconds",
            "Response times by route template, in this process.",
            ["method", "route"],
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
        self.requests.labels(method, route, str(status)).inc()
        self.durations.labels(method, route).observe(seconds)
        if (method, route) == ACTIVATION and status >= 400 and status != BROKEN_OFF:
            self.activation_errors.labels(str(status)).inc()


class RequestLog:
    """ASGI middleware: gives each request its id, logs a line for it, and answers unexpected exceptions with a 500.

    The id is answered as `X-Request-Id`, and every line that is logged meanwhile carries it, with the trace's id.
    """

    def __init__(self, app: ASGIApp, numbers: RequestNumbers, *, flushes: bool = False) -> None:
        self.app = app
        self.numbers = numbers
        self.flushes = flushes  # the process may be frozen after each answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; log its method, route template, status and milliseconds."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context = RequestContext.of(headers.get("x-request-id"), headers.get("traceparent"))
        token = enter_request(context)
        try:
            with telemetry.span(scope["method"], is_server=True, http__request__method=scope["method"]) as span:
                status = await self._answer(scope, receive, send, context)
                telemetry.answered(span, scope["method"], getattr(scope.get("route"), "path", None), status)
            if self.flushes and telemetry.is_on():
                await run_in_threadpool(telemetry.flush)
        finally:
            leave_request(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, context: RequestContext) -> int:
        """Answer and log; returns the status."""
        started, status = time.monotonic(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = context.request_id
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            status = BROKEN_OFF
        except Exception as error:
            log.exception("unforeseen fault")
            telemetry.report_error(error)
            if status:
                raise
            await problem_response(internal_error())(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", None)  # the template, because a path may hold ids
            seconds = time.monotonic() - started
            self.numbers.count(scope["method"], route, status, seconds)
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.info("request", extra={"fields": fields})
        return status


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        context = current_request()
        if context is not None:
            line["request_id"] = context.request_id
            if context.trace_id is not None:
                line["trace_id"] = context.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _AS_JSON(line)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to the current sys.stdout, not to the one at the time of its creation."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_JsonLine())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout
