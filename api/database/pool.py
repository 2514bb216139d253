"""A few connections to Postgres, opened when needed, looked at before they are used again."""

import asyncio
import math
import select
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from threading import Lock, Semaphore
from weakref import WeakKeyDictionary

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import Escaping, ExecStatus, TransactionStatus
from psycopg.rows import TupleRow
from psycopg.waiting import wait_async

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
        """Send statements in one text; return the first value of the last one's answer."""
        return self.wait(self._conversation(text))

    async def ask_async(self, text: bytes) -> bytes | None:
        """Do `ask` in the running event loop."""
        left = max(0.0, self.deadline - time.monotonic())
        return await wait_async(self._conversation(text), self.pgconn.socket, _LOOK_SECONDS, left)

    def is_usable(self) -> bool:
        """Whether it was idle for under 60 s and has nothing to read: what can be read is the server's farewell."""
        if time.monotonic() - self.idle_since > _LONGEST_IDLE_SECONDS:
            return False
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        return not waiting.poll(0)

    def literal(self, text: str) -> bytes:
        """A text as SQL writes it."""
        return Escaping(self.pgconn).escape_literal(text.encode())

    def _conversation(self, text: bytes) -> PQGen[bytes | None]:
        """What a cursor would do, without what it does for results of all kinds."""
        self.pgconn.send_query(text)
        results = yield from execute(self.pgconn)
        for result in results:
            if result.status not in _DONE:
                raise error_from_result(result)
        value: bytes | None = results[-1].get_value(0, 0) if results[-1].ntuples else None
        return value


class Pool:
    """At most `size` connections to one address. Safe to share between threads.

    It has no threads of its own, as psycopg_pool has: a caller that needs a connection opens it, and learns at once
    and by name why that failed; and nothing goes on in a serverless instance that is frozen between requests.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._size = size
        self._free = Semaphore(size)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._idle: list[PooledConnection] = []
        self._lock = Lock()

    @contextmanager
    def connection(self, deadline: float) -> Iterator[PooledConnection]:
        """Lend a connection in autocommit mode until the block ends.

        Raises DatabaseUnavailable when none becomes free before the deadline, and psycopg.Error when none can
        be opened. One that is in the middle of something when the block ends is closed: what it would say
        is for no caller any more.
        """
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DatabaseUnavailable from TimeoutError("no connection became free")
        try:
            connection = self._take() or self._open(deadline)
        except BaseException:
            self._free.release()
            raise
        with self._lent(connection, deadline):
            yield connection

    def idle_connection(self, deadline: float) -> AbstractContextManager[PooledConnection] | None:
        """Lend a connection that needs no waiting for; None when there is none."""
        if not self._free.acquire(blocking=False):
            return None
        connection = self._take()
        if connection is None:
            self._free.release()
            return None
        return self._lent(connection, deadline)

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

    @contextmanager
    def _lent(self, connection: PooledConnection, deadline: float) -> Iterator[PooledConnection]:
        connection.deadline = deadline
        try:
            yield connection
        finally:
            self._give_back(connection)
            self._free.release()

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
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(connection)
