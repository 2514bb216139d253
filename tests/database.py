"""A migrated database, and how it is emptied between tests. The benchmark uses it too, without pytest."""

from contextlib import suppress

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from infra import migrate
from tests.policies import policy_arguments

# What a migration fills and a test must find as it was.
KEPT = {"migrations", "objects", "policies", "policies_known", "policy_rules", "settings", "targets"}


def migrated(database_url: str) -> None:
    """Bring a database to this release, with the policies of the tests."""
    migrate.apply(database_url, policy_arguments())


def truncate(connection: psycopg.Connection[DictRow]) -> None:
    """Empty every table of schema lull that a test can write, and forget targets that a test adopted."""
    while names := _filled(connection):
        with suppress(psycopg.errors.DeadlockDetected):  # with a request that the last test did not wait for
            connection.execute(sql.SQL("truncate {} restart identity cascade").format(sql.SQL(", ").join(names)))
    connection.execute(
        "delete from lull.policies p using lull.targets t where t.name = p.target and not t.builtin"
    )
    connection.execute("delete from lull.targets where not builtin")


def _filled(connection: psycopg.Connection[DictRow]) -> list[sql.Identifier]:
    """The tables with rows, or with statistics: a truncation takes half a millisecond for each table and index."""
    rows = connection.execute(
        "select relname as name, reltuples >= 0 as known from pg_class "
        "where relkind = 'r' and relnamespace = 'lull'::regnamespace"
    ).fetchall()
    mine = [row for row in rows if row["name"] not in KEPT]
    asked = [
        sql.SQL("select {} as name where {} or exists (select from {})").format(
            row["name"], row["known"], sql.Identifier("lull", row["name"])
        )
        for row in mine
    ]
    if not asked:
        return []
    found = connection.execute(sql.SQL(" union all ").join(asked)).fetchall()
    return [sql.Identifier("lull", row["name"]) for row in found]
