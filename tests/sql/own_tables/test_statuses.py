"""The row decides: its status as it is stored, by the names that the adoption gives; an unnamed one is never stale."""

from __future__ import annotations

import json
import re

import psycopg
import pytest

from tests.sql.driver import Connection, run_cleanup, scalar
from tests.sql.own_tables.team import (
    ADA,
    BOB,
    SERVICE,
    adopt_sessions,
    create,
    did,
    dry_run,
    keys_of,
    refused,
    transition,
    user,
    would,
)
from tests.sql_servers import Database

MATCHES = """
    create table public.matches (
      id uuid primary key default gen_random_uuid(), state text not null default 'waiting', result text,
      last_move_at timestamptz not null default now());
    create index on public.matches (last_move_at);
    create table public.plies (
      id int primary key, match_id uuid not null references public.matches on delete cascade, move text);
    create index on public.plies (match_id);
"""
CHATS = """
    create table public.threads (
      id uuid primary key default gen_random_uuid(), author uuid, status text not null default 'draft',
      updated_at timestamptz not null default now());
    create index on public.threads (updated_at);
"""


def key(number: int) -> str:
    return f"5e5e5e5e-0000-4000-8000-{number:012d}"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.fixture
def matches(db: Connection) -> Connection:
    """A finished match, one that begins tomorrow, and one that both players left; three hours old."""
    db.execute(MATCHES)
    adopt_sessions(
        db,
        "public.matches",
        "game",
        p_clock="last_move_at",
        p_status="state",
        p_statuses={"active": ["running", "waiting"], "paused": ["adjourned"], "ended": ["resigned"]},
        p_below={"public.plies": "goes along"},
    )
    for number, state in enumerate(["finished", "announced", "running"], 1):
        db.execute(
            "insert into public.matches (id, state, last_move_at) values (%s, %s, now() - interval '3 hours')",
            [key(number), state],
        )
    db.execute("insert into public.plies select n, id, 'e4' from (select id, row_number() over (order by id) as n from public.matches) m")  # fmt: skip
    return db


def test_a_status_that_is_not_named_is_not_stale_and_the_dry_run_counts_it(matches: Connection) -> None:
    said = json.dumps(dry_run(matches, "public.matches"))
    assert would(matches, "public.matches") == 1
    assert re.search(r"\b2 rows[^\"]*status", said), said
    report = run_cleanup(matches)
    assert did(report, "public.matches") == 1
    assert keys_of(matches, "public.matches") == [key(1), key(2)]
    assert scalar(matches, "select array_agg(id order by id) from public.plies") == [1, 2]


def test_a_null_status_is_kept(db: Connection) -> None:
    create(db, CHATS, "alter table public.threads alter status drop not null")
    adopt_sessions(db, "public.threads")
    db.execute("insert into public.threads (status, updated_at) values (null, now() - interval '9 days')")
    assert did(run_cleanup(db), "public.threads") == 0


def test_a_status_that_a_trigger_sets_is_judged_as_it_is_stored(db: Connection) -> None:
    create(db, CHATS)
    create(
        db,
        "alter table public.threads add imported boolean not null default false",
        """create function public.imported_is_active() returns trigger language plpgsql as $$
        begin if new.imported then new.status := 'active'; end if; return new; end $$""",
        """create trigger imported_is_active before insert on public.threads
        for each row execute function public.imported_is_active()""",
    )
    adopt_sessions(db, "public.threads")
    db.execute(
        "insert into public.threads (id, imported, updated_at) values (%s, true, now() - interval '9 days'), "
        "(%s, false, now() - interval '9 days')",
        [key(1), key(2)],
    )
    assert did(run_cleanup(db), "public.threads") == 1
    assert keys_of(db, "public.threads") == [key(1)]


