"""How the tests call the API as the administrator, and put rows of a given age under it."""

from typing import Any

import psycopg

from api.settings import Settings
from tests.policies import FILE

CLEANUP = "/api/admin/cleanup-sessions"
SECRET = "the-secret-of-the-tests"
ADMIN = {"Authorization": f"Bearer {SECRET}"}


def settings(environment: dict[str, str] | None = None, **changes: Any) -> Settings:
    """Settings with the tests' secret and policies, for the Supabase of `environment` if any."""
    known = {"SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_JWT_SECRET", "SERVICE_SECRET"}
    reached = {name.lower(): value for name, value in (environment or {}).items() if name in known}
    given = {"cron_secret": SECRET, "database_url": None, "policies_file": str(FILE)}
    return Settings(**{**given, **reached, **changes})


def add_session(
    sql: psycopg.Connection[Any],
    kind: str = "chat",
    status: str = "draft",
    *,
    age: str = "25 h",
    **columns: Any,
) -> str:
    """Insert a session whose last activity was `age` ago; return its id."""
    given = {"kind": kind, "status": status, **columns}
    names = "".join(f", {name}" for name in given)
    values = "".join(f", %({name})s" for name in given)
    row = sql.execute(
        f"insert into lull.sessions (last_activity_at{names}) "
        f"values (now() - %(age)s::interval{values}) returning id",
        {"age": age, **given},
    ).fetchone()
    assert row is not None
    return str(row["id"])


def add_drafts(sql: psycopg.Connection[Any], count: int, *, age: str = "25 h") -> None:
    """Insert `count` drafts of this age at once."""
    sql.execute(
        "insert into lull.sessions (kind, last_activity_at) "
        "select 'chat', now() - %s::interval from generate_series(1, %s)",
        (age, count),
    )


def count_sessions(sql: psycopg.Connection[Any]) -> int:
    """How many sessions there are."""
    row = sql.execute("select count(*) as n from lull.sessions").fetchone()
    assert row is not None
    return int(row["n"])
