"""Databases that are filled once and kept: each contender works on a fresh copy of one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from infra.local.environment import ROOT
from infra.migrate import SQL
from tests.bench import dataset
from tests.bench.dataset import LULL, PLAIN, Connection, Tables
from tests.bench.nodejs import Node
from tests.bench.servers import Servers, quiet
from tests.database import migrated

WORK = "work_"  # how copies are called; left-over ones are dropped at the next start


@dataclass(frozen=True)
class Base:
    """What a database holds: `rows` sessions, `stale` of which a cleanup takes, in tables of one shape."""

    name: str
    shape: str
    rows: int
    stale: int
    modes: int = 1

    @property
    def tables(self) -> Tables:
        return {"lull": LULL, "plain": PLAIN}[self.shape]

    def digest(self) -> str:
        """Changes when what is in the database would."""
        texts = [repr(self), Path(dataset.__file__).read_text()]
        texts += [path.read_text() for path in sorted((SQL / "migrations").glob("*.sql"))]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True)
class Copy:
    """A copy of a base to work on."""

    base: Base
    database: str
    cutoff: datetime


class Bases:
    """The kept databases of a server."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._filled_at: dict[str, datetime] = {}

    def ensure(self, bases: Iterable[Base]) -> None:
        """Fill what is missing or out of date, and bring all to this release's functions."""
        with self._servers.connect() as admin:
            _drop_copies(admin)
            missing = [base for base in bases if _notes(admin, base.name).get("data") != base.digest()]
        if missing:
            self._servers.stop()
            self._servers.start(for_loading=True)
            for base in missing:
                self._fill(base)
            self._servers.stop()
            os.sync()
            self._servers.start()
        release = _release()
        with self._servers.connect() as admin:
            for base in bases:
                notes = _notes(admin, base.name)
                if notes["release"] != release:
                    migrated(self._servers.postgres.url(base.name))
                    _note(admin, base.name, {**notes, "release": release})
                self._filled_at[base.name] = datetime.fromisoformat(notes["at"])

    @contextmanager
    def copy(self, base: Base) -> Iterator[Copy]:
        """Copy a base, read it all into memory, and drop it at the end."""
        database = f"{WORK}{base.name}"
        with self._servers.connect() as admin:
            admin.execute(f"create database {database} template {base.name} strategy file_copy")
            try:
                self.warm(database)
                admin.execute("checkpoint")
                yield Copy(base, database, self.cutoff(base))
            finally:
                admin.execute(f"drop database {database} with (force)")

    def cutoff(self, base: Base) -> datetime:
        """What is older is stale: the data does not change its mind while it is kept."""
        return self._filled_at[base.name] - timedelta(hours=24)

    def warm(self, database: str) -> None:
        """Read every table and index once."""
        with self._servers.connect(database) as connection:
            tables = connection.execute(
                "select c.oid::regclass from pg_class c where c.relkind = 'r' and c.reltuples > 0"
                " and c.relnamespace in ('lull'::regnamespace, 'public'::regnamespace)"
            ).fetchall()
            for (table,) in tables:
                connection.execute(f"select count(*) from {table}")

    def _fill(self, base: Base) -> None:
        print(f"filling {base.name}: {base.rows:,} sessions, {base.stale:,} of them stale …", flush=True)
        began = time.monotonic()
        servers = self._servers
        with servers.connect() as admin:
            admin.execute(f"drop database if exists {base.name}")
            admin.execute(f"create database {base.name}")
            servers.postgres.create_roles(base.name)
            url = servers.postgres.url(base.name)
            migrated(url)
            with servers.connect(base.name) as connection:
                at = connection.execute("select now()").fetchone()
                if base.shape == "peers":
                    _fill_peers(connection, url, servers.node, base)
                else:
                    _fill_tables(connection, base)
            assert at is not None
            _note(admin, base.name, {"data": base.digest(), "at": at[0].isoformat(), "release": _release()})
        print(f"  in {time.monotonic() - began:.0f} s", flush=True)


def _fill_tables(connection: Connection, base: Base) -> None:
    if base.shape == "plain":
        connection.execute(dataset.PLAIN_SCHEMA)
        connection.execute(dataset.DRAFTS_INDEX if base.modes == 1 else dataset.MODES_INDEX)
        connection.execute("select lull.adopt('public.plain_sessions', 'last_activity_at')")
    dataset.fill(connection, base.tables, rows=base.rows, stale=base.stale, modes=base.modes)


def _fill_peers(connection: Connection, url: str, node: Node, base: Base) -> None:
    """The tables of Django and connect-pg-simple, made by themselves."""
    command = [sys.executable, "-m", "tests.bench.contenders.django_clearsessions", "prepare"]
    subprocess.run(command, env={**quiet(os.environ), "DATABASE_URL": url}, cwd=ROOT, check=True)
    connection.execute((node.scripts / "node_modules/connect-pg-simple/table.sql").read_bytes())
    for statement in dataset.PEERS:
        connection.execute(statement.format(base.rows, base.stale))
    connection.execute("vacuum (analyze) django_session, public.session")


def _drop_copies(admin: Connection) -> None:
    left = admin.execute("select datname from pg_database where datname like %s", (f"{WORK}%",)).fetchall()
    for (name,) in left:
        admin.execute(f"drop database {name} with (force)")


def _notes(admin: Connection, database: str) -> dict[str, str]:
    """What was noted about a database when it was filled; nothing when that was not finished."""
    found = admin.execute(
        "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", (database,)
    ).fetchone()
    notes: dict[str, str] = json.loads(found[0]) if found and found[0] else {}
    return notes


def _note(admin: Connection, database: str, notes: dict[str, str]) -> None:
    admin.execute(f"comment on database {database} is '{json.dumps(notes)}'")


def _release() -> str:
    files = [*sorted(SQL.rglob("*.sql")), ROOT / "api" / "cleanup" / "policies.toml"]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
