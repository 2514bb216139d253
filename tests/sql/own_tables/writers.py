"""An app at work on its tables: writers with connections of their own, who remember what the database told them.

What is told "saved" must be there in the end. Every operation is one that an app without Lull never sees fail: rows of
others are inserted below, never locked; only a writer's own rows are updated or deleted.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import psycopg

from tests.sql.driver import Connection

TABLES = (
    """create table public.talks (
      id uuid primary key default gen_random_uuid(), author uuid, status text not null default 'draft', title text,
      slug text unique, updated_at timestamptz not null default now())""",
    "create index on public.talks (updated_at)",
    """create table public.lines (
      id bigint generated always as identity primary key, talk uuid not null references public.talks on delete cascade,
      body text, reply_to bigint references public.lines on delete set null deferrable initially deferred)""",
    "create index on public.lines (talk)",
    "create index on public.lines (reply_to)",
    """create table public.visitors (
      id uuid primary key, talk uuid not null references public.talks on delete cascade, seen timestamptz not null)""",
    "create index on public.visitors (talk)",
    """create table public.papers (
      id bigint generated always as identity primary key, name text,
      talk uuid not null references public.talks on delete cascade deferrable initially deferred)""",
    "create index on public.papers (talk)",
)
BELOW = {"public.lines": "keeps", "public.visitors": {"clock": "seen"}, "public.papers": "goes along"}


@dataclass
class Memory:
    """What all writers were told; a talk is in `used` when a message or a heartbeat was saved in it."""

    made: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    abandoned: list[tuple[str, str]] = field(default_factory=list)  # talk, visitor
    lines: Counter[str] = field(default_factory=Counter)
    papers: Counter[str] = field(default_factory=Counter)
    gone: set[str] = field(default_factory=set)  # talks of which a writer was told that they are not there
    errors: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Writer:
    """One connection of the app's, with rows of its own."""

    def __init__(self, connection: Connection, number: int, memory: Memory) -> None:
        self.connection = connection
        self.random = Random(number)
        self.memory = memory
        self.own: list[str] = []
        self.shared: list[str] = []

    def work(self, many: int) -> None:
        """Do this many operations."""
        operations = [
            self._create, self._abandon, self._abandon, self._update, self._upsert, self._crosswise, self._deferred,
            self._come_back, self._heartbeat, self._upsert_visitor, self._delete,
        ]  # fmt: skip
        for _ in range(many):
            operation = self.random.choice(operations)
            began = time.monotonic()
            try:
                operation()
            except psycopg.Error as error:
                self.connection.rollback()
                self.memory.errors.append(f"{operation.__name__}: {error.sqlstate} {error}")
            self.memory.slowest = max(self.memory.slowest, time.monotonic() - began)

    def _make(self, **columns: str) -> str:
        talk = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        names, values = ["id", *columns], [f"'{talk}'", *columns.values()]
        with self.connection.transaction():
            self.connection.execute(f"insert into public.talks ({', '.join(names)}) values ({', '.join(values)})")
        self.memory.made.add(talk)
        return talk

    def _create(self) -> None:
        self.own.append(self._make(status="'active'"))
        self.shared.append(self._make(status="'active'"))

    def _abandon(self) -> None:
        """Leave a draft behind, with a paper and a visitor of long ago."""
        talk = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        visitor = str(uuid.UUID(int=self.random.getrandbits(128), version=4))
        with self.connection.transaction():
            # Its children first: their references are checked at the commit, or it is there by then.
            self.connection.execute("insert into public.papers (name, talk) values ('p', %s)", [talk])
            self.connection.execute(
                "insert into public.talks (id, updated_at) values (%s, now() - interval '3 days')", [talk]
            )
            self.connection.execute(
                "insert into public.visitors values (%s, %s, now() - interval '3 days')", [visitor, talk]
            )
        self.memory.made.add(talk)
        self.memory.papers[talk] += 1
        self.memory.abandoned.append((talk, visitor))

    def _update(self) -> None:
        if self.own:
            talk = self.random.choice(self.own)
            with self.connection.transaction():
                done = self.connection.execute(
                    "update public.talks set title = 'new', updated_at = now() where id = %s", [talk]
                )
            assert done.rowcount == 1, f"{talk} in use is gone"

    def _upsert(self) -> None:
        """A row by its name: made by one writer, updated by the others; the app's own upsert waits at most for those."""
        slug = f"slug {self.random.randint(1, 5)}"
        with self.connection.transaction():
            row = self.connection.execute(
                "insert into public.talks (slug, status) values (%s, 'active') "
                "on conflict (slug) do update set updated_at = now() returning id::text as id",
                [slug],
            ).fetchone()
        assert row
        self.memory.made.add(row["id"])
        self.memory.used.add(row["id"])

    def _crosswise(self) -> None:
        """Write into two shared talks in any order."""
        talks = self.random.sample(sorted(self.shared), 2) if len(self.shared) > 1 else []
        with self.connection.transaction():
            for talk in talks:
                self.connection.execute("insert into public.lines (talk, body) values (%s, 'x')", [talk])
        self._saved(talks)

    def _deferred(self) -> None:
        """Reply to a line that is inserted afterwards."""
        if not self.shared:
            return
        talk = self.random.choice(self.shared)
        with self.connection.transaction():
            row = self.connection.execute(
                "select nextval(pg_get_serial_sequence('public.lines', 'id')) as id"
            ).fetchone()
            assert row
            self.connection.execute(
                "insert into public.lines (talk, body, reply_to) values (%s, 'a', %s)", [talk, row["id"]]
            )
            self.connection.execute(
                "insert into public.lines (id, talk, body) overriding system value values (%s, %s, 'q')",
                [row["id"], talk],
            )
        self._saved([talk, talk])

    def _come_back(self) -> None:
        """Write a message into a talk that was left behind: saved, or refused because it is not there."""
        if self.memory.abandoned:
            talk, _ = self.random.choice(self.memory.abandoned)
            try:
                with self.connection.transaction():
                    self.connection.execute("insert into public.lines (talk, body) values (%s, 'late')", [talk])
            except psycopg.errors.ForeignKeyViolation:
                self.memory.gone.add(talk)
            else:
                self._saved([talk])

    def _heartbeat(self) -> None:
        if self.memory.abandoned:
            talk, visitor = self.random.choice(self.memory.abandoned)
            with self.connection.transaction():
                done = self.connection.execute("update public.visitors set seen = now() where id = %s", [visitor])
            (self.memory.used if done.rowcount else self.memory.gone).add(talk)

    def _upsert_visitor(self) -> None:
        if self.memory.abandoned:
            talk, visitor = self.random.choice(self.memory.abandoned)
            try:
                with self.connection.transaction():
                    self.connection.execute(
                        "insert into public.visitors values (%s, %s, now()) on conflict (id) do update set seen = now()",
                        [visitor, talk],
                    )
            except psycopg.errors.ForeignKeyViolation:
                self.memory.gone.add(talk)
            else:
                self.memory.used.add(talk)

    def _delete(self) -> None:
        if self.own and self.random.random() < 0.3:
            talk = self.own.pop()
            with self.connection.transaction():
                self.connection.execute("delete from public.talks where id = %s", [talk])
            self.memory.deleted.add(talk)

    def _saved(self, talks: list[str]) -> None:
        self.memory.used.update(talks)
        self.memory.lines.update(talks)
