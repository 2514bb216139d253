"""Functions called directly by psycopg, in Supabase's pooler or any Postgres: one text, one round trip."""

import json
import re
import time
from typing import Any

import psycopg

from api.database.calls import Call, compose_call
from api.database.pool import Pool, PooledConnection
from api.database.threads import in_thread
from api.errors import MISSING_FUNCTION, DatabaseRefusal, DatabaseUnavailable
from api.request_context import current_request

_CALL_LIFETIME_SECONDS = 60  # for so long a time-out that a function was given goes unnoticed
_LONG_ANSWER = 32 * 1024  # bytes; parsing more would hold up the event loop for a millisecond and longer
_SHARE_OF_THE_TIME = 0.9  # the rest is for the news that the server gave up: then nothing took effect
_LONGEST_IN_A_NAME = 58  # what "lull " leaves of the 63 bytes that Postgres keeps
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
        deadline = time.monotonic() + timeout_seconds
        try:
            with self._pool.connection(deadline) as connection:
                call = self._known(function, arguments) or self._compose(connection, function, arguments)
                answer = connection.ask(_text(call, connection, arguments))
        except psycopg.Error as error:
            raise self._meaning(error, function, arguments) from error
        return _value(answer)

    async def call_async(self, function: str, arguments: dict[str, Any], timeout_seconds: float) -> object:
        """Do `call` in the event loop where only the answer has to be waited for, and else in a thread."""
        deadline = time.monotonic() + timeout_seconds
        async with self._pool.turn(deadline):
            call = self._known(function, arguments)
            lent = self._pool.idle_connection(deadline) if call else None
            if call is None or lent is None:
                return await in_thread(self.call, function, arguments, deadline - time.monotonic())
            try:
                with lent as connection:
                    answer = await connection.ask_async(_text(call, connection, arguments))
            except psycopg.Error as error:
                raise self._meaning(error, function, arguments) from error
        if answer is None or len(answer) <= _LONG_ANSWER:
            return _value(answer)
        return await in_thread(_value, answer)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._pool.close()

    def _known(self, function: str, arguments: dict[str, Any]) -> Call | None:
        composed_at, call = self._calls.get((function, *arguments), (0.0, None))
        return call if time.monotonic() - composed_at <= _CALL_LIFETIME_SECONDS else None

    def _compose(self, connection: PooledConnection, function: str, arguments: dict[str, Any]) -> Call:
        call = compose_call(connection.cursor(), function, arguments)
        if call is None:
            raise DatabaseRefusal(MISSING_FUNCTION, f"no function {function} takes {', '.join(arguments)}")
        self._calls[(function, *arguments)] = time.monotonic(), call
        return call

    def _meaning(
        self, error: psycopg.Error, function: str, arguments: dict[str, Any]
    ) -> DatabaseRefusal | DatabaseUnavailable:
        """What an error of psycopg's means; after one the catalog is asked again."""
        if not (error.sqlstate or "").startswith("PT"):
            self._calls.pop((function, *arguments), None)
        return _meaning(error)


def _text(call: Call, connection: PooledConnection, arguments: dict[str, Any]) -> bytes:
    """The call's text with its arguments and the time that it may take."""
    seconds = _SHARE_OF_THE_TIME * (connection.deadline - time.monotonic())
    return _request_name() + call.text(arguments, seconds, connection.literal)


def _request_name() -> bytes:
    """Statements that name the connection after the request, until the call's transaction ends.

    A request id is ASCII letters, digits and signs that need no quotes. A connection's name has at most 63 bytes.
    """
    context = current_request()
    if context is None:
        return b""
    name = context.request_id.encode()
    whole = b"set local lull.request_id = '%s'; " % name if len(name) > _LONGEST_IN_A_NAME else b""
    return b"set local application_name = 'lull %s'; %s" % (name[:_LONGEST_IN_A_NAME], whole)


def _value(answer: bytes | None) -> object:
    """The JSON that a function returned; None for what is no JSON."""
    try:
        return json.loads(answer.decode()) if answer else None
    except ValueError:
        return None


def _meaning(error: psycopg.Error) -> DatabaseRefusal | DatabaseUnavailable:
    """The database's words, where it has said any; a connection that cannot be opened has no code."""
    said = error.diag
    if error.sqlstate is None:
        refused = isinstance(error, psycopg.OperationalError) and _REFUSED_LOGIN.search(str(error))
        return DatabaseRefusal("28000", "the login was refused") if refused else DatabaseUnavailable()
    if error.sqlstate == "42883" and said.context is None and said.internal_query is None:
        return DatabaseRefusal(MISSING_FUNCTION, said.message_primary)  # gone since it was looked up
    return DatabaseRefusal(error.sqlstate, said.message_primary, said.message_detail, said.message_hint)
