"""A migrated database, and how it is emptied between tests. The benchmark uses it too, without pytest."""

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
    rows = connection.execute("select tablename from pg_tables where schemaname = 'lull'").fetchall()
    names = [sql.Identifier("lull", row["tablename"]) for row in rows if row["tablename"] not in KEPT]
    while names:
        try:
            connection.execute(sql.SQL("truncate {} restart identity cascade").format(sql.SQL(", ").join(names)))
            break
        except psycopg.errors.DeadlockDetected:
            continue  # with a request that the last test did not wait for: it has ended now, or will
    connection.execute(
        "delete from lull.policies p using lull.targets t where t.name = p.target and not t.builtin"
    )
    connection.execute("delete from lull.targets where not builtin")
