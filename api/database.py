"""The one door to Postgres: call a SQL function by name, through Supabase's PostgREST."""

import logging
import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import httpx
from postgrest.exceptions import APIError
from supabase import Client, ClientOptions, create_client

from api.errors import DatabaseUnavailable, from_database_error, not_configured
from api.settings import Settings

log = logging.getLogger("lull.database")

_timeout_seconds: ContextVar[float] = ContextVar("timeout_seconds")


class Database:
    """Calls the `public.lull_*` functions of one Supabase project. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._lock = Lock()

    def call(self, function: str, arguments: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Call a function and return its `jsonb` object. Never retries.

        `timeout_seconds` limits the wait for the connection and for each read. Raises Problem: what the
        function refused, or DatabaseUnavailable when nobody can say whether the call took effect.
        """
        client = self._connected()
        try:
            with time_limit(timeout_seconds):
                answer: Any = client.rpc(function, arguments).execute().data
        except APIError as error:
            problem = from_database_error(error)
            log.log(
                logging.WARNING if problem.status >= 500 else logging.INFO,
                "database refused",
                extra={"fields": {"function": function, "code": error.code, "message": error.message}},
            )
            raise problem from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            log.warning(
                "database unreachable", extra={"fields": {"function": function, "error": repr(error)}}
            )
            raise DatabaseUnavailable from error
        if not isinstance(answer, dict):
            # a proxy's HTML page with status 200 arrives here as a string
            log.warning("database answered no object", extra={"fields": {"function": function}})
            raise DatabaseUnavailable
        return answer

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                http = limited_client()
                self._client = supabase_client(self._settings, http)
                weakref.finalize(self, http.close)
            return self._client


def supabase_client(settings: Settings, http: httpx.Client) -> Client:
    """Open a client with the secret key, sending through `http`; 503 when the settings lack what it needs."""
    if settings.supabase_url is None:
        raise not_configured("SUPABASE_URL is not set.")
    if settings.supabase_secret_key is None:
        raise not_configured("SUPABASE_SECRET_KEY is not set.")
    key = settings.supabase_secret_key.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]+", key):
        raise not_configured(
            "SUPABASE_SECRET_KEY is no key: a key is ASCII letters, digits and signs, no spaces."
        )
    options = ClientOptions(
        httpx_client=http, postgrest_client_retry=False, auto_refresh_token=False, persist_session=False
    )
    return create_client(settings.supabase_url, key, options)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Limit the wait for the connection, and for each read, of the requests of a limited client in here."""
    token = _timeout_seconds.set(seconds)
    try:
        yield
    finally:
        _timeout_seconds.reset(token)


def limited_client() -> httpx.Client:
    """Make an HTTP client all of whose requests are sent within a `time_limit`."""
    return httpx.Client(event_hooks={"request": [_limit]})


def _limit(request: httpx.Request) -> None:
    """Give each request the time-out of its call: the client underneath knows only one for all of them."""
    request.extensions["timeout"] = httpx.Timeout(_timeout_seconds.get()).as_dict()
