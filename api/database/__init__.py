"""The one door to Postgres: call a SQL function by name, through PostgREST or directly."""

import asyncio
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import Any, Protocol

from api.errors import DatabaseRefusal, DatabaseUnavailable, from_database_error
from api.settings import Settings

log = logging.getLogger("lull.database")

_MOST_THREADS = 40  # that wait for answers, as many as FastAPI has for plain functions


class Transport(Protocol):
    """A way to call functions; answers and refusals are the same by any. Safe to share between threads."""

    credentials: str
    """The variable that is wrong when the database refuses Lull."""

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function of schema public by its arguments' names; return its JSON. Never retries.

        Raises DatabaseRefusal, or DatabaseUnavailable from the reason.
        """

    def close(self) -> None:
        """Close the connections that are idle."""


class Database:
    """Calls the `public.lull_*` functions of one database. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._transport: Transport | None = None
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "database")
        self._lock = Lock()

    async def ask(
        self, function: str, arguments: dict[str, Any], *, timeout_seconds: float
    ) -> dict[str, Any]:
        """Do `call` in a thread, and wait for it."""
        call = partial(self.call, function, arguments, timeout_seconds=timeout_seconds)
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, call)

    def call(self, function: str, arguments: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Call a function and return its `jsonb` object. Never retries.

        `timeout_seconds` limits the wait for the connection and for each read. Raises Problem: what the
        function refused, or DatabaseUnavailable when nobody can say whether the call took effect.
        """
        transport = self._connected()
        try:
            answer = transport.call(function, arguments, timeout_seconds)
        except DatabaseRefusal as refusal:
            problem = from_database_error(refusal, transport.credentials)
            log.log(
                logging.WARNING if problem.status >= 500 else logging.INFO,
                "database refused",
                extra={"fields": {"function": function, "code": refusal.code, "message": refusal.message}},
            )
            raise problem from refusal
        except DatabaseUnavailable as problem:
            reason = repr(problem.__cause__)
            log.warning("database unreachable", extra={"fields": {"function": function, "error": reason}})
            raise
        if not isinstance(answer, dict):
            log.warning("database answered no object", extra={"fields": {"function": function}})
            raise DatabaseUnavailable
        return answer

    def _connected(self) -> Transport:
        with self._lock:
            if self._transport is None:
                self._transport = _transport_of(self._settings)
                weakref.finalize(self, self._transport.close)
            return self._transport


def _transport_of(settings: Settings) -> Transport:
    """Directly where DATABASE_URL is set, else through PostgREST; only the one in use is imported."""
    if settings.database_url is not None:
        from api.database.direct import Direct

        return Direct(settings.database_url.get_secret_value(), settings.database_max_connections)
    from api.database.postgrest import PostgREST
    from api.project import project_of

    return PostgREST(project_of(settings))
