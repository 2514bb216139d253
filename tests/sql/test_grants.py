"""Who may do what, proved with `set role` for every object in the catalog: a new one is covered without a word here."""

from __future__ import annotations

import re

import psycopg
import pytest

from infra.local.environment import ROOT
from tests.sql.driver import scalar
from tests.sql_servers import Connection

RELATIONS = """
    select c.oid::regclass::text as name, c.relkind from pg_class c
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
      and (c.relnamespace = 'lull'::regnamespace
        or c.relnamespace = 'public'::regnamespace and c.oid::regclass::text in (select identity from lull.objects))
"""
FUNCTIONS = """
    select p.oid::regprocedure::text as signature, n.nspname as schema, p.proname as name, p.prosecdef as definer,
      coalesce(p.proconfig, '{}') as settings
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('lull', 'public')
"""


@pytest.fixture
def db(undone: Connection) -> Connection:
    connection = undone
    connection.execute("set search_path = ''")
    return connection


def relations(db: Connection) -> list[str]:
    """List every table, view and sequence of Lull's."""
    names = [row["name"] for row in db.execute(RELATIONS)]
    assert {"lull.sessions", "lull.archive_pages", "lull.archive_pages_id_seq", "public.fe_chat_sessions"} <= set(names)
    return names


def refused(db: Connection, statement: str) -> bool:
    """Whether the role of this moment is denied to do it."""
    try:
        with db.transaction(force_rollback=True):
            db.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_a_role_of_the_api_reads_and_writes_no_relation_of_ours(db: Connection, role: str) -> None:
    names = relations(db)
    kinds = {row["name"]: row["relkind"] for row in db.execute(RELATIONS)}
    db.execute(f"set role {role}")
    for name in names:
        assert refused(db, f"select * from {name}"), name
        if kinds[name] == "r":
            assert refused(db, f"insert into {name} default values"), name
            assert refused(db, f"delete from {name} where false"), name
            assert refused(db, f"truncate {name} cascade"), name
        if kinds[name] == "S":
            assert refused(db, f"select nextval('{name}')"), name


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "public"])
def test_no_role_has_a_grant_on_a_relation_of_ours(db: Connection, role: str) -> None:
    grantee = "0" if role == "public" else f"'{role}'::regrole"
    granted = db.execute(
        f"""
        select c.oid::regclass::text as name, a.privilege_type from pg_class c, aclexplode(c.relacl) a
        where a.grantee = {grantee} and c.oid::regclass::text = any (%s)
        union all
        select c.oid::regclass || '.' || t.attname, a.privilege_type
        from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
        where a.grantee = {grantee} and c.oid::regclass::text = any (%s)
        union all
        select 'schema lull', a.privilege_type from pg_namespace n, aclexplode(n.nspacl) a
        where n.nspname = 'lull' and a.grantee = {grantee}
        """,
        [relations(db)] * 2,
    ).fetchall()
    assert granted == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_role_of_the_front_end_executes_no_function(db: Connection, role: str) -> None:
    functions = db.execute(FUNCTIONS).fetchall()
    assert len(functions) > 30
    allowed = db.execute(
        "select s from unnest(%s::text[]) s where has_function_privilege(%s, s, 'execute')",
        ([f["signature"] for f in functions], role),
    ).fetchall()
    assert allowed == []
    db.execute(f"set role {role}")
    assert refused(db, "select public.cleanup_inactive_sessions()")
    assert refused(db, "select public.check_session_expiry(gen_random_uuid())")
    assert refused(db, "select lull.effective_policies()")


def test_the_service_executes_the_operations_and_the_seeds_functions_and_nothing_else(db: Connection) -> None:
    allowed = {
        row["signature"]
        for row in db.execute(FUNCTIONS).fetchall()
        if scalar(db, "select has_function_privilege('service_role', %s, 'execute')", row["signature"])
    }
    operations = {row["signature"] for row in db.execute(FUNCTIONS) if row["name"].startswith("lull_")}
    assert len(operations) >= 9
    assert allowed == operations | {
        "public.cleanup_inactive_sessions()",
        "public.check_session_expiry(uuid)",
    }
    db.execute("set role service_role")
    assert not refused(db, "select public.lull_preview_cleanup('[]')")
    assert not refused(db, "select public.cleanup_inactive_sessions()")


