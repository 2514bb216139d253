"""A team's own tables: adopt one, clean it, look at it exactly."""

from __future__ import annotations

from typing import Any

from tests.sql.driver import Connection, Policy, call, line, policies, run_cleanup, scalar

POLICY = "team-rows"
Snapshot = dict[str, list[dict[str, str | None]]]

# The settings that text forms depend on: a snapshot is taken under these, whatever the session says.
OUTPUT = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "timezone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
}


def policy_on(target: str, **changes: Any) -> Policy:
    """A policy that archives every row of a table whose `touched` is more than an hour ago."""
    everything: Policy = {
        "name": POLICY,
        "target": target,
        "clock": "touched",
        "equals": {},
        "nulls": [],
        "age_seconds": 3600,
        "growth_factor": None,
        "reason": "untouched row of the team's",
    }
    return policies()[0] | everything | changes


def create(connection: Connection, *statements: str) -> None:
    """Run the statements that set a team's tables up."""
    for statement in statements:
        connection.execute(statement)


def create_table(connection: Connection, table: str, columns: str, *rows: str) -> None:
    """Create a table with the columns, a `touched` of long ago with an index, and the rows."""
    connection.execute(f"create table {table} ({columns}, touched timestamptz default '2000-01-01')")
    connection.execute(f"create index on {table} (touched)")
    for row in rows:
        connection.execute(f"insert into {table} values {row}")


def adopt(connection: Connection, table: str, clock: str = "touched", **arguments: str | None) -> str:
    """Put a table on the allow-list; raises psycopg.Error with every reason when it is refused."""
    named = "".join(f", {name} => %({name})s" for name in arguments)
    values = {"p_table": table, "p_clock": clock, **arguments}
    row = connection.execute(
        f"select lull.adopt(%(p_table)s, %(p_clock)s{named}) as answer", values
    ).fetchone()
    assert row is not None
    return str(row["answer"])


def clean(connection: Connection, target: str, **changes: Any) -> dict[str, Any]:
    """Run the cleanup of one table alone and return the policy's line of the report."""
    policy = policy_on(target, **changes)
    return line(run_cleanup(connection, POLICY, p_policies=[*policies(), policy]), POLICY)


def restore(connection: Connection) -> dict[str, Any]:
    """Bring back what the latest run archived."""
    run = scalar(connection, "select id from lull.cleanup_runs order by started_at desc limit 1")
    return call(connection, "lull_restore_run", p_run=run)


def snapshot(connection: Connection, *tables: str) -> Snapshot:
    """Return every row of the tables, as one text and column by column; a difference of a bit shows."""
    with connection.transaction():
        for name, value in OUTPUT.items():
            connection.execute("select set_config(%s, %s, true)", (name, value))
        return {table: _rows(connection, table) for table in tables}


def _rows(connection: Connection, table: str) -> list[dict[str, str | None]]:
    columns = connection.execute(
        """
        select attname as name, quote_ident(attname) as quoted from pg_attribute
        where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
        """,
        (table,),
    ).fetchall()
    names = ["the row", *(column["name"] for column in columns)]
    # No column is named like the alias. concat() uses a type's output function, where a cast of bpchar to text would lose its blanks.
    texts = [
        "one_row::text",
        *(
            f"case when num_nulls(one_row.{c['quoted']}) = 0 then concat(one_row.{c['quoted']}) end"
            for c in columns
        ),
    ]
    rows = connection.execute(
        f"select array[{', '.join(texts)}] as texts from {table} one_row order by one_row::text"
    ).fetchall()
    return [dict(zip(names, row["texts"], strict=True)) for row in rows]


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """Say what differs, a line each: nothing when the tables are exactly as they were."""
    found = [
        f"{t}: {len(before[t])} rows, now {len(after[t])}" for t in before if len(before[t]) != len(after[t])
    ]
    for table in before:
        for old, new in zip(before[table], after[table], strict=False):
            found += [
                f"{table}.{name}: {old[name]!r}, now {new.get(name)!r}"
                for name in old
                if old[name] != new.get(name)
            ]
    return found
