"""The HTTP client beneath supabase-py: one for each door, with a time-out for each call and connections kept open."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx

from api.request_context import current_request
from api.settings import Project

_CONNECTIONS = 40  # as many as there are threads that call (api/database/threads.py)
_LONGEST_IDLE_SECONDS = 60  # a connection that was idle for longer is closed: networks forget silent ones
_timeout_seconds: ContextVar[float] = ContextVar("timeout_seconds")


def open_client(project: Project, certificates: ssl.SSLContext | None = None) -> httpx.Client:
    """Return a client that repeats nothing and follows no redirect; every request needs a `time_limit` around it.

    Proxies come from the environment, and certificates are checked against certifi's or SSL_CERT_FILE's, read anew
    unless they are given. Safe to share between threads.
    """
    return httpx.Client(
        verify=certificates or read_certificates(project.url),
        limits=httpx.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_LONGEST_IDLE_SECONDS,
        ),
        event_hooks={"request": [_set_timeout, _name_request]},
    )


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the wait for a connection, and for each read and write, of the requests in this block."""
    token = _timeout_seconds.set(seconds)
    try:
        yield
    finally:
        _timeout_seconds.reset(token)


def read_certificates(url: str) -> ssl.SSLContext:
    """The certificate authorities to trust. Reading them takes 23 ms: for http:// none are read, and none trusted."""
    return httpx.create_ssl_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _set_timeout(request: httpx.Request) -> None:
    """Give a request the time-out of its call: supabase-py knows only one for all calls of a client."""
    request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), _timeout_seconds.get())


def _name_request(request: httpx.Request) -> None:
    """Pass on which request a call belongs to."""
    context = current_request()
    if context is not None:
        request.headers["X-Request-Id"] = context.request_id
        if context.traceparent is not None:
            request.headers["traceparent"] = context.traceparent
