"""What browsers need of every answer: HEAD, CORS and `nosniff`, as two ASGI middlewares around the routes."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
# Those that Lull reads, and those that supabase-js and tracing add to every request.
SENT = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Session-Token, X-Participant-Token, "
    "X-Request-Id, apikey, x-client-info, traceparent, tracestate"
)
SHOWN = (
    "Date, ETag, Link, Location, Retry-After, RateLimit, RateLimit-Policy, Idempotency-Replayed, "
    "Idempotency-Expires-In, Session-Activated, Session-Restored, Session-Rows-Missing, X-Request-Id"
)
_MAX_AGE_SECONDS = "600"


class AnswerHeaders:
    """ASGI middleware: `nosniff` on every answer, and what lets the pages of `origins` read it. The outermost one.

    An answer to another origin is the same without those headers: the browser keeps it from the page. Credentials
    (cookies) are never allowed; callers prove themselves by headers that a page sets itself.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the headers to its answer, whatever it is."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        allowed = self._allowed(Headers(scope=scope).get("origin"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                if self._origins:
                    headers.add_vary_header("Origin")
                if allowed is not None:
                    headers["Access-Control-Allow-Origin"] = allowed
                    headers["Access-Control-Expose-Headers"] = SHOWN
            await send(message)

        await self._app(scope, receive, with_headers)

    def _allowed(self, origin: str | None) -> str | None:
        if origin is None:
            return None
        return origin if origin in self._origins else "*" if "*" in self._origins else None


class BrowserMethods:
    """ASGI middleware: HEAD wherever there is GET, and preflight requests while any origin is allowed."""

    def __init__(self, app: ASGIApp, *, preflight: bool) -> None:
        self._app = app
        self._preflight = preflight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or pass the request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._head(scope, receive, send)
        elif scope["type"] == "http" and self._preflight and _is_preflight(scope):
            await _answer_preflight(send)
        else:
            await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as to GET, without the body. The scope stays the same object: the log reads the route from it."""

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        scope["method"], scope["lull.head"] = "GET", True
        try:
            await self._app(scope, receive, without_body)
        finally:
            scope["method"] = "HEAD"


def is_head(request: Request) -> bool:
    """Whether the request is a HEAD that a GET's route answers: it must change nothing."""
    return "lull.head" in request.scope


def _is_preflight(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return scope["method"] == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


async def _answer_preflight(send: Send) -> None:
    """The same for every path and origin; without Access-Control-Allow-Origin, which may follow, it allows nothing."""
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": SENT,
        "Access-Control-Max-Age": _MAX_AGE_SECONDS,
        "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
        "Cache-Control": "no-store",
    }
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
