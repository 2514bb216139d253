"""What is measured from outside while a contender works."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psycopg

from tests.bench.servers import RUNNER, Servers

LIVE_TRAFFIC = "live traffic"  # its connections, by their application_name

_TRANSACTIONS = """
select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)
from pg_stat_activity
where datname = %s and backend_type = 'client backend' and application_name not in (%s, %s)
"""
_LOCK_WAITS = """
select coalesce(max(extract(epoch from clock_timestamp() - l.waitstart)), 0)
from pg_locks l join pg_stat_activity a using (pid)
where a.datname = %s and a.application_name = %s and not l.granted
"""


class Watch:
    """Samples, until it is left: the contender's memory, its longest transaction, the longest wait of live traffic."""

    def __init__(self, servers: Servers, database: str, pid: int, *, waits: bool = False) -> None:
        # From another database: a run counts the clients of its own that are at work.
        self._connection = servers.connect()
        self._database = database
        self._pid = pid
        self._waits = waits
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.longest_transaction = self.longest_wait = 0.0
        self.peak_memory = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.peak_memory = max(self.peak_memory, memory(self._pid))
        self._connection.close()

    def _watch(self) -> None:
        turn = 0
        while not self._done.wait(0.01 if self._waits else 0.05):
            if self._waits:
                waited = self._seconds(_LOCK_WAITS, (self._database, LIVE_TRAFFIC))
                self.longest_wait = max(self.longest_wait, waited)
            if not self._waits or turn % 5 == 0:
                lasted = self._seconds(_TRANSACTIONS, (self._database, RUNNER, LIVE_TRAFFIC))
                self.longest_transaction = max(self.longest_transaction, lasted)
                self.peak_memory = max(self.peak_memory, memory(self._pid))
            turn += 1

    def _seconds(self, query: str, values: Sequence[str]) -> float:
        found = self._connection.execute(query, values).fetchone()
        return float(found[0]) if found else 0.0


def memory(pid: int) -> int:
    """The most bytes that a process has had in memory so far (where there is no /proc: that it has now)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        return int(found[1]) * 1024 if found else 0
    except FileNotFoundError:
        said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True).stdout
        return int(said) * 1024 if said.strip() else 0


def wal_position(connection: psycopg.Connection[tuple[int]]) -> int:
    """Bytes of WAL that were written so far."""
    found = connection.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
    assert found is not None
    return found[0]


def longest_statement(log: Path, begin: int, database: str) -> float:
    """The longest statement in a database, in ms, that the server has logged since the log was `begin` bytes long.

    Statements under 10 ms are not logged: 0.
    """
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read().decode(errors="replace")
    line = re.compile(rf"^{database}\|LOG:  duration: ([\d.]+) ms", re.MULTILINE)
    return max((float(found[1]) for found in line.finditer(said)), default=0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
