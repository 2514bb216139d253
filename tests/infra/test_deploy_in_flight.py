"""A migration commits while calls are in flight: helpers are replaced under them, and none of them fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from api.cleanup.policies import load_policies
from api.settings import Settings
from infra import migrate
from infra.local.environment import ROOT
from tests.sql.driver import scalar
from tests.sql.waiting import beside, wait_until_blocked
from tests.sql_servers import Connection, Database

Deploy = Callable[[str], None]
POLICIES = [policy.arguments() for policy in load_policies(Settings())]
GATE = 7

# What a call waits in. The query after the wait is where Postgres takes notice of what was committed meanwhile.
WAIT = f"""
create function public.lull_wait() returns integer language plpgsql set search_path = '' as $$
begin
  perform pg_advisory_xact_lock_shared({GATE});
  return 1 + count(*) from lull.switches;
end $$
"""
# The call waits in a statement that was planned with the helper, or before the statement that names it.
IN_THE_STATEMENT = (
    "return (select lull.answer(n)::text from (select public.lull_wait() offset 0) waited (n));"
)
BEFORE_IT = "perform public.lull_wait(); return lull.answer(1)::text;"

UNCHANGED = (
    "lull.answer(p_n integer) returns integer language plpgsql set search_path = '' as 'begin return 7; end'"
)
REWRITTEN = UNCHANGED.replace("7", "8")
ANOTHER_RESULT = UNCHANGED.replace("returns integer", "returns text")
MORE_ARGUMENTS = UNCHANGED.replace("p_n integer", "p_n integer, p_m integer")
ONE_TO_LEAVE_OUT = UNCHANGED.replace("p_n integer", "p_n integer, p_m integer default 1").replace("7", "8")
ANOTHER_NAME = "lull.another() returns integer language sql set search_path = '' as 'select 9'"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.fixture
def deploy(sql_database: Database, tmp_path: Path) -> Deploy:
    """Give a function that migrates to a release with one helper more."""
    files = Path(shutil.copytree(ROOT / "sql", tmp_path / "sql"))

    def deployed(helper: str) -> None:
        (files / "functions" / "core" / "zz.sql").write_text(f"create or replace function {helper};")
        migrate.apply(sql_database.url, POLICIES, sql=files)

    return deployed


def make_caller(db: Connection, body: str) -> None:
    """Create an operation that waits at the gate."""
    db.execute(WAIT.encode())
    db.execute(
        "create function public.lull_held() returns text language plpgsql security definer "
        f"set search_path = '' as $$ begin {body} end $$".encode()
    )
    db.execute(
        "insert into lull.objects (kind, identity) "
        "values ('function', 'public.lull_held()'), ('function', 'public.lull_wait()')"
    )


def helpers(db: Connection) -> dict[str, int]:
    rows = db.execute(
        "select oid::regprocedure::text as name, oid::int from pg_proc where pronamespace = 'lull'::regnamespace"
    )
    return {row["name"]: row["oid"] for row in rows}


def let_an_hour_pass(db: Connection) -> None:
    """Let everything that is retired have been retired an hour earlier."""
    retired = db.execute(
        "select oid::regprocedure::text as name, substring(obj_description(oid, 'pg_proc') from 9)::timestamptz "
        "- interval '1 hour' as at from pg_proc where obj_description(oid, 'pg_proc') like 'Retired %'"
    ).fetchall()
    for each in retired:
        db.execute(f"comment on function {each['name']} is 'Retired {each['at'].isoformat()}'".encode())


def test_every_helper_is_replaced_in_place(db: Connection, deploy: Deploy) -> None:
    deploy(UNCHANGED)
    before = helpers(db)
    deploy(REWRITTEN)
    assert helpers(db) == before
    assert scalar(db, "select lull.answer(1)") == 8


@pytest.mark.parametrize("body", [IN_THE_STATEMENT, BEFORE_IT], ids=["in the statement", "before it"])
@pytest.mark.parametrize(
    "helper",
    [UNCHANGED, REWRITTEN, ANOTHER_RESULT, MORE_ARGUMENTS, ONE_TO_LEAVE_OUT, ANOTHER_NAME],
    ids=["unchanged", "rewritten", "another result", "more arguments", "one to leave out", "another name"],
)
def test_a_call_in_flight_does_not_fail(
    db: Connection, sql_database: Database, deploy: Deploy, helper: str, body: str
) -> None:
    deploy(UNCHANGED)
    make_caller(db, body)
    gate, caller = sql_database.connect(), sql_database.connect()
    gate.execute("select pg_advisory_lock(%s)", (GATE,))
    with beside() as start:
        call = start(scalar, caller, "select public.lull_held()")
        try:
            wait_until_blocked(db, caller, gate)
            for _ in range(2):
                deploy(helper)
        finally:
            gate.execute("select pg_advisory_unlock_all()")
        assert call.result(timeout=60) in ("7", "8")


def test_a_helper_that_is_no_more_is_dropped_by_the_first_migration_an_hour_later(
    db: Connection, deploy: Deploy
) -> None:
    deploy(UNCHANGED)
    deploy(ANOTHER_NAME)
    deploy(ANOTHER_NAME)
    assert "lull.answer(integer)" in helpers(db)
    let_an_hour_pass(db)
    assert "lull.answer(integer)" in helpers(db)
    deploy(ANOTHER_NAME)
    assert "lull.answer(integer)" not in helpers(db)


def test_a_helper_that_comes_back_in_time_stays(db: Connection, deploy: Deploy) -> None:
    deploy(UNCHANGED)
    before = helpers(db)["lull.answer(integer)"]
    deploy(ANOTHER_NAME)
    deploy(REWRITTEN)
    let_an_hour_pass(db)
    deploy(REWRITTEN)
    assert helpers(db)["lull.answer(integer)"] == before


@pytest.mark.parametrize("helper", [ANOTHER_RESULT, ONE_TO_LEAVE_OUT], ids=["result", "one to leave out"])
def test_a_call_of_this_release_never_reaches_a_retired_helper(
    db: Connection, deploy: Deploy, helper: str
) -> None:
    deploy(UNCHANGED)
    before = helpers(db)["lull.answer(integer)"]
    deploy(helper)
    after = helpers(db)
    assert after[f"lull.replaced_{before}(integer)"] == before
    assert len([name for name in after if name.startswith("lull.answer(")]) == 1
    let_an_hour_pass(db)
    deploy(helper)
    assert before not in helpers(db).values()


def test_a_retired_helper_is_out_of_reach_and_no_matter_of_the_doctors(
    db: Connection, deploy: Deploy
) -> None:
    deploy(UNCHANGED)
    inspected = scalar(db, "select public.lull_inspect()")
    deploy(MORE_ARGUMENTS)
    names = helpers(db)
    assert {"lull.answer(integer)", "lull.answer(integer,integer)"} <= names.keys()
    assert not scalar(db, "select has_function_privilege('service_role', 'lull.answer(integer)', 'execute')")
    assert scalar(db, "select public.lull_inspect()")["functions"] == inspected["functions"]
    deploy(ANOTHER_NAME)
    assert "lull.answer" not in scalar(db, "select public.lull_inspect()")["functions"]


def test_an_operation_with_another_result_is_refused(db: Connection, deploy: Deploy) -> None:
    before = helpers(db)
    with pytest.raises(psycopg.errors.InvalidFunctionDefinition, match="cannot change return type"):
        deploy("public.lull_inspect() returns integer language sql as 'select 1'")
    assert helpers(db) == before


def test_a_deploy_of_this_release_waits_for_no_writer(db: Connection, sql_database: Database) -> None:
    """Nor does any wait for it: a cleanup run of 0.1.0 gives a policy up where a migration holds a table."""
    writer = sql_database.connect(autocommit=False)
    tables = scalar(
        db,
        "select string_agg(oid::regclass::text, ', ') from pg_class "
        "where relnamespace = 'lull'::regnamespace and relkind = 'r'",
    )
    db.execute("drop function lull.is_alone(numeric)")
    writer.execute(f"lock table {tables} in row exclusive mode".encode())
    migrate.apply(f"{sql_database.url}?options=-c%20lock_timeout%3D1s", POLICIES)
    held = "select count(*) from pg_locks where pid = %s and mode = 'RowExclusiveLock' and granted and relation > 16383"
    assert scalar(db, held, writer.info.backend_pid) == tables.count(",") + 1, "the writer was at work all the while"
    assert scalar(db, "select to_regprocedure('lull.is_alone(numeric)') is not null"), "and this was a deploy"
