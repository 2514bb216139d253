"""One JSON line per request and per event on stdout. Never a header, a body, a query or a secret."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_error, problem_response

log = logging.getLogger("lull.http")


def log_as_json(level: str) -> None:
    """Send what the loggers named `lull…` say to stdout, once however often this is called."""
    logger = logging.getLogger("lull")
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers = [_Stdout()]


class RequestLog:
    """ASGI middleware: one line per request, and the last resort for a fault that nobody foresaw."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round((time.monotonic() - started) * 1000, 1),
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
        return json.dumps(line, ensure_ascii=False, default=str)


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what sys.stdout is now, not to what it was when the handler was made."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_JsonLine())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout
