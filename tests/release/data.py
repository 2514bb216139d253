"""Every row that Lull and a team have, and what became of it."""

from __future__ import annotations

from collections import Counter

from tests.sql.team_tables import Snapshot, snapshot
from tests.sql_servers import Connection

TABLES = """
    select c.oid::regclass::text as name from pg_class c
    where c.relnamespace in ('lull'::regnamespace, 'public'::regnamespace) and c.relkind = 'r' order by 1
"""
# A migration writes these itself. What they had must still be there, except that the policies come from the file.
BOOKS = {"lull.migrations", "lull.objects", "lull.targets"}
POLICIES = "lull.policies"


def rows_of(connection: Connection) -> Snapshot:
    """Return every row of every table, column by column."""
    tables = [row["name"] for row in connection.execute(TABLES).fetchall()]
    return {
        table: [{name: row[name] for name in row if name != "the row"} for row in rows]
        for table, rows in snapshot(connection, *tables).items()
    }


def changes(before: Snapshot, after: Snapshot) -> list[str]:
    """Say what was lost, changed or added, a line each, looking at the columns that there were before."""
    found = [f"{table} is gone" for table in before if table not in after]
    for table, rows in before.items():
        if table == POLICIES or table not in after:
            continue
        columns = list(rows[0]) if rows else []
        had, has = (
            Counter(tuple(row.get(name, "gone") for name in columns) for row in some)
            for some in (rows, after[table])
        )
        found += [f"{table} lost {dict(zip(columns, row, strict=True))}" for row in had - has]
        if table not in BOOKS:
            found += [f"{table} gained {dict(zip(columns, row, strict=True))}" for row in has - had]
    return found
