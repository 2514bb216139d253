"""Functions called directly by psycopg, in Supabase's pooler or any Postgres: one text, one round trip."""

import json
import re
import time
from typing import Any

import psycopg

from api.database.calls import Call, compose_call
from api.database.pool import Pool, PooledConnection
from api.errors import MISSING_FUNCTION, DatabaseRefusal, DatabaseUnavailable

_CALL_LIFETIME_SECONDS = 60  # for so long a time-out that a function was given goes unnoticed
_SHARE_OF_THE_TIME = 0.9  # the rest is for the news that the server gave up: then nothing took effect
_REFUSED_LOGIN = re.compile("authentication|password|no such user|user not found|role .* does not exist")


class Direct:
    """Calls functions through a few connections of its own.

    Nothing is prepared, set for a session or held between calls, so that a pooler may hand every call to
    another connection of the server's.
    """

    credentials = "DATABASE_URL"

    def __init__(self, url: str, most_connections: int) -> None:
        self._pool = Pool(url, most_connections)
        self._calls: dict[tuple[str, ...], tuple[float, Call]] = {}

    def call(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Call a function; all of it, from the connection to the answer, takes no longer than the time-out.

        The function's own statement time-out, where that is shorter, is sent along: by itself it does not
        stop a direct call.
        """
        body = json.dumps(arguments, allow_nan=False)
        deadline = time.monotonic() + timeout_seconds
        try:
            with self._pool.connection(deadline) as connection:
                call = self._call_of(connection, function, tuple(arguments))
                seconds = _SHARE_OF_THE_TIME * (deadline - time.monotonic())
                milliseconds = max(1, int(1000 * min(seconds, call.seconds or seconds)))
                cursor = connection.execute(call.text, (milliseconds, body))
                while cursor.nextset():
                    pass  # until the answer of the last statement
                row = cursor.fetchone()
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith("PT"):
                self._calls.pop((function, *arguments), None)
            raise _meaning(error) from error
        return row[0] if row else None

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()

    def _call_of(self, connection: PooledConnection, function: str, names: tuple[str, ...]) -> Call:
        key = (function, *names)
        composed_at, call = self._calls.get(key, (0.0, None))
        if call is None or time.monotonic() - composed_at > _CALL_LIFETIME_SECONDS:
            call = compose_call(connection.cursor(), function, names)
            if call is None:
                raise DatabaseRefusal(MISSING_FUNCTION, f"no function {function} takes {', '.join(names)}")
            self._calls[key] = time.monotonic(), call
        return call


def _meaning(error: psycopg.Error) -> DatabaseRefusal | DatabaseUnavailable:
    """The database's words, where it has said any; a connection that cannot be opened has no code."""
    said = error.diag
    if error.sqlstate is None:
        refused = isinstance(error, psycopg.OperationalError) and _REFUSED_LOGIN.search(str(error))
        return DatabaseRefusal("28000", "the login was refused") if refused else DatabaseUnavailable()
    if error.sqlstate == "42883" and said.context is None and said.internal_query is None:
        return DatabaseRefusal(MISSING_FUNCTION, said.message_primary)  # gone since it was looked up
    return DatabaseRefusal(error.sqlstate, said.message_primary, said.message_detail, said.message_hint)
