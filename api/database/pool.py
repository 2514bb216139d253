"""A few connections to Postgres, opened when needed, looked at before they are used again."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, Semaphore

import psycopg
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from api.database.idle import is_usable
from api.errors import DatabaseUnavailable


class PooledConnection(psycopg.Connection[TupleRow]):
    """A connection that waits for the server until its deadline and no longer."""

    deadline = math.inf
    idle_since = 0.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for a step of the conversation; psycopg calls this for each, and sets no limit of its own."""
        left = None if self.deadline == math.inf else max(0.0, self.deadline - time.monotonic())
        return super().wait(gen, interval, left if timeout is None else timeout)


class Pool:
    """At most `size` connections to one address. Safe to share between threads.

    It has no threads of its own, as psycopg_pool has: whoever needs a connection opens it, and learns at once
    and by name why that failed; and nothing goes on in a serverless instance that is frozen between requests.
    """

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._free = Semaphore(size)
        self._idle: list[PooledConnection] = []
        self._lock = Lock()

    @contextmanager
    def connection(self, deadline: float) -> Iterator[PooledConnection]:
        """Lend a connection in autocommit mode until the block ends.

        Raises DatabaseUnavailable when none becomes free before the deadline, and psycopg.Error when none can
        be opened. One that is in the middle of something when the block ends is closed: what it would say
        belongs to nobody any more.
        """
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DatabaseUnavailable from TimeoutError("no connection became free")
        try:
            connection = self._take() or self._open(deadline)
            connection.deadline = deadline
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> PooledConnection | None:
        """The connection that was used last and that nobody has closed since."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or is_usable(connection.fileno(), connection.idle_since):
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
