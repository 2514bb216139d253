"""Live traffic in a process of its own: people who activate their drafts, some of which are about to be deleted.

`python -m tests.bench.traffic FILE`: says ready, begins with a line of input, ends with the next, and then writes to
the file when each activation was due, how long its answer took from then, whose draft it was, and what was answered.

It calls the SQL function, or on a team's plain tables does the UPDATE that such a team would: the API in between would
take most of the two cores that everything here shares. Requests are due at a fixed rate whatever the answers do, and
are sent by the first of 16 connections that is free: so a request that waits behind another is late, too.
"""

from __future__ import annotations

import csv
import os
import sys
import threading
import time
from itertools import count
from pathlib import Path

import psycopg

from tests.bench.dataset import Connection
from tests.bench.measures import LIVE_TRAFFIC

PER_SECOND = 500
_CONNECTIONS = 16
_RETURNING = 10  # one in so many activates a stale draft: somebody who comes back just now
_MOST = 200 * PER_SECOND

_IDS = """
select id from {table}
where kind = 'chat' and status = 'draft' and last_activity_at {side} %(cutoff)s
order by md5(id::text) limit %(most)s
"""
_PLAIN = """
update public.plain_sessions
set status = 'active', first_message_at = now(), last_activity_at = now()
where id = %s and status = 'draft'
returning 'activated'
"""
_LULL = """
select case when (a ->> 'restored')::boolean then 'restored' when (a ->> 'activated')::boolean then 'activated' else 'again' end
from public.lull_activate_session(%s, '{"service": true}') a
"""


class Traffic:
    """The requests and what became of them."""

    def __init__(self, url: str, table: str, cutoff: str) -> None:
        self._url = url
        self._statement = _LULL if table == "lull.sessions" else _PLAIN
        with self._connect() as connection:
            self._fresh = _ids(connection, table, ">=", cutoff, _MOST)
            self._stale = _ids(connection, table, "<", cutoff, _MOST // _RETURNING)
        self._numbers = count()
        self._ended = threading.Event()
        self.answers: list[tuple[float, float, str, str, str]] = []
        self._connections = [self._connect() for _ in range(_CONNECTIONS)]
        self._threads = [threading.Thread(target=self._work, args=[each]) for each in self._connections]

    def begin(self) -> None:
        self._began = time.monotonic() + 0.05
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _connect(self) -> Connection:
        return psycopg.connect(self._url, autocommit=True, application_name=LIVE_TRAFFIC)

    def _work(self, connection: Connection) -> None:
        for number in self._numbers:
            returning = number % _RETURNING == 0
            ids, place = (
                (self._stale, number // _RETURNING)
                if returning
                else (self._fresh, number - number // _RETURNING - 1)
            )
            due = self._began + number / PER_SECOND
            session = ids[place % len(ids)]
            if self._ended.wait(max(0.0, due - time.monotonic())):
                return
            answer = self._activate(connection, session)
            self.answers.append((due, time.monotonic() - due, "stale" if returning else "fresh", answer, session))

    def _activate(self, connection: Connection, session: str) -> str:
        try:
            row = connection.execute(self._statement, (session,)).fetchone()
        except psycopg.Error as error:
            return "gone" if (error.sqlstate or "").startswith("PT4") else "failed"
        return str(row[0]) if row else "gone"


def _ids(connection: Connection, table: str, side: str, cutoff: str, most: int) -> list[str]:
    query = _IDS.format(table=table, side=side)
    return [str(row[0]) for row in connection.execute(query, {"cutoff": cutoff, "most": most}).fetchall()]


def main() -> None:
    traffic = Traffic(os.environ["DATABASE_URL"], os.environ["SESSIONS"], os.environ["CUTOFF"])
    print("ready", flush=True)
    if sys.stdin.readline():
        traffic.begin()
        sys.stdin.readline()  # the end of input will do, too
        traffic.end()
        with Path(sys.argv[1]).open("w", newline="") as file:
            csv.writer(file).writerows(sorted(traffic.answers))
        print("written", flush=True)


if __name__ == "__main__":
    main()
