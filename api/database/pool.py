"""A few connections to Postgres, opened when needed, looked at before they are used again."""

import asyncio
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from queue import Empty, SimpleQueue
from threading import Lock
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import Escaping, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

from api.database.watch import DeadlineWatch
from api.errors import DatabaseUnavailable

_DONE = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}
_LOOK_SECONDS = 0.1  # between looks at the deadline
_LONGEST_IDLE_SECONDS = 60  # shorter than what networks and poolers forget a silent connection after


class PooledConnection(psycopg.Connection[TupleRow]):
    """A connection that waits for the server until its deadline and no longer."""

    deadline = math.inf
    idle_since = 0.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for a step of the conversation; psycopg calls this for each, and sets no limit of its own."""
        left = None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())
        return super().wait(gen, interval, left if timeout is None else timeout)

    def ask(self, text: bytes) -> bytes | None:
        """Send statements in one text; return the first value of the last one's answer.

        One call of libpq's, which waits without Python's lock: a conversation in steps would take that lock eight
        times, and among sixteen threads each time costs as much as the query. It knows no deadline: the pool does.
        """
        return _first_value(self.pgconn.exec_(text))

    async def ask_async(self, text: bytes) -> bytes | None:
        """Do `ask` in the running event loop."""
        left = max(0.0, self.deadline - time.monotonic())
        return await wait_async(self._conversation(text), self.pgconn.socket, _LOOK_SECONDS, left)

    def is_usable(self) -> bool:
        """Whether it was idle for under 60 s, and the server has not closed it: its last words come before the end."""
        if time.monotonic() - self.idle_since > _LONGEST_IDLE_SECONDS:
            return False
        try:
            self.pgconn.consume_input()
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
        return True

    def hang_up(self) -> None:
        """End the conversation at once, from any thread: who waits for the answer learns that there is none."""
        # where the server has just ended it there is nothing left to end
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def literal(self, text: str) -> bytes:
        """A text as SQL writes it."""
        return Escaping(self.pgconn).escape_literal(text.encode())

    def _conversation(self, text: bytes) -> PQGen[bytes | None]:
        """What a cursor would do, without what it does for results of all kinds."""
        self.pgconn.send_query(text)
        results = yield from execute(self.pgconn)
        return _first_value(next((result for result in results if result.status not in _DONE), results[-1]))


def _first_value(result: PGresult) -> bytes | None:
    if result.status not in _DONE:
        raise error_from_result(result)
    value: bytes | None = result.get_value(0, 0) if result.ntuples else None
    return value


class Pool:
    """At most `size` connections to one address. Safe to share between threads.

    It opens no connections in threads of its own, as psycopg_pool does: a caller that needs one opens it, and learns
    at once and by name why that failed; and nothing goes on in a serverless instance that is frozen between requests.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._free: SimpleQueue[None] = SimpleQueue()  # a semaphore that is C's
        for _ in range(size):
            self._free.put(None)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._idle: list[PooledConnection] = []
        self._lock = Lock()
        self._watch = DeadlineWatch()

    def connection(self, deadline: float) -> "Lent":
        """Lend a connection in autocommit mode to a thread that waits for its answers.

        Raises DatabaseUnavailable when none becomes free before the deadline, and psycopg.Error when none can
        be opened.
        """
        try:
            self._free.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise DatabaseUnavailable from TimeoutError("no connection became free")
        try:
            connection = self._take() or self._open(deadline)
        except BaseException:
            self._free.put(None)
            raise
        connection.deadline = deadline
        try:
            self._watch.add(connection)
        except BaseException:
            self._give_back(connection)
            raise
        return Lent(connection, self._give_back)

    def idle_connection(self, deadline: float) -> "Lent | None":
        """Lend a connection that needs no waiting for to a coroutine; None when there is none."""
        try:
            self._free.get_nowait()
        except Empty:
            return None
        connection = self._take()
        if connection is None:
            self._free.put(None)
            return None
        connection.deadline = deadline
        return Lent(connection, self._give_back)

    @asynccontextmanager
    async def turn(self, deadline: float) -> AsyncIterator[None]:
        """Keep no more coroutines of an event loop at a time than there are connections."""
        turns = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._size))
        try:
            async with asyncio.timeout(deadline - time.monotonic()) if turns.locked() else nullcontext():
                await turns.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable from error
        try:
            yield
        finally:
            turns.release()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> PooledConnection | None:
        """The connection that was used last and is still open."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or connection.is_usable():
                return connection
            connection.close()

    def _open(self, deadline: float) -> PooledConnection:
        return PooledConnection.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.ClientCursor,
            client_encoding="utf8",
            fallback_application_name="lull",
            connect_timeout=max(1, math.ceil(deadline - time.monotonic())),
        )

    def _give_back(self, connection: PooledConnection) -> None:
        self._watch.remove(connection)
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            connection.idle_since = time.monotonic()
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        self._free.put(None)


class Lent:
    """A connection of a pool's until the block ends.

    One that is in the middle of something then is closed: what it would say is for no caller any more.
    """

    __slots__ = ("_connection", "_give_back")

    def __init__(self, connection: PooledConnection, give_back: Callable[[PooledConnection], None]) -> None:
        self._connection, self._give_back = connection, give_back

    def __enter__(self) -> PooledConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._give_back(self._connection)
