"""Postgres 18 (embedded) and 15 (Debian's), each with a fresh, migrated database for every test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from infra.local.postgres import UNSAFE, LocalPostgres, embedded_binaries
from tests.database import migrated

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
TEMPLATE = "lull_template"
PASSWORD = "for-one-test-session"
_numbers = itertools.count()

Connection = psycopg.Connection[DictRow]


class Database:
    """A fresh migrated database on one of the servers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[Connection] = []

    def connect(self, *, autocommit: bool = True) -> Connection:
        """Open another connection, closed when the test ends; rows are dicts."""
        connection = psycopg.connect(self.url, autocommit=autocommit, row_factory=dict_row)
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


@pytest.fixture(scope="session")
def sql_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], LocalPostgres]]:
    """A server of each version that is asked for, with a migrated template database, until the session ends."""
    with ExitStack() as running:

        @cache
        def server_of(version: int) -> LocalPostgres:
            binaries = embedded_binaries() if version == 18 else DEBIAN_15
            if not (binaries / "postgres").exists():
                pytest.skip(f"no Postgres {version} in {binaries} (Debian: apt-get install postgresql-15)")
            home = tmp_path_factory.mktemp(f"postgres{version}")
            server = LocalPostgres(home, PASSWORD, binaries=binaries, settings=UNSAFE)
            running.enter_context(server)
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
            # Schema public of a new database has no rights for the API's roles yet.
            server.create_roles(TEMPLATE)
            migrated(server.url(TEMPLATE))
            return server

        yield server_of


@pytest.fixture(scope="session", params=[18, 15], ids=lambda version: f"postgres{version}")
def sql_server(request: pytest.FixtureRequest, sql_servers: Callable[[int], LocalPostgres]) -> LocalPostgres:
    """A Postgres server of each version."""
    return sql_servers(request.param)


@pytest.fixture
def sql_database(sql_server: LocalPostgres) -> Iterator[Database]:
    """A database of the test's own, just migrated: once per Postgres version."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(sql_server.url(), autocommit=True) as connection:
        clone = sql.SQL("create database {} template {} strategy file_copy")
        connection.execute(clone.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
        database = Database(sql_server.url(name))
        yield database
        database.close()
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
