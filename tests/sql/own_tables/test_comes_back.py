"""What went comes back whole, or stays in the archive with a reason until it can."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, run_cleanup, scalar
from tests.sql.own_tables.team import (
    ADA,
    SERVICE,
    adopt_sessions,
    archived,
    create,
    did,
    restore_key,
    restore_run,
    stale_rows_policy,
    transition,
)
from tests.sql.team_tables import differences, snapshot
from tests.sql_servers import Database


def key(number: int) -> str:
    return f"cccccccc-0000-4000-8000-{number:012d}"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@pytest.mark.parametrize("by", ["run", "key", "activation"])
def test_rows_with_a_deferrable_unique_constraint_come_back_ids_and_all(db: Connection, by: str) -> None:
    create(
        db,
        """create table public.lists (id uuid primary key default gen_random_uuid(),
          status text not null default 'draft', updated_at timestamptz not null default now())""",
        "create index on public.lists (updated_at)",
        """create table public.items (id bigint generated always as identity primary key,
          list uuid not null references public.lists on delete cascade, place int not null, what text,
          unique (list, place) deferrable initially deferred)""",
    )
    adopt_sessions(db, "public.lists", p_below={"public.items": "goes along"})
    db.execute("insert into public.lists (id, updated_at) values (%s, now() - interval '3 days')", [key(1)])
    db.execute(
        "insert into public.items (list, place, what) select %s, n, 'item ' || n from generate_series(1, 3) n",
        [key(1)],
    )
    before = snapshot(db, "public.lists", "public.items")
    assert did(run_cleanup(db), "public.lists") == 1
    if by == "run":
        restore_run(db)
    elif by == "key":
        restore_key(db, "public.lists", key(1))
    else:
        assert transition(db, "activate", key(1), SERVICE)["restored"] is True
        assert scalar(db, "select status from public.lists") == "active"
        before.pop("public.lists")
    assert differences(before, snapshot(db, *before)) == []
    db.execute("insert into public.items (list, place) values (%s, 4)", [key(1)])
    assert scalar(db, "select max(id) from public.items") == 4


@pytest.fixture
def drafts(db: Connection) -> Connection:
    """Three archived drafts with an attachment each: by author 1, by author 2, without one."""
    create(
        db,
        "create table public.people (id int primary key)",
        """create table public.drafts (id uuid primary key default gen_random_uuid(),
          status text not null default 'draft', title text, updated_at timestamptz not null default now())""",
        "create index on public.drafts (updated_at)",
        """create table public.papers (id int primary key, draft uuid not null references public.drafts on delete cascade,
          by_whom int references public.people on delete set null, name text)""",
        "create index on public.papers (draft)",
        "insert into public.people values (1), (2)",
    )
    adopt_sessions(db, "public.drafts", p_below={"public.papers": "goes along"})
    for number, author in enumerate(["1", "2", "null"], 1):
        db.execute("insert into public.drafts (id, updated_at) values (%s, now() - interval '3 days')", [key(number)])
        db.execute(
            f"insert into public.papers values (%s, %s, {author}, %s)",
            [number, key(number), f"paper {number}"],
        )
    return db


def papers(db: Connection) -> list[tuple[Any, ...]]:
    rows = db.execute("select id, draft::text, by_whom, name from public.papers order by id").fetchall()
    return [tuple(row.values()) for row in rows]


CHANGES = {
    "a parent is deleted": (
        ["delete from public.people where id = 1"],
        ["insert into public.people values (1)"],
        [1],
    ),
    "a column must be given": (
        [
            "alter table public.papers add lang text not null default 'en'",
            "alter table public.papers alter lang drop default",
        ],
        ["alter table public.papers alter lang set default 'en'"],
        [1, 2, 3],
    ),
    "a column must not be null": (
        ["alter table public.papers alter by_whom set not null"],
        ["alter table public.papers alter by_whom drop not null"],
        [3],
    ),
    "a value is taken": (
        [
            "create table public.elsewhere (id uuid primary key)",
            "insert into public.drafts (id, status) values ('dddddddd-0000-4000-8000-000000000001', 'active')",
            "insert into public.papers values (2, 'dddddddd-0000-4000-8000-000000000001', null, 'new')",
        ],
        ["delete from public.papers where name = 'new'"],
        [2],
    ),
    "the table is gone": (
        ["alter table public.papers rename to papers_of_old"],
        ["alter table public.papers_of_old rename to papers"],
        [1, 2, 3],
    ),
    "a check refuses": (
        ["alter table public.papers add constraint short check (length(name) < 3)"],
        ["alter table public.papers drop constraint short"],
        [1, 2, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", sorted(CHANGES))
@pytest.mark.parametrize("by", ["run", "activation"])
def test_what_cannot_come_back_stays_with_its_reason_and_comes_back_once_the_cause_is_mended(
    drafts: Connection, change: str, by: str
) -> None:
    do, undo, missing = CHANGES[change]
    before = papers(drafts)
    assert did(run_cleanup(drafts), "public.drafts") == 3
    create(drafts, *do)
    if by == "run":
        answers = [restore_run(drafts)]
    else:
        answers = [transition(drafts, "activate", key(number), SERVICE) for number in (1, 2, 3)]
        statuses = drafts.execute("select status from public.drafts where id = any (%s)", [[key(n) for n in (1, 2, 3)]])
        assert {row["status"] for row in statuses} == {"active"}
    assert (
        scalar(
            drafts,
            "select count(*) from public.drafts where id = any (%s::uuid[])",
            [key(n) for n in (1, 2, 3)],
        )
        == 3
    )
    said = json.dumps(answers)
    assert sum(_missing(answer) for answer in answers) == len(missing), said
    assert all(answer["reasons"] for answer in answers if _missing(answer)), said
    assert "public.drafts" in json.dumps(scalar(drafts, "select public.lull_inspect()")["remainders"])
    create(drafts, *undo)
    for number in missing:
        restore_key(drafts, "public.drafts", key(number))
    after = [paper for paper in papers(drafts) if paper[3] != "new"]
    assert after == before
    assert archived(drafts, "public.drafts") == 0


def _missing(answer: dict[str, Any]) -> int:
    """Return how many rows an answer says are missing: a restore's, or an activation's with the restore's inside."""
    if "missing" in answer:
        return int(answer["missing"])
    return sum(_missing(value) for value in answer.values() if isinstance(value, dict))


def test_values_of_a_column_that_is_gone_stay_in_the_archive(drafts: Connection) -> None:
    run_cleanup(drafts)
    drafts.execute("alter table public.papers rename column name to title")
    answer = restore_run(drafts)
    assert scalar(drafts, "select count(*) from public.papers") == 3
    assert "name" in json.dumps(answer), answer
    drafts.execute("alter table public.papers rename column title to name")
    for number in (1, 2, 3):
        restore_key(drafts, "public.drafts", key(number))
    assert [paper[3] for paper in papers(drafts)] == ["paper 1", "paper 2", "paper 3"]


def test_a_remainder_has_a_full_window_of_its_own(drafts: Connection) -> None:
    run_cleanup(drafts)
    drafts.execute(
        "update lull.archive_pages set archived_at = now() - interval '6 days 23 hours', purge_after = now() + interval '1 hour'"
    )
    drafts.execute("alter table public.papers rename to papers_of_old")
    restore_run(drafts)
    assert scalar(drafts, "select count(*) from lull.archive_pages where kind = 'remainder'") >= 1
    least = scalar(
        drafts,
        "select min(purge_after) > now() + interval '6 days' from lull.archive_pages where kind = 'remainder'",
    )
    assert least is True


def test_a_restore_that_brings_nothing_changes_nothing_and_loses_nothing(drafts: Connection) -> None:
    before = snapshot(drafts, "public.drafts", "public.papers")
    run_cleanup(drafts)
    drafts.execute("alter table public.drafts rename to drafts_of_old")
    first, second = restore_run(drafts), restore_run(drafts)
    assert first.get("restored") == second.get("restored") == 0
    drafts.execute("alter table public.drafts_of_old rename to drafts")
    restore_run(drafts)
    for number in (1, 2, 3):
        restore_key(drafts, "public.drafts", key(number))
    assert differences(before, snapshot(drafts, *before)) == []


@pytest.fixture
def words(db: Connection) -> Connection:
    """Rows whose key and references are equal in another case."""
    if not db.execute("select 1 from pg_available_extensions where name = 'citext'").fetchone():
        pytest.skip("this Postgres has no extension citext (Debian: postgresql-15 has it)")
    create(
        db,
        "create extension citext",
        """create table public.words (id citext primary key, status text not null default 'draft',
          at timestamptz not null default now())""",
        "create index on public.words (status, at, id)",
        "create table public.uses (id int primary key, word citext not null references public.words on delete cascade)",
        "create index on public.uses (word)",
    )
    return db