@pytest.mark.parametrize("stored", ["boolean", "enum", "varchar(9)", "smallint", "domain"])
def test_a_status_of_any_type_is_compared_as_text(db: Connection, stored: str) -> None:
    names = {
        "boolean": {"draft": ["false"], "active": ["true"]},
        "smallint": {"draft": ["0", "7"], "active": ["1"]},
    }.get(stored, {"draft": ["new", "draft"], "active": ["live"]})
    create(
        db,
        "create type public.stages as enum ('new', 'draft', 'live')",
        "create domain public.stage as text check (value in ('new', 'draft', 'live'))",
    )
    type_ = {"enum": "public.stages", "domain": "public.stage"}.get(stored, stored)
    create(db, CHATS, f"alter table public.threads drop status, add stage {type_}")
    adopt_sessions(db, "public.threads", p_status="stage", p_statuses=names)
    for number, value in enumerate([names["draft"][0], names["draft"][-1], names["active"][0]], 1):
        db.execute(
            "insert into public.threads (id, stage, updated_at) values (%s, %s, now() - interval '9 days')",
            [key(number), value],
        )
    report = run_cleanup(db)
    assert did(report, "public.threads") == 2, report
    assert keys_of(db, "public.threads") == [key(3)]
    assert transition(db, "activate", key(1), SERVICE)["restored"] is True
    assert scalar(db, "select stage::text from public.threads where id = %s", key(1)) == names["active"][0]


@pytest.fixture
def limited(db: Connection) -> Connection:
    """A table whose status must be one of its table of stages; the adoption names one that is not there."""
    create(
        db,
        "create table public.stages (name text primary key)",
        "insert into public.stages values ('draft'), ('open'), ('closed')",
        CHATS,
        "alter table public.threads add constraint known_stage foreign key (status) references public.stages",
    )
    adopt_sessions(
        db,
        "public.threads",
        p_owner="author",
        p_statuses={"draft": ["draft"], "active": ["open"], "ended": ["gone"]},
    )
    db.execute("insert into public.threads (id, author) values (%s, %s)", [key(1), ADA])
    return db


def test_a_transition_writes_the_first_value_that_is_named(limited: Connection) -> None:
    assert transition(limited, "activate", key(1), user(ADA))["session"]["status"] == "active"
    assert scalar(limited, "select status from public.threads") == "open"


def test_a_status_that_the_table_refuses_is_a_409_that_names_the_constraint(limited: Connection) -> None:
    transition(limited, "activate", key(1), user(ADA))
    before = scalar(limited, "select t::text from public.threads t")
    error = refused(limited, "end", key(1), user(ADA))
    assert error.sqlstate == "PT409"
    assert "known_stage" in str(error.diag.message_primary)
    assert scalar(limited, "select t::text from public.threads t") == before


def test_a_status_that_nothing_was_named_for_is_a_409(limited: Connection) -> None:
    transition(limited, "activate", key(1), user(ADA))
    assert refused(limited, "pause", key(1), user(ADA)).sqlstate == "PT409"
    assert scalar(limited, "select status from public.threads") == "open"


def test_a_trigger_that_refuses_a_transition_is_a_409_with_its_words(limited: Connection) -> None:
    create(
        limited,
        """create function public.frozen() returns trigger language plpgsql as $$
        begin raise exception 'the archive is frozen on Sundays'; end $$""",
        "create trigger frozen before update on public.threads for each row execute function public.frozen()",
    )
    error = refused(limited, "activate", key(1), user(ADA))
    assert error.sqlstate == "PT409"
    assert "frozen" in str(error.diag.message_primary)
    assert scalar(limited, "select status from public.threads") == "draft"


def test_a_deferred_constraint_that_refuses_is_told_before_the_answer(limited: Connection) -> None:
    limited.execute("alter table public.threads alter constraint known_stage deferrable initially deferred")
    transition(limited, "activate", key(1), user(ADA))
    assert refused(limited, "end", key(1), user(ADA)).sqlstate == "PT409"
    assert scalar(limited, "select status from public.threads") == "open"


def test_a_stranger_gets_404_for_every_transition(limited: Connection) -> None:
    for verb in ("activate", "pause", "resume", "end", "get"):
        error = refused(limited, verb, key(1), user(BOB))
        assert (error.sqlstate, isinstance(error, psycopg.Error)) == ("PT404", True), verb
    assert scalar(limited, "select status from public.threads") == "draft"
