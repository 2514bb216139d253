"""An app at work on an adopted table while runs go on: what it was told is saved is there, and it waits for no run.

`make test` does 60 operations a writer, `make release-check` ten times as many (TEST_SCALE).
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import pytest

from tests.scale import examples
from tests.sql.driver import Connection, Run, scalar
from tests.sql.own_tables.team import SERVICE, adopt_sessions, create, keys_of, transition
from tests.sql.own_tables.writers import BELOW, TABLES, Memory, Writer
from tests.sql.waiting import beside
from tests.sql_servers import Database

WRITES = examples(60)
WRITERS = 6
DDL = [
    "alter table public.talks add mood text",
    "create index on public.talks (status, updated_at)",
    "alter table public.papers add size int default 0",
    "alter table public.talks drop mood",
    "create table public.stars (id int, talk uuid references public.talks on delete cascade)",
    "create index on public.stars (talk)",
    "alter table public.visitors add name text",
    # Postgres locks the table below first, a delete of the app the one above: without this lock those two can deadlock.
    "lock table public.talks in access exclusive mode; drop table public.stars",
]


@pytest.fixture
def db(sql_database: Database) -> Connection:
    connection = sql_database.connect()
    create(connection, *TABLES)
    adopt_sessions(connection, "public.talks", p_below=BELOW)
    return connection


def clean_until(done: list[Future[Any]], connection: Connection) -> tuple[float, int]:
    """Run after run until the writers are done; return the longest batch in seconds and how many rows went."""
    longest, taken = 0.0, 0
    while True:
        last = all(each.done() for each in done)
        run = Run.begin(connection, "abandoned-drafts")
        for policy in run.begun["policies"]:
            if run.open(policy)["outcome"] != "open":
                continue
            for size in (1, 3, 10, 50, 200, *[500] * 1000):
                began = time.monotonic()
                answer = run.batch(policy, size)
                longest = max(longest, time.monotonic() - began)
                taken += answer["deleted"]
                if answer["done"]:
                    break
        report = run.finish()
        assert all(each["outcome"] != "failed" for each in report["policies"]), report
        if last:
            return longest, taken


def migrate_meanwhile(connection: Connection, done: list[Future[Any]]) -> list[str]:
    """Change the schema as the app's migrations do, with their usual lock_timeout and another try; return the errors."""
    connection.execute("set lock_timeout = '2s'")
    errors = []
    for statement in DDL:
        for _ in range(20):
            try:
                connection.execute(statement)
                break
            except Exception as error:
                if "lock timeout" not in str(error):
                    errors.append(f"{statement}: {error}")
                    break
    return errors


def test_writers_and_runs_and_migrations_at_once(db: Connection, sql_database: Database) -> None:
    memory = Memory()
    writers = [Writer(sql_database.connect(), number, memory) for number in range(WRITERS)]
    for writer in writers:
        writer.connection.execute("set lock_timeout = '10s'")
        writer.work(5)
        writer.shared = writers[0].shared
    with beside() as start:
        working = [start(writer.work, WRITES) for writer in writers]
        migrating = start(migrate_meanwhile, sql_database.connect(), working)
        longest, taken = clean_until(working, sql_database.connect())
        assert migrating.result() == []
        for each in working:
            each.result()
    assert memory.errors == []
    assert taken, "nothing went: the test shows nothing"
    assert memory.slowest <= longest + 2, (
        f"a writer waited {memory.slowest:.2f} s, the longest batch took {longest:.2f} s"
    )
    _check(db, memory)


def _check(db: Connection, memory: Memory) -> None:
    """Compare what is there, and what is archived, with what the writers were told; then bring everything back."""
    there = set(keys_of(db, "public.talks"))
    archived = {
        row["key"] for row in db.execute("select key from lull.archive_keys where target = 'public.talks'").fetchall()
    }
    assert memory.used <= there, f"in use, and gone: {memory.used - there}"
    assert not there & archived
    assert there | archived == memory.made - memory.deleted
    assert memory.gone <= archived, "a writer was refused a talk that no run took"
    lines = db.execute("select talk::text as talk, count(*) as n from public.lines group by 1").fetchall()
    assert {row["talk"]: row["n"] for row in lines} == dict(memory.lines)
    for talk in sorted(archived):
        transition(db, "activate", talk, SERVICE)
    assert set(keys_of(db, "public.talks")) == memory.made - memory.deleted
    papers = db.execute("select talk::text as talk, count(*) as n from public.papers group by 1").fetchall()
    assert {row["talk"]: row["n"] for row in papers} == dict(memory.papers)
    assert scalar(db, "select count(*) from lull.archive_keys") == 0
