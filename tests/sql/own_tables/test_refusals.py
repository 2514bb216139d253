"""A table that cannot be adopted is refused once, with every reason and the statements to paste."""

from __future__ import annotations

import json

import pytest

from tests.sql.blank import blank_database, create_role
from tests.sql.driver import Connection, run_cleanup, scalar
from tests.sql.own_tables.team import adopt_sessions, create, did, dry_run, refusal
from tests.sql_servers import Database, Server

ADOPT = "select lull.adopt_sessions('public.talks', 'chat', p_clock => 'updated_at')"
TALKS = """create table public.talks (id uuid primary key default gen_random_uuid(), status text default 'draft',
  updated_at timestamptz not null default now())"""
INDEX = "create index on public.talks (updated_at)"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def refused_unchanged(db: Connection, statement: str = ADOPT) -> str:
    """Return what a refused adoption says; it has stored nothing."""
    said = refusal(db, statement)
    assert scalar(db, "select count(*) from lull.targets where not builtin") == 0
    return said


def test_a_view_is_refused(db: Connection) -> None:
    create(db, TALKS, "create view public.seen as select * from public.talks")
    said = refused_unchanged(db, "select lull.adopt_sessions('public.seen', 'chat')")
    assert "view" in said or "not a plain table" in said


def test_lulls_own_view_of_the_seeds_name_is_refused_with_the_way_to_drop_it(db: Connection) -> None:
    said = refused_unchanged(db, "select lull.adopt_sessions('public.fe_chat_sessions', 'chat')")
    assert "Lull" in said
    assert "drop view public.fe_chat_sessions" in said or "--without-seed-views" in said


def test_a_table_of_lulls_is_refused(db: Connection) -> None:
    assert "Lull" in refused_unchanged(db, "select lull.adopt_sessions('lull.sessions', 'chat')")


@pytest.mark.parametrize(
    "key", ["id bigint primary key", "id uuid", "id uuid, n int, primary key (id, n)", "id text primary key"]
)
def test_a_table_without_a_uuid_key_is_refused(db: Connection, key: str) -> None:
    create(db, f"create table public.talks ({key}, updated_at timestamptz)", INDEX)
    assert "uuid" in refused_unchanged(db)


@pytest.mark.parametrize("type_", ["bigint", "timestamp", "date", "text"])
def test_a_clock_of_another_type_is_refused_with_the_statement_that_changes_it(db: Connection, type_: str) -> None:
    create(db, f"create table public.talks (id uuid primary key, updated_at {type_})", INDEX)
    said = refused_unchanged(db)
    assert "updated_at" in said
    assert "timestamptz" in said
    assert "alter table public.talks" in said.lower()


def test_a_clock_without_an_index_is_refused_with_the_statement_that_makes_one(db: Connection) -> None:
    create(db, TALKS)
    said = refused_unchanged(db)
    assert "create index" in said.lower()
    statement = next(part for part in said.replace(";", "\n").split("\n") if "create index" in part.lower())
    db.execute(statement[statement.lower().index("create index") :].replace(" concurrently", ""))
    adopt_sessions(db, "public.talks", p_clock="updated_at")


def test_an_index_that_only_mentions_the_clock_does_not_serve(db: Connection) -> None:
    create(db, TALKS, "create index on public.talks (id, updated_at)")
    assert "index" in refused_unchanged(db)


def test_a_cascading_key_without_an_index_is_refused_with_the_statement(db: Connection) -> None:
    create(
        db, TALKS, INDEX,
        "create table public.lines (id int primary key, talk uuid references public.talks on delete cascade)",
    )  # fmt: skip
    said = refused_unchanged(db)
    assert "public.lines" in said
    assert "create index on public.lines" in said.lower() or "create index concurrently on public.lines" in said.lower()


@pytest.mark.parametrize("level", ["talks", "lines"])
def test_forced_row_security_that_hides_rows_from_lulls_owner_is_refused(sql_server: Server, level: str) -> None:
    """Lull belongs to a role that is no superuser, as on a hosted project."""
    from psycopg.conninfo import make_conninfo

    from tests.database import migrated

    create_role(sql_server, "lull_owner")
    with blank_database(sql_server, owner="lull_owner") as database:
        url = make_conninfo(database.url, user="lull_owner", password="secret")
        migrated(url)
        db = database.connect()
        create(
            db, "grant create on schema public to lull_owner", "set role lull_owner", TALKS, INDEX,
            "create table public.lines (id int primary key, talk uuid references public.talks on delete cascade)",
            "create index on public.lines (talk)",
            f"alter table public.{level} enable row level security",
        )  # fmt: skip
        adopt_sessions(db, "public.talks", p_clock="updated_at")
        scalar(db, "select lull.release('public.talks')")
        db.execute(f"alter table public.{level} force row level security")
        said = refusal(db, ADOPT)
        assert f"public.{level}" in said
        assert "row" in said


def test_an_untrusted_owner_is_refused_by_name(db: Connection, sql_server: Server) -> None:
    create_role(sql_server, "team_partner")
    create(db, TALKS, INDEX, "alter table public.talks owner to team_partner")
    assert "team_partner" in refused_unchanged(db)
    adopt_sessions(db, "public.talks", p_clock="updated_at", p_trust=["team_partner"])


def test_a_search_path_with_a_schema_where_a_stranger_may_create_is_refused(db: Connection, sql_server: Server) -> None:
    create_role(sql_server, "team_partner")
    create(db, TALKS, INDEX, "grant create on schema public to team_partner")
    said = refused_unchanged(db)
    assert "public" in said
    assert "team_partner" in said or "create" in said.lower()


def test_every_reason_is_told_at_once(db: Connection) -> None:
    create(
        db,
        "create table public.talks (id bigint primary key, state text, updated_at timestamp)",
        "create table public.lines (id int primary key, talk bigint references public.talks on delete cascade)",
    )
    said = refused_unchanged(
        db,
        "select lull.adopt_sessions('public.talks', 'chat', p_clock => 'updated_at', p_status => 'status', p_owner => 'user_id')",
    )
    for reason in ("uuid", "timestamptz", "public.lines", "status", "user_id"):
        assert reason in said, f"{reason} is not told: {said}"


@pytest.mark.parametrize(
    ("argument", "said_of"),
    [
        ("p_below => '{\"public.nothing\": \"keeps\"}'", "public.nothing"),
        ("p_below => '{\"public.lines\": \"maybe\"}'", "public.lines"),
        ("p_below => '{\"public.lines\": {\"clock\": \"body\"}}'", "body"),
        ("p_below => '{\"public.aside\": \"keeps\"}'", "public.aside"),
        ("p_statuses => '{\"sleeping\": [\"x\"]}'", "sleeping"),
        ("p_statuses => '{\"draft\": [\"x\"], \"active\": [\"x\"]}'", "x"),
        ("p_owner => 'status'", "status"),
        ("p_first_message => 'status'", "status"),
    ],
)  # fmt: skip
def test_an_argument_that_means_nothing_is_refused_by_its_name(db: Connection, argument: str, said_of: str) -> None:
    create(
        db, TALKS, INDEX,
        "create table public.lines (id int primary key, body text, talk uuid references public.talks on delete cascade)",
        "create index on public.lines (talk)",
        "create table public.aside (id int primary key)",
    )  # fmt: skip
    assert said_of in refused_unchanged(db, f"{ADOPT[:-1]}, {argument})")


def test_a_proposal_changes_nothing_and_its_call_adopts(db: Connection) -> None:
    create(
        db, TALKS, INDEX,
        "create table public.lines (id int primary key, body text, talk uuid references public.talks on delete cascade)",
        "create index on public.lines (talk)",
    )  # fmt: skip
    db.execute("insert into public.talks (updated_at) values (now() - interval '9 days'), (now())")
    proposal = scalar(db, "select to_jsonb(lull.propose_adoption('public.talks', 'chat'))")
    assert scalar(db, "select count(*) from lull.targets where not builtin") == 0
    assert "public.lines" in json.dumps(proposal)
    db.execute(proposal["call"])
    assert scalar(db, "select count(*) from lull.targets where name = 'public.talks'") == 1


def test_a_proposal_of_a_table_that_lacks_an_index_says_which(db: Connection) -> None:
    create(db, TALKS)
    proposal = scalar(db, "select to_jsonb(lull.propose_adoption('public.talks', 'chat'))")
    assert "create index" in json.dumps(proposal["missing"]).lower()


def test_rows_that_were_there_before_are_kept_unless_the_adoption_says_so(db: Connection) -> None:
    create(db, TALKS, INDEX)
    db.execute("insert into public.talks (updated_at) values (now() - interval '9 days')")
    adopt_sessions(db, "public.talks", p_existing=False)
    assert "adopt" in json.dumps(dry_run(db, "public.talks"))
    assert did(run_cleanup(db), "public.talks") == 0
    adopt_sessions(db, "public.talks", p_existing=True)
    assert did(run_cleanup(db), "public.talks") == 1


def test_releasing_a_table_that_was_never_adopted_is_refused(db: Connection) -> None:
    create(db, TALKS)
    import psycopg

    with pytest.raises(psycopg.Error, match=r"public\.talks"):
        db.execute("select lull.release('public.talks')")
