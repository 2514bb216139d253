"""A database without Lull in it, to migrate in a test's own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.sql_servers import Database, Server, database_on


@contextmanager
def blank_database(server: Server, owner: str | None = None) -> Iterator[Database]:
    """Create a database with the roles of a Supabase project and nothing in it; drop it in the end."""
    with database_on(server, owner=owner) as database:
        server.create_roles(database.name)
        yield database


def create_role(server: Server, name: str, attributes: str = "login password 'secret'") -> None:
    """Create a role once per server; it is nobody special."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        if not connection.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone():
            connection.execute(f"create role {name} {attributes}".encode())
