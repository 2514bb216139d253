"""The Postgres servers of the SQL suite, each with a fresh, migrated database for every test.

18 (embedded) and 15 (Debian's) are started here. `LULL_TEST_POSTGRES_URLS` names servers to use instead: URLs of
superusers, separated by blanks, of servers that nobody will miss. Roles that the tests made stay there. One test
process has such a server to itself (`-n 0`): what is open in one database holds up the readers of the event log in all databases.

On 15, `make test` runs what depends on the server most, and `make release-check` the rest.
"""

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from infra.local.postgres import ROLES, UNSAFE, LocalPostgres, embedded_binaries
from tests.database import migrated
from tests.scale import SCALE
from tests.server_folder import server_folder

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "for-one-test-session"
GIVEN = os.environ.get("LULL_TEST_POSTGRES_URLS", "").split()
SERVERS = [pytest.param(url, id=f"given{n}") for n, url in enumerate(GIVEN, 1)] or [
    pytest.param(version, id=f"postgres{version}") for version in (18, 15)
]
ON_15 = ("tests/sql/own_tables/", "tests/sql/test_interleavings.py", "tests/sql/test_run.py", "tests/infra/test_migrate.py")
WHICH_ON_15 = os.environ.get("TEST_POSTGRES_15", "all" if SCALE > 1 else "most")  # or "rest"
_mine = secrets.token_hex(4)  # what a killed run left on a given server is in nobody's way
TEMPLATE = f"lull_template_{_mine}"
_numbers = itertools.count()
_left: dict["Server", list[str]] = {}

Connection = psycopg.Connection[DictRow]


class Server(Protocol):
    """A Postgres server on which tests make databases."""

    def url(self, database: str = "postgres") -> str: ...

    def create_roles(self, database: str = "postgres") -> None: ...


class GivenPostgres:
    """A running server, by the URL of a superuser."""

    def __init__(self, url: str) -> None:
        self._url = url

    def url(self, database: str = "postgres") -> str:
        """Return the connection string of a database."""
        return make_conninfo(self._url, dbname=database)

    def create_roles(self, database: str = "postgres") -> None:
        """Create the roles of a Supabase project where they are missing, and grant what they have in one database."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(ROLES.read_bytes())


class Database:
    """A fresh migrated database on one of the servers."""

    def __init__(self, server: Server, name: str) -> None:
        self.name = name
        self.url = server.url(name)
        self._opened: list[Connection] = []

    def connect(self, *, autocommit: bool = True) -> Connection:
        """Open another connection, closed when the test ends; rows are dicts."""
        connection = psycopg.connect(self.url, autocommit=autocommit, row_factory=dict_row)
        self._opened.append(connection)
        return connection

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


@contextmanager
def database_on(
    server: Server, name: str | None = None, *, template: str = "template0", owner: str | None = None
) -> Iterator[Database]:
    """Create a database, the superuser's unless told, and drop it in the end."""
    name = name or f"lull_test_{_mine}_{next(_numbers)}"
    owned = sql.Identifier(owner) if owner else sql.SQL("default")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        drop_left(server, connection)
        create = sql.SQL("create database {} template {} owner {} strategy file_copy")
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template), owned))
        database = Database(server, name)
        try:
            yield database
        finally:
            database.close()
            end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
            connection.execute(end, [name])
            _left.setdefault(server, []).append(name)


def drop_left(server: Server, connection: psycopg.Connection[Any]) -> None:
    """Drop the databases that ended tests left: at once, a drop waits 100 ms for the last connection to go."""
    for name in _left.pop(server, []):
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def local_postgres(version: int, home: Path) -> LocalPostgres:
    """A server of this version, to be started; the test is skipped where there are no binaries of it."""
    binaries = embedded_binaries() if version == 18 else DEBIAN_15
    if not (binaries / "postgres").exists():
        pytest.skip(f"no Postgres {version} in {binaries} (Debian: apt-get install postgresql-15)")
    return LocalPostgres(home, PASSWORD, environ=os.environ, binaries=binaries, settings=UNSAFE)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to share a given server among test processes."""
    if GIVEN and config.getoption("numprocesses", None):
        raise pytest.UsageError("LULL_TEST_POSTGRES_URLS is set: run the tests in one process (-n 0).")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the rest of Postgres 15 to the release check, or run nothing else."""
    if WHICH_ON_15 == "all":
        return
    on_15 = [item for item in items if "[postgres15" in item.name]
    rest = [item for item in on_15 if not item.nodeid.startswith(ON_15)]
    left_out = rest if WHICH_ON_15 == "most" else [item for item in items if item not in rest]
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session")
def sql_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int | str], Server]]:
    """Each server that is asked for by version or URL, with a migrated template database, until the session ends."""
    with ExitStack() as running:

        @cache
        def server_of(which: int | str) -> Server:
            server: Server
            if isinstance(which, str):
                server = GivenPostgres(which)
            else:
                home = running.enter_context(server_folder(tmp_path_factory, f"postgres{which}"))
                server = running.enter_context(local_postgres(which, home))
            running.callback(_drop_all, server)
            template = running.enter_context(database_on(server, TEMPLATE))
            # Schema public of a new database has no rights for the API's roles yet.
            server.create_roles(TEMPLATE)
            migrated(template.url)
            return server

        yield server_of


def _drop_all(server: Server) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        drop_left(server, connection)


@pytest.fixture(scope="session", params=SERVERS)
def sql_server(request: pytest.FixtureRequest, sql_servers: Callable[[int | str], Server]) -> Server:
    """A Postgres server of each version, or each one given."""
    return sql_servers(request.param)


@pytest.fixture
def sql_database(sql_server: Server) -> Iterator[Database]:
    """A database of the test's own, just migrated: once per Postgres version."""
    with database_on(sql_server, template=TEMPLATE) as database:
        yield database
