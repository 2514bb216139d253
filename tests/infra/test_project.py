"""The local Supabase is enough of a hosted project that an app's own schema loads and its rows are protected."""

import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from psycopg.rows import DictRow

from infra.local.stack import LocalSupabase

SCHEMA = """
create table public.profiles (
  id uuid primary key references auth.users on delete cascade,
  note uuid default extensions.uuid_generate_v4(),
  email text default auth.email()
);
alter table public.profiles enable row level security;
create policy "own profile" on public.profiles using (auth.uid() = id and auth.role() = 'authenticated');
grant select on public.profiles to authenticated;
"""


@pytest.fixture
def rest(running_stack: LocalSupabase) -> Iterator[httpx.Client]:
    headers = {"apikey": running_stack.environment()["SUPABASE_ANON_KEY"]}
    with httpx.Client(base_url=f"{running_stack.supabase_url}/rest/v1", headers=headers, trust_env=False) as client:
        yield client


def test_an_apps_schema_loads_is_seen_at_once_and_protects_rows_by_user(
    running_stack: LocalSupabase, sql: psycopg.Connection[DictRow], rest: httpx.Client
) -> None:
    ada, ben = uuid4(), uuid4()
    sql.execute("insert into auth.users (id) values (%s), (%s)", (ada, ben))
    try:
        sql.execute(SCHEMA)
        sql.execute("insert into public.profiles (id) values (%s), (%s)", (ada, ben))
        claims = {"sub": str(ada), "role": "authenticated", "aud": "authenticated"}
        token = jwt.encode(claims, running_stack.credentials.jwt_secret, algorithm="HS256")
        as_ada = {"Authorization": f"Bearer {token}"}
        deadline = time.monotonic() + 20
        while (answer := rest.get("/profiles?select=id", headers=as_ada)).status_code == 404:
            assert time.monotonic() < deadline, "PostgREST was not told of the new table"
        assert answer.json() == [{"id": str(ada)}]
        assert rest.get("/profiles").status_code == 401
    finally:
        sql.execute("drop table if exists public.profiles")
        sql.execute("delete from auth.users where id in (%s, %s)", (ada, ben))
    while rest.get("/profiles").status_code != 404:
        assert time.monotonic() < deadline + 20, "PostgREST was not told that the table is gone"


def test_the_anon_key_may_call_nothing_of_lulls(rest: httpx.Client) -> None:
    assert rest.post("/rpc/lull_stats", json={}).status_code in (401, 403, 404)
