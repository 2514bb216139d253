"""A team's own rows over HTTP: read, kept, archived and brought back, for their owner alone."""

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.callers import SESSIONS, as_service, as_user, problem_of
from tests.calls import ADMIN, CLEANUP
from tests.sessions.file_calls import announce

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
ADA = "11111111-aaaa-4000-8000-00000000000a"
WITH_MESSAGE = "77777777-bbbb-4000-8000-000000000001"
EMPTY = "77777777-bbbb-4000-8000-000000000002"


@pytest.fixture
def talks(sql: Sql) -> Iterator[Sql]:
    """Two drafts of Ada's of three days ago, one with a message, in an adopted table with row security."""
    sql.execute("""
        create table public.talks (
          id uuid primary key default gen_random_uuid(), author uuid not null, status text not null default 'draft',
          first_message_at timestamptz, updated_at timestamptz not null default now());
        create index on public.talks (updated_at);
        create table public.lines (
          id bigint generated always as identity primary key, talk uuid not null references public.talks on delete cascade,
          body text);
        create index on public.lines (talk);
        alter table public.talks enable row level security;
    """)
    sql.execute("select lull.adopt_sessions('public.talks', 'chat', p_owner => 'author', p_existing => true)")
    for key in (WITH_MESSAGE, EMPTY):
        sql.execute(
            "insert into public.talks (id, author, updated_at) values (%s, %s, now() - interval '3 days')", [key, ADA]
        )
    sql.execute("insert into public.lines (talk, body) values (%s, 'hello')", [WITH_MESSAGE])
    yield sql
    sql.execute("drop table public.lines, public.talks")


def status(api: httpx.Client, key: str, caller: dict[str, str]) -> int:
    return api.get(f"{SESSIONS}/{key}", headers=caller).status_code


def test_a_draft_with_a_message_stays_and_the_other_comes_back_to_its_owner(
    early: httpx.Client, talks: Sql, environment: Environment
) -> None:
    ada, bob = as_user(environment, ADA), as_user(environment)
    assert [status(early, key, ada) for key in (WITH_MESSAGE, EMPTY)] == [200, 200]
    assert [status(early, key, bob) for key in (WITH_MESSAGE, EMPTY)] == [404, 404]
    shown = early.get(CLEANUP, headers=ADMIN, params={"dryRun": "true"}).json()
    assert sum(line["wouldDelete"] for line in shown["policies"] if line.get("table") == "public.talks") == 1
    report = early.post(CLEANUP, headers=ADMIN)
    assert report.status_code == 200, report.text
    assert [status(early, key, ada) for key in (WITH_MESSAGE, EMPTY)] == [200, 410]
    assert [status(early, key, bob) for key in (WITH_MESSAGE, EMPTY)] == [404, 404]
    assert early.post(f"{SESSIONS}/{EMPTY}/activate", headers=bob).status_code == 404
    back = early.post(f"{SESSIONS}/{EMPTY}/activate", headers=ada)
    assert (back.status_code, back.json()["session"]["status"]) == (200, "active")
    assert back.headers["session-restored"] == "true"
    row = talks.execute("select status, first_message_at from public.talks where id = %s", [EMPTY]).fetchone()
    assert row and row["status"] == "active" and row["first_message_at"]


def test_a_transition_that_the_table_refuses_is_a_409_that_names_the_constraint(
    early: httpx.Client, talks: Sql, environment: Environment
) -> None:
    talks.execute("alter table public.talks add constraint only_drafts check (status = 'draft')")
    answer = early.post(f"{SESSIONS}/{EMPTY}/activate", headers=as_service(environment))
    assert problem_of(answer)[0] == 409
    assert "only_drafts" in answer.json()["detail"]
    assert talks.execute("select status from public.talks where id = %s", [EMPTY]).fetchone() == {"status": "draft"}


def test_an_id_in_two_tables_of_one_caller_is_a_409_that_names_both(
    early: httpx.Client, talks: Sql, environment: Environment
) -> None:
    ada = as_user(environment, ADA)
    created = early.post(SESSIONS, headers=ada, json={"kind": "room"}).json()["session"]["id"]
    talks.execute("insert into public.talks (id, author) values (%s, %s)", [created, ADA])
    answer = early.post(f"{SESSIONS}/{created}/activate", headers=ada)
    assert problem_of(answer) == (409, "ambiguous-session")
    assert sorted(answer.json()["tables"]) == ["lull.sessions", "public.talks"]
    named = early.get(f"{SESSIONS}/{created}", headers=ada, params={"table": "public.talks"})
    assert (named.status_code, named.json()["session"]["status"]) == (200, "draft")


def test_a_row_whose_id_another_users_session_has_can_have_no_files(
    early: httpx.Client, talks: Sql, environment: Environment
) -> None:
    bob = "22222222-aaaa-4000-8000-00000000000b"
    taken = early.post(SESSIONS, headers=as_user(environment, ADA), json={"kind": "room"}).json()["session"]["id"]
    talks.execute("insert into public.talks (id, author) values (%s, %s)", [taken, bob])
    answer = early.post(f"{SESSIONS}/{taken}/files", headers=as_user(environment, bob), json=announce())
    assert problem_of(answer) == (409, "id-taken")


def test_a_status_that_the_adoption_does_not_name_is_a_409_and_changes_nothing(
    early: httpx.Client, talks: Sql, environment: Environment
) -> None:
    talks.execute(
        "select lull.adopt_sessions('public.talks', 'chat', p_owner => 'author', p_existing => true, "
        """p_statuses => '{"draft": ["draft"], "active": ["active"]}')"""
    )
    answer = early.post(f"{SESSIONS}/{EMPTY}/end", headers=as_user(environment, ADA))
    assert (problem_of(answer), answer.json()["currentStatus"]) == ((409, "status-not-named"), "draft")
    assert talks.execute("select status from public.talks where id = %s", [EMPTY]).fetchone() == {"status": "draft"}
