"""Adopt a team's table, run, restore and look, as the tests of this room do: one call each, in the contract's words."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from tests.sql.driver import Connection, Policy, call, policies, scalar, store

SERVICE: dict[str, Any] = {"service": True}
ADA = "a0a0a0a0-0000-4000-8000-00000000000a"
BOB = "b0b0b0b0-0000-4000-8000-00000000000b"


def user(user_id: str) -> dict[str, Any]:
    """Return a signed-in caller."""
    return {"user_id": user_id}


def create(connection: Connection, *statements: str) -> None:
    """Run the statements of a team's migration, each by itself."""
    for statement in statements:
        connection.execute(statement)


def adopt_sessions(connection: Connection, table: str, kind: str = "chat", **arguments: Any) -> Any:
    """Adopt a table as sessions; rows that were there before count too unless `p_existing` says otherwise."""
    arguments = {"p_existing": True} | arguments
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in arguments.items()}
    named = "".join(f", {name} => %({name})s" for name in values)
    return scalar_named(
        connection,
        f"select lull.adopt_sessions(%(table)s, %(kind)s{named})",
        {"table": table, "kind": kind, **values},
    )


def scalar_named(connection: Connection, query: str, values: dict[str, Any]) -> Any:
    """Return the one value of a query with named parameters."""
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return next(iter(row.values()))


def refusal(connection: Connection, statement: str, *values: Any) -> str:
    """Run a call that must be refused as not adoptable; return its sentence and what it proposes."""
    try:
        with connection.transaction():
            connection.execute(statement, values)
    except psycopg.Error as error:
        assert error.sqlstate == "PT422", error
        parts = (error.diag.message_primary, error.diag.message_hint)
        return "\n".join(part for part in parts if part)
    raise AssertionError(f"accepted: {statement}")


def lines_of(report: dict[str, Any], table: str) -> list[dict[str, Any]]:
    """Return the lines of a dry run or report that are about one table."""
    return [line for line in report["policies"] if table in (line.get("table"), line.get("target"))]


def dry_run(connection: Connection, table: str, **arguments: Any) -> list[dict[str, Any]]:
    """Return the dry run's lines about one table."""
    arguments = {"p_policies": policies()} | arguments
    store(connection, arguments["p_policies"])
    return lines_of(call(connection, "lull_preview_cleanup", **arguments), table)


def would(connection: Connection, table: str, **arguments: Any) -> int:
    """Count the rows of a table that a run would take now."""
    return sum(line["would"] for line in dry_run(connection, table, **arguments))


def did(report: dict[str, Any], table: str) -> int:
    """Count the rows of a table that a run took."""
    return sum(line["did"] for line in lines_of(report, table))


def latest_run(connection: Connection) -> str:
    return str(scalar(connection, "select id from lull.cleanup_runs order by started_at desc limit 1"))


def restore_run(connection: Connection, run: str | None = None) -> dict[str, Any]:
    """Restore what a run took, the latest one's by default; call on as long as a call brings something back."""
    run = run or latest_run(connection)
    answer = call(connection, "lull_restore_run", p_run=run)
    while answer.get("remaining") and answer["restored"]:
        before = answer
        answer = call(connection, "lull_restore_run", p_run=run)
        answer["restored"] += before["restored"]
    return answer


def restore_key(
    connection: Connection, table: str, key: str, caller: dict[str, Any] = SERVICE
) -> dict[str, Any] | None:
    """Restore one row with what went with it; null where the archive has none for this caller."""
    answer: dict[str, Any] | None = scalar(
        connection, "select lull.restore_key(%s, %s, %s)", table, key, json.dumps(caller)
    )
    return answer


def transition(connection: Connection, verb: str, key: str, caller: dict[str, Any] = SERVICE) -> dict[str, Any]:
    """Call lull_<verb>_session as the API does."""
    return call(connection, f"lull_{verb}_session", p_session=key, p_caller=caller)


def refused(connection: Connection, verb: str, key: str, caller: dict[str, Any] = SERVICE) -> psycopg.Error:
    """Call lull_<verb>_session, which must be refused; return the error."""
    try:
        with connection.transaction():
            transition(connection, verb, key, caller)
    except psycopg.Error as error:
        return error
    raise AssertionError(f"{verb} of {key} was answered")


def keys_of(connection: Connection, table: str) -> list[str]:
    """Return the ids of a table, sorted."""
    rows = connection.execute(f"select id::text as id from {table} order by 1").fetchall()
    return [row["id"] for row in rows]


def archived(connection: Connection, table: str) -> int:
    """Count the keys of a table that the archive holds."""
    return int(scalar(connection, "select count(*) from lull.archive_keys where target = %s", table))


def stale_rows_policy(table: str, clock: str, **changes: Any) -> Policy:
    """Return a policy that archives the rows of a table put on the list by lull.adopt(), two days old or older."""
    return policies()[0] | {
        "name": "team-rows", "target": table, "clock": clock, "equals": {}, "nulls": [], "growth_factor": None,
        "age_seconds": 2 * 86400, "reason": "row that the team's app left behind",
    } | changes  # fmt: skip
