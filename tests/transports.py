"""The door to the database, opened each way there is, and functions to call through it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from api.database import Database
from api.database.direct import Direct
from api.errors import DatabaseRefusal, Problem
from api.settings import Settings
from infra.local.stack import LocalSupabase
from tests.calls import settings
from tests.database_probes import create_probes, drop_probes


@pytest.fixture(scope="session")
def probes(running_stack: LocalSupabase) -> Iterator[None]:
    """The functions of tests.database_probes, in the stack's database."""
    with psycopg.connect(running_stack.database_url, autocommit=True) as sql:
        create_probes(sql, running_stack.environment())
        yield
        drop_probes(sql)


class Asked(Database):
    """Calls directly from an event loop of each call's own, with nothing left to look up or to open."""

    def call(self, function: str, arguments: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        direct = self._connected()
        assert isinstance(direct, Direct)
        with suppress(psycopg.Error, Problem, DatabaseRefusal):
            if direct._known(function, arguments) is None:
                with direct._pool.connection(time.monotonic() + timeout_seconds) as connection:
                    direct._compose(connection, function, arguments)
        return asyncio.run(self.call_async(function, arguments, timeout_seconds=timeout_seconds))


@pytest.fixture(params=["postgrest", "direct", "asked"])
def transport(request: pytest.FixtureRequest) -> str:
    """Which way the calls go."""
    return str(request.param)


@pytest.fixture
def settings_for(running_stack: LocalSupabase, probes: None) -> Callable[..., Settings]:
    """Makes settings that lead to the stack one way or the other, with changes."""

    def made(transport: str, **changes: Any) -> Settings:
        direct = {} if transport == "postgrest" else {"database_url": running_stack.database_url}
        return settings(running_stack.environment(), **{**direct, **changes})

    return made


@pytest.fixture
def database(settings_for: Callable[..., Settings], transport: str) -> Database:
    """The door, opened that way."""
    return (Asked if transport == "asked" else Database)(settings_for(transport))


@pytest.fixture
def login(running_stack: LocalSupabase) -> Iterator[Callable[[str], str]]:
    """Creates a login with no rights of its own and returns its URL; it is gone after the test."""
    created = []
    with psycopg.connect(running_stack.database_url, autocommit=True) as sql:

        def create(name: str) -> str:
            sql.execute(f"create role {name} login password 'for-one-test'")
            created.append(name)
            return as_login(running_stack.database_url, f"{name}:for-one-test")

        yield create
        for name in created:
            sql.execute(f"drop owned by {name}; drop role {name}")


def as_login(url: str, user: str) -> str:
    """The same database for another `user:password`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{user}@{parts.netloc.rpartition('@')[2]}{parts.path}"


def call(database: Database, function: str, *, timeout_seconds: float = 10, **arguments: Any) -> dict[str, Any]:
    """Call a function by its arguments' names."""
    return database.call(function, arguments, timeout_seconds=timeout_seconds)


def running(sql: psycopg.Connection[Any], function: str) -> int:
    """How many calls of a function the server is busy with."""
    others = "select from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query ilike %s"
    return sql.execute(others, (f"%{function}%",)).rowcount
