"""A purge without anybody else: every contender in turn, on a fresh copy, round after round."""

from __future__ import annotations

from tests.bench.bases import Base, Copy
from tests.bench.contender import CONTENDERS, Contender
from tests.bench.context import Context
from tests.bench.dataset import Connection
from tests.bench.measures import Watch, longest_statement, wal_position
from tests.bench.servers import Servers

SECTION = "purge"


def purge(context: Context) -> None:
    """Measure rows a second, WAL, the longest statement and transaction, and the contender's memory."""
    bases = {"plain": context.size.plain, "lull": context.size.lull, "peers": context.size.peers}
    for turn in range(1, context.size.rounds + 1):
        for contender in CONTENDERS:
            with context.said(f"round {turn}, {contender.title}") as words, context.bases.copy(bases[contender.shape]) as copy:
                measured = measure(context.servers, copy, contender, contender.variables)
                context.results.add(SECTION, contender.name, turn, **measured)
                words += [f"{measured['rows']:.0f} rows", f"{measured['rows_per_second']:.0f}/s"]


def measure(servers: Servers, copy: Copy, contender: Contender, variables: dict[str, str]) -> dict[str, float]:
    """Let a contender work on a copy and look at it from outside."""
    with servers.connect(copy.database) as connection, contender.start(servers, copy, variables) as started:
        before, wal = _rows(connection, copy.base, contender), wal_position(connection)
        log = servers.log.stat().st_size
        with Watch(servers, copy.database, started.pid) as watch:
            seconds = started.work()
        wal = wal_position(connection) - wal
        rows = before - _rows(connection, copy.base, contender)
    return {
        "rows": rows,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "wal_bytes_per_row": wal / rows,
        "longest_statement_ms": longest_statement(servers.log, log, copy.database),
        "longest_transaction_ms": 1000 * watch.longest_transaction,
        "peak_memory_mb": watch.peak_memory / 2**20,
    }


def _rows(connection: Connection, base: Base, contender: Contender) -> int:
    if base.shape == "peers":
        table = {"django": "django_session", "connect-pg-simple": "public.session"}[contender.name]
    else:
        table = base.tables.sessions
    found = connection.execute(f"select count(*) from {table}").fetchone()
    return int(found[0]) if found else 0
