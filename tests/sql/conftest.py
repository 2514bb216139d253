"""A database that many tests share, because each undoes what it did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.database import migrated
from tests.sql.blank import blank_database
from tests.sql_servers import Connection, Database, Server


@pytest.fixture(scope="module")
def shared_database(sql_server: Server) -> Iterator[Database]:
    """A migrated database of the module's, once per Postgres version."""
    with blank_database(sql_server) as database:
        migrated(database.url)
        yield database


@pytest.fixture
def undone(shared_database: Database) -> Iterator[Connection]:
    """A connection inside a transaction that is rolled back; catch an expected error inside a savepoint."""
    connection = shared_database.connect()
    with connection.transaction(force_rollback=True):
        yield connection
    connection.close()