def test_keys_that_are_equal_in_another_case_are_counted_archived_deleted_and_restored(
    words: Connection,
) -> None:
    scalar(words, "select lull.adopt('public.words', 'at')")
    words.execute(
        "insert into public.words values ('Alpha', 'draft', now() - interval '3 days'), "
        "('beta', 'draft', now() - interval '3 days'), ('GAMMA', 'draft', now() - interval '3 days')"
    )
    words.execute("insert into public.uses values (1, 'alpha'), (2, 'ALPHA'), (3, 'Alpha'), (4, 'gamma')")
    before = snapshot(words, "public.words", "public.uses")
    policy = stale_rows_policy("public.words", "at", equals={"status": "draft"})
    report = run_cleanup(words, size=2, p_policies=[policy])
    (entry,) = report["policies"]
    assert (entry["would"], entry["did"], entry["cascaded"]) == (3, 3, 4)
    restore_run(words)
    assert differences(before, snapshot(words, *before)) == []


def test_a_status_that_is_equal_in_another_case_is_compared_as_text(words: Connection) -> None:
    create(
        words,
        """create table public.talks (id uuid primary key default gen_random_uuid(), status citext not null,
          updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
    )
    adopt_sessions(words, "public.talks")
    words.execute("insert into public.talks (status, updated_at) values ('draft', now() - interval '3 days')")
    assert did(run_cleanup(words), "public.talks") == 1


def test_restoring_for_a_caller_that_is_not_the_owner_gives_nothing(db: Connection) -> None:
    create(
        db,
        """create table public.talks (id uuid primary key, author uuid, status text not null default 'draft',
          updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
    )
    adopt_sessions(db, "public.talks", p_owner="author")
    db.execute("insert into public.talks values (%s, %s, 'draft', now() - interval '3 days')", [key(1), ADA])
    run_cleanup(db)
    assert restore_key(db, "public.talks", key(1), {"user_id": key(9)}) is None
    assert restore_key(db, "public.talks", key(1), {}) is None
    answer = restore_key(db, "public.talks", key(1), {"user_id": ADA})
    assert answer and answer["restored"] == 1
    with pytest.raises(psycopg.errors.UniqueViolation):
        db.execute("insert into public.talks values (%s)", [key(1)])


def test_rows_below_wait_for_their_own_parent_when_another_row_has_the_value_that_they_refer_to(db: Connection) -> None:
    create(
        db,
        """create table public.lists (id uuid primary key default gen_random_uuid(), slug text not null unique,
          status text not null default 'draft', updated_at timestamptz not null default now())""",
        "create index on public.lists (updated_at)",
        "create table public.items (id int primary key, list text not null references public.lists (slug) on delete cascade)",
        "create index on public.items (list)",
    )
    adopt_sessions(db, "public.lists", p_below={"public.items": "goes along"})
    db.execute("insert into public.lists (id, slug, updated_at) values (%s, 'plan', now() - interval '3 days')", [key(1)])
    db.execute("insert into public.items values (1, 'plan')")
    before = snapshot(db, "public.lists", "public.items")
    assert did(run_cleanup(db), "public.lists") == 1
    db.execute("insert into public.lists (id, slug) values (%s, 'plan')", [key(2)])
    answer = restore_key(db, "public.lists", key(1))
    assert answer and (answer["restored"], answer["missing"], len(answer["reasons"])) == (0, 2, 2)
    assert scalar(db, "select count(*) from public.items") == 0, "it is no item of the other list"
    db.execute("delete from public.lists where id = %s", [key(2)])
    answer = restore_key(db, "public.lists", key(1))
    assert answer and (answer["restored"], answer["missing"]) == (2, 0)
    assert differences(before, snapshot(db, *before)) == []


def test_rows_with_columns_of_two_collations_are_compared_with_the_archive(
    db: Connection,
) -> None:
    create(
        db,
        """create table public.lists (id uuid primary key default gen_random_uuid(),
          status text not null default 'draft', updated_at timestamptz not null default now())""",
        "create index on public.lists (updated_at)",
        """create table public.items (id text collate "C" primary key, name text collate "POSIX",
          list uuid not null references public.lists on delete cascade)""",
        "create index on public.items (list)",
        """create function public.shout() returns trigger language plpgsql as $f$
          begin new.name := upper(new.name); return new; end $f$""",
    )
    adopt_sessions(db, "public.lists", p_below={"public.items": "goes along"})
    db.execute("insert into public.lists (id, updated_at) values (%s, now() - interval '3 days')", [key(1)])
    db.execute("insert into public.items values ('one', 'Name', %s)", [key(1)])
    db.execute("create trigger shout before insert on public.items for each row execute function public.shout()")
    before = snapshot(db, "public.lists", "public.items")
    assert did(run_cleanup(db), "public.lists") == 1
    answer = restore_key(db, "public.lists", key(1))
    assert answer and (answer["restored"], answer["missing"]) == (2, 0)
    assert differences(before, snapshot(db, *before)) == [] or "items" in str(answer["reasons"]), answer
