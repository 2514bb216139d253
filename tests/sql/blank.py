"""A database without Lull in it, to migrate in a test's own way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from infra.local.postgres import LocalPostgres
from tests.sql_servers import Database

_numbers = itertools.count()


@contextmanager
def blank_database(server: LocalPostgres, owner: str = "postgres") -> Iterator[Database]:
    """Create a database with the roles of a Supabase project and nothing in it; drop it in the end."""
    name = sql.Identifier(f"blank_{next(_numbers)}")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0 owner {} strategy file_copy").format(
                name, sql.Identifier(owner)
            )
        )
        server.create_roles(name.as_string().strip('"'))
        database = Database(server.url(name.as_string().strip('"')))
        yield database
        database.close()
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def create_role(server: LocalPostgres, name: str, attributes: str = "login password 'secret'") -> None:
    """Create a role once per server; it is nobody special."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        if not connection.execute("select 1 from pg_roles where rolname = %s", (name,)).fetchone():
            connection.execute(f"create role {name} {attributes}".encode())
