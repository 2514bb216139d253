"""The archive: how fast a purge fills it and a restore empties it, how large it is; and what a batch and a run cost at least."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg.types.json import Jsonb

from api.cleanup.policies import load_policies
from api.settings import Settings
from tests.bench.bases import Copy
from tests.bench.context import Context
from tests.bench.dataset import Connection
from tests.bench.measures import wal_position
from tests.bench.sections.alone import POLICY, call, policy
from tests.bench.servers import hours_since

_BATCH = 2000
_ONE_ROW_CALLS = 500
_EMPTY_RUNS = 20
# Titles that do not compress; ids and owners do not anyway.
_TITLES = """
update lull.sessions set title = md5(random()::text) || md5(random()::text)
where kind = 'chat' and status = 'draft' and last_activity_at < %s
"""
_SIZE = """
select sum(pg_total_relation_size(c.oid)) from pg_class c
where c.relnamespace = 'lull'::regnamespace and c.relname in ('archive', 'archive_pages', 'archive_keys')
"""
# One in a hundred users has made the session again meanwhile: it cannot come back, and stays as a remainder.
_MADE_AGAIN = """
insert into lull.sessions (id, kind, status)
select key::uuid, 'chat', 'draft' from lull.archive_keys where target = 'lull.sessions' and mod(root, 100) = 1
"""


def archive(context: Context) -> None:
    """Purge everything stale, make one in a hundred of the sessions again, and restore the run."""
    for turn in range(1, context.size.rounds + 1):
        with (
            context.said(f"round {turn}") as words,
            context.bases.copy(context.size.lull) as copy,
            context.servers.connect(copy.database) as connection,
        ):
            connection.execute(_TITLES, (copy.cutoff,))
            connection.execute("vacuum (analyze) lull.sessions")
            with _no_page_images(connection):
                connection.execute("checkpoint")
                run, purged = _purge(connection, copy)
            connection.execute(_MADE_AGAIN)
            restored = _restore(connection, run)
            context.results.add("archive", "purge", turn, **purged)
            context.results.add("archive", "restore", turn, **restored)
            words += [f"purged {purged['rows_per_second']:.0f}/s", f"restored {restored['rows_per_second']:.0f}/s",
                      f"{purged['archived_bytes_per_row']:.0f} bytes a row"]  # fmt: skip


@contextmanager
def _no_page_images(connection: Connection) -> Iterator[None]:
    """WAL without whole pages: how many there are depends on where the titles' update put the rows."""
    connection.execute("alter system set full_page_writes = off")
    connection.execute("select pg_reload_conf()")
    time.sleep(1)  # until every process has seen it
    try:
        yield
    finally:
        connection.execute("alter system reset full_page_writes")
        connection.execute("select pg_reload_conf()")


def _purge(connection: Connection, copy: Copy) -> tuple[str, dict[str, float]]:
    size, wal, began = _archived(connection), wal_position(connection), time.perf_counter()
    lease = _open(connection, copy)
    rows = _batches(connection, lease)
    call(connection, "lull_finish_cleanup(%s, %s, '{}', '{}')", *lease)
    seconds = time.perf_counter() - began
    return lease[0], {
        "rows": rows,
        "rows_per_second": rows / seconds,
        "wal_bytes_per_row": (wal_position(connection) - wal) / rows,
        "archived_bytes_per_row": (_archived(connection) - size) / rows,
    }


def _restore(connection: Connection, run: str) -> dict[str, float]:
    """The steps of POST /api/admin/runs/{id}/restore, and what is left at its end."""
    began, rows = time.perf_counter(), 0
    scope: dict[str, Any] = {"run": run}
    step: dict[str, Any] = {"after": 0, "upto": None, "done": False}
    while not step["done"]:
        step = call(connection, "lull_restore_step(%s, %s, %s)", Jsonb(scope), step["after"], step["upto"])
        rows += step["restored"]
    rest = call(connection, "lull_restore_rest(%s, %s)", Jsonb(scope), step["upto"])
    if rest["remaining"] or not rest["missing_total"]:
        raise RuntimeError(f"the restore ended with {rest}")
    return {"rows": rows, "rows_per_second": rows / (time.perf_counter() - began)}


def fixed(context: Context) -> None:
    """Call batches of one row, without their commits, and run all policies where nothing is stale."""
    with context.bases.copy(context.size.lull) as copy, context.servers.connect(copy.database) as connection:
        lease, took = _open(connection, copy), list[float]()

        def one_row() -> dict[str, Any]:
            began = time.perf_counter()
            answer = call(connection, "lull_cleanup_lane(%s, %s, %s, 1, 1)", *lease, POLICY)
            took.append(1000 * (time.perf_counter() - began))
            return answer

        for _ in range(_ONE_ROW_CALLS):
            connection.execute("begin")
            if one_row()["deleted"] != 1:
                raise RuntimeError("a batch of one row deleted none")
            connection.execute("commit")
        call(connection, "lull_finish_cleanup(%s, %s, '{}', '{}')", *lease)
        context.results.add("fixed", "one-row", 1, ms=statistics.median(took))
        for turn in range(1, _EMPTY_RUNS + 1):
            context.results.add("fixed", "empty-run", turn, ms=_empty_run(connection))
    for case in ("one-row", "empty-run"):
        print(f"  {case}: {context.results.median('fixed', case, 'ms'):.2f} ms")


def _empty_run(connection: Connection) -> float:
    """Milliseconds of a run's calls where no row is as old as its policies say."""
    century = [each.arguments() | {"age_seconds": 36525 * 86400} for each in load_policies(Settings.model_construct())]
    began = time.perf_counter()
    begun = call(connection, "lull_begin_cleanup(%s, 'bench', 900)", Jsonb(century))
    lease = (begun["run_id"], begun["token"])
    for name in begun["policies"]:
        opened = call(connection, "lull_open_policy(%s, %s, %s)", *lease, name)
        if opened["outcome"] != "completed":
            raise RuntimeError(f"{name} is {opened['outcome']}: {opened}")
    call(connection, "lull_finish_cleanup(%s, %s, '{}', '{}')", *lease)
    return 1000 * (time.perf_counter() - began)


def _open(connection: Connection, copy: Copy) -> tuple[str, str]:
    stale = policy() | {"age_seconds": 3600 * float(hours_since(copy.cutoff))}
    begun = call(connection, "lull_begin_cleanup(%s, 'bench', 900, %s, %s)", Jsonb([stale]), POLICY, copy.base.stale)
    opened = call(connection, "lull_open_policy(%s, %s, %s)", begun["run_id"], begun["token"], POLICY)
    if opened["outcome"] != "open":
        raise RuntimeError(f"the policy did not open: {opened}")
    return begun["run_id"], begun["token"]


def _batches(connection: Connection, lease: tuple[str, str]) -> int:
    rows = 0
    while True:
        answer = call(connection, "lull_cleanup_lane(%s, %s, %s, %s, 1)", *lease, POLICY, _BATCH)
        rows += int(answer["deleted"])
        if answer["done"]:
            return rows


def _archived(connection: Connection) -> int:
    found = connection.execute(_SIZE).fetchone()
    assert found is not None
    return int(found[0])
