"""Drive the SQL functions as the service does: one call, one JSON answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from api.cleanup.policies import Policy as TypedPolicy
from tests.policies import policy_arguments

Connection = psycopg.Connection[Any]
Policy = dict[str, Any]


def policies(**changes: Policy) -> list[Policy]:
    """Return the policies of the tests; `changes` are by name with underscores: abandoned_drafts={"max_rows": 5}."""
    return [policy | changes.get(policy["name"].replace("-", "_"), {}) for policy in policy_arguments()]


def call(connection: Connection, function: str, **arguments: Any) -> dict[str, Any]:
    """Call a public function by name and return its answer."""
    values = {
        key: json.dumps(value) if isinstance(value, dict | list) else value
        for key, value in arguments.items()
    }
    named = ", ".join(f"{key} => %({key})s" for key in values)
    row = connection.execute(f"select public.{function}({named})", values).fetchone()
    assert row is not None
    answer = next(iter(row.values())) if isinstance(row, dict) else row[0]
    assert isinstance(answer, dict)
    return answer


def store(connection: Connection, given: list[Policy]) -> None:
    """Store policies as a migration did that found them sound: a caller may send no others."""
    role = scalar(connection, "select current_setting('role')")
    connection.execute("reset role")
    connection.execute(
        """
        select lull.store_policies(array(
          select lull.read_definition(e, n::integer) from jsonb_array_elements(%(given)s::jsonb) with ordinality x (e, n)
          where e ->> 'target' in (select name from lull.targets) and e ->> 'clock' is not null
            and (e ->> 'age_seconds')::float >= 0)), lull.store_age_bounds(%(given)s)
        """,
        {"given": json.dumps(given)},
    )
    connection.execute(f"set role {role}")


@contextmanager
def stored(connection: Connection, given: Iterable[TypedPolicy]) -> Iterator[None]:
    """A database that tests share, with these policies instead of the tests' own."""
    store(connection, [policy.arguments() for policy in given])
    yield
    store(connection, policies())


def preview(connection: Connection, policy: str, *, p_store: bool = True, **arguments: Any) -> dict[str, Any]:
    """Return the dry run's line of one policy, of policies that are stored before unless told."""
    if p_store and "p_policies" in arguments:
        store(connection, arguments["p_policies"])
    arguments.setdefault("p_policies", policies())
    lines = call(connection, "lull_preview_cleanup", **arguments)["policies"]
    found: dict[str, Any] = next(line for line in lines if line["policy"] == policy)
    return found


@dataclass
class Run:
    """A cleanup run on one connection, a step at a time."""

    connection: Connection
    id: str = ""
    token: str = ""
    begun: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def begin(
        cls, connection: Connection, only: str | None = None, *, p_store: bool = True, **arguments: Any
    ) -> Run:
        """Begin a run, of policies that are stored before unless told."""
        if p_store and "p_policies" in arguments:
            store(connection, arguments["p_policies"])
        arguments = {
            "p_policies": policies(),
            "p_caller": "test",
            "p_lease_seconds": 60,
            "p_only": only,
        } | arguments
        function = "lull_begin_row_cleanup" if "p_key" in arguments else "lull_begin_cleanup"
        begun = call(connection, function, **arguments)
        return cls(connection, begun.get("run_id") or "", begun.get("token") or "", begun)

    def _call(self, function: str, connection: Connection | None = None, **arguments: Any) -> dict[str, Any]:
        return call(connection or self.connection, function, p_run=self.id, p_token=self.token, **arguments)

    def open(self, policy: str) -> dict[str, Any]:
        return self._call("lull_open_policy", p_policy=policy)

    def batch(self, policy: str, size: int = 1000, connection: Connection | None = None) -> dict[str, Any]:
        return self._call("lull_cleanup_batch", connection, p_policy=policy, p_size=size)

    def lane(self, policy: str, lane: int, size: int, connection: Connection | None = None) -> dict[str, Any]:
        return self._call("lull_cleanup_lane", connection, p_policy=policy, p_size=size, p_lane=lane)

    def skip(self, policy: str, reason: str) -> dict[str, Any]:
        return self._call("lull_skip_row", p_policy=policy, p_reason=reason)

    def finish(self, failures: dict[str, str] | None = None) -> dict[str, Any]:
        return self._call("lull_finish_cleanup", p_failures=failures or {}, p_files={})

    def drain(self, policy: str, size: int = 1000) -> None:
        """Batch until done, halving what fails as the service does."""
        now = size
        while True:
            answer = self.batch(policy, now)
            if answer["done"]:
                return
            failed = answer["failed"]
            now = max(1, now // 2) if failed and not answer["skipped"] else size if failed else now


def run_cleanup(
    connection: Connection,
    only: str | None = None,
    *,
    size: int = 1000,
    each: Callable[[Run], None] = lambda _: None,
    **arguments: Any,
) -> dict[str, Any]:
    """Run the whole cleanup; `each` is called after a policy is opened. Return the report."""
    run = Run.begin(connection, only, **arguments)
    assert run.begun["started"], run.begun
    for policy in run.begun["policies"]:
        if run.open(policy)["outcome"] == "open":
            each(run)
            run.drain(policy, size)
    return run.finish()


def line(report: dict[str, Any], policy: str) -> dict[str, Any]:
    """Return a policy's line of a report."""
    found: dict[str, Any] = next(entry for entry in report["policies"] if entry["policy"] == policy)
    return found


def scalar(connection: Connection, query: str, *values: Any) -> Any:
    """Return the one value of a query."""
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return next(iter(row.values())) if isinstance(row, dict) else row[0]


def add_session(
    connection: Connection, kind: str = "chat", status: str = "draft", idle: str = "25 hours", **columns: Any
) -> str:
    """Insert a session that was last used `idle` ago and return its id."""
    moment = {"paused": "paused_at", "ended": "ended_at"}.get(status)
    if status == "active" and kind == "chat":
        moment = "first_message_at"
    columns = {"kind": kind, "status": status, **columns}
    names = ", ".join(columns)
    values = ", ".join(f"%({name})s" for name in columns)
    return str(
        scalar_named(
            connection,
            f"insert into lull.sessions ({names}, last_activity_at{', ' + moment if moment else ''}) "
            f"values ({values}, now() - %(idle)s::interval{', now()' if moment else ''}) returning id",
            {**columns, "idle": idle},
        )
    )


def scalar_named(connection: Connection, query: str, values: dict[str, Any]) -> Any:
    """Return the one value of a query with named parameters."""
    row = connection.execute(query, values).fetchone()
    assert row is not None
    return next(iter(row.values())) if isinstance(row, dict) else row[0]
