"""The one door to Postgres: call a SQL function by name, through PostgREST or directly."""

import logging
import weakref
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol

from api import telemetry
from api.errors import DatabaseRefusal, DatabaseUnavailable, Problem, from_database_error
from api.settings import Settings

log = logging.getLogger("lull.database")


class Transport(Protocol):
    """A way to call functions; answers and refusals are the same by any. Safe to share between threads."""

    credentials: str
    """The variable that is wrong when the database refuses Lull."""

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function of schema public by its arguments' names; return its JSON. Never retries.

        Raises DatabaseRefusal, or DatabaseUnavailable from the reason.
        """

    async def call_async(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Do `call` without keeping the event loop."""

    def close(self) -> None:
        """Close the connections that are idle."""


class Database:
    """Calls the `public.lull_*` functions of one database. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport: Transport | None = None
        self._lock = Lock()
        with suppress(Problem):  # a missing setting is a problem of the requests that need it
            self._connected()  # imported and made before the first request; connections are opened by calls

    def call(self, function: str, arguments: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Call a function and return its `jsonb` object. Never retries.

        `timeout_seconds` limits the wait for the connection and for each read. Raises Problem: what the
        function refused, or DatabaseUnavailable when it is unknown whether the call took effect.
        """
        transport = self._connected()
        with telemetry.span(function, db__system__name="postgresql"):
            try:
                answer = transport.call(function, arguments, timeout_seconds)
            except DatabaseRefusal as refusal:
                raise _explained(refusal, function, transport) from refusal
            except DatabaseUnavailable as problem:
                _log_unreachable(problem, function)
                raise
        return _object(function, answer)

    async def call_async(self, function: str, arguments: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Do `call` without keeping the event loop."""
        transport = self._connected()
        with telemetry.span(function, db__system__name="postgresql"):
            try:
                answer = await transport.call_async(function, arguments, timeout_seconds)
            except DatabaseRefusal as refusal:
                raise _explained(refusal, function, transport) from refusal
            except DatabaseUnavailable as problem:
                _log_unreachable(problem, function)
                raise
        return _object(function, answer)

    def _connected(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = _transport_of(self._settings)
                weakref.finalize(self, self._transport.close)
            return self._transport


def _explained(refusal: DatabaseRefusal, function: str, transport: Transport) -> Problem:
    """The problem that a refusal is to a caller; the log has what the caller must not see."""
    problem = from_database_error(refusal, transport.credentials)
    log.log(
        logging.WARNING if problem.status >= 500 else logging.INFO,
        "database refused",
        extra={"fields": {"function": function, "code": refusal.code, "message": refusal.message}},
    )
    return problem


def _log_unreachable(problem: DatabaseUnavailable, function: str) -> None:
    reason = repr(problem.__cause__)
    log.warning("database unreachable", extra={"fields": {"function": function, "error": reason}})


def _object(function: str, answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        log.warning("database answered no object", extra={"fields": {"function": function}})
        raise DatabaseUnavailable
    return answer


def _transport_of(settings: Settings) -> Transport:
    """Direct where DATABASE_URL is set, else through PostgREST; only the one in use is imported."""
    if settings.database_url is not None:
        from api.database.direct import Direct

        return Direct(settings.database_url.get_secret_value(), settings.database_max_connections)
    from api.database.postgrest import PostgREST

    return PostgREST(settings.project())