def test_every_operation_runs_as_its_owner_and_has_one_signature(
    db: Connection,
) -> None:
    operations = [f for f in db.execute(FUNCTIONS) if f["name"].startswith("lull_")]
    assert [f["signature"] for f in operations if not f["definer"]] == []
    names = [f["name"] for f in operations]
    assert sorted(names) == sorted(set(names))


OPERATION_CALLS = """
    select p.oid::regprocedure::text as signature,
      format('select %s(%s)', p.oid::regproc, (
        select string_agg(format('null::%s', format_type(a.type, null)), ', ' order by a.n)
        from unnest(p.proargtypes) with ordinality a (type, n))) as call
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace and (p.proname like 'lull\\_%'
      or p.proname in ('cleanup_inactive_sessions', 'check_session_expiry'))
"""


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_every_operation_refuses_a_role_of_the_front_end_by_itself(db: Connection, role: str) -> None:
    """Grants come back wrong from a dump."""
    operations = db.execute(OPERATION_CALLS).fetchall()
    assert len(operations) > 30
    db.execute(f"grant execute on all functions in schema public to {role}")
    db.execute(f"set role {role}")
    for operation in operations:
        refusal = pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"The role {role} may not call")
        with refusal, db.transaction():
            db.execute(operation["call"])


def test_the_service_the_login_of_ones_own_and_the_owner_are_admitted(db: Connection) -> None:
    """Whether the role comes from the login or from `set role`, and with the owner's rights by membership."""
    db.execute("create role deploy; grant postgres to deploy; create role stranger")
    for role in ("none", "postgres", "service_role", "deploy"):
        db.execute(f"set role {role}")
        assert not refused(db, "select public.lull_stats()")
        db.execute("reset role")
    db.execute("grant execute on all functions in schema public to stranger")
    db.execute("set role stranger")
    assert refused(db, "select public.lull_stats()")


def test_every_operation_has_a_statement_timeout(db: Connection) -> None:
    operations = [f for f in db.execute(FUNCTIONS) if f["name"].startswith("lull_")]
    unbounded = [f for f in operations if not any(s.startswith("statement_timeout=") for s in f["settings"])]
    assert [f["signature"] for f in unbounded] == []


def test_our_objects_belong_to_one_owner(db: Connection) -> None:
    owners = db.execute(
        """
        select relowner from pg_class where relnamespace = 'lull'::regnamespace
        union select proowner from pg_proc where pronamespace = 'lull'::regnamespace or proname like 'lull\\_%'
        """
    ).fetchall()
    assert len(owners) == 1


def test_no_statement_deletes_or_updates_without_a_where() -> None:
    """Hosted connections preload safeupdate, which refuses such a statement."""
    for path in ROOT.glob("sql/**/*.sql"):
        text = re.sub(r"--[^\n]*|'[^']*'", "", path.read_text())
        for statement in re.findall(r"\b(?:delete\s+from|update\s+[a-z_.]+(?:\s+\w+)?\s+set)\b[^;]*", text):
            assert re.search(r"\bwhere\b", statement), f"{path.name}: {statement}"
        assert not re.search(r"\btruncate\b", text), path.name


def test_a_function_in_the_callers_search_path_is_not_called_with_our_rights(db: Connection) -> None:
    db.execute("create schema trap")
    body = "begin raise 'trapped'; end"
    db.execute(f"create function trap.now() returns timestamptz language plpgsql as $${body}$$")
    db.execute("grant usage on schema trap to service_role")
    db.execute("set role service_role")
    db.execute("set search_path = trap, pg_catalog")
    with pytest.raises(psycopg.errors.RaiseException, match="trapped"), db.transaction():
        db.execute("select now()")
    assert not refused(db, "select public.lull_preview_cleanup('[]')")
