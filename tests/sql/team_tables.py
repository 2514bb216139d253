"""A team's own tables: adopt one, clean it, look at it exactly."""

from __future__ import annotations

from typing import Any

from tests.sql.driver import Connection, Policy, call, line, policies, run_cleanup, scalar

POLICY = "team-rows"

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


def adopt(connection: Connection, table: str, clock: str = "touched", **arguments: str | None) -> str:
    """Put a table on the allow-list; raises psycopg.Error with every reason when it is refused."""
    named = "".join(f", {name} => %({name})s" for name in arguments)
    values = {"p_table": table, "p_clock": clock, **arguments}
    row = connection.execute(f"select lull.adopt(%(p_table)s, %(p_clock)s{named}) as answer", values).fetchone()
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


def snapshot(connection: Connection, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the tables, as one text and column by column; a difference of a bit shows."""
    with connection.transaction():
        for name, value in OUTPUT.items():
            connection.execute("select set_config(%s, %s, true)", (name, value))
        return {table: _rows(connection, table) for table in tables}


def _rows(connection: Connection, table: str) -> list[tuple[Any, ...]]:
    names = connection.execute(
        """
        select quote_ident(attname) as name from pg_attribute
        where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
        """,
        (table,),
    ).fetchall()
    # concat() uses a type's output function, where a cast of bpchar to text would lose its blanks.
    columns = ", ".join(f"case when {row['name']} is not null then concat(t.{row['name']}) end" for row in names)
    rows = connection.execute(f"select array[t::text, {columns}] as everything from {table} t order by 1").fetchall()
    return [tuple(row["everything"]) for row in rows]
