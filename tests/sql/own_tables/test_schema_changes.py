"""A schema changes after it was adopted, before a run and in the middle of one: one table's policy fails by name, at most."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.sql.driver import Connection, Run, add_session, line, policies, run_cleanup, scalar
from tests.sql.own_tables.team import (
    adopt_sessions,
    create,
    did,
    dry_run,
    keys_of,
    lines_of,
    restore_run,
    stale_rows_policy,
)
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


def key(number: int) -> str:
    return f"d0d0d0d0-0000-4000-8000-{number:012d}"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """Six stale drafts of the team's and one of the API's."""
    connection = sql_database.connect()
    create(
        connection,
        """create table public.talks (id uuid primary key default gen_random_uuid(), status text default 'draft',
          title text, updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        """create table public.lines (id bigint generated always as identity primary key, body text,
          talk uuid not null references public.talks on delete cascade)""",
        "create index on public.lines (talk)",
    )
    adopt_sessions(connection, "public.talks", p_below={"public.lines": "goes along"})
    for number in range(1, 7):
        connection.execute(
            "insert into public.talks (id, updated_at) values (%s, now() - interval '3 days' + %s * interval '1 minute')",
            [key(number), number],
        )
    connection.execute("insert into public.lines (body, talk) select 'x', id from public.talks")
    add_session(connection, idle="3 days")
    return connection


CHANGES = {
    "the table is dropped": ["drop table public.talks cascade"],
    "the table is renamed": ["alter table public.talks rename to talks_of_old"],
    "a view takes its place": [
        "alter table public.talks rename to talks_of_old",
        "create view public.talks as select * from public.talks_of_old",
    ],
    "the clock is dropped": ["alter table public.talks drop column updated_at"],
    "the clock is renamed": ["alter table public.talks rename updated_at to changed_at"],
    "the status is renamed": ["alter table public.talks rename status to state"],
    "the clock's index is dropped": ["drop index public.talks_updated_at_idx"],
    "an index below is dropped": ["drop index public.lines_talk_idx"],
    "the key is dropped": ["alter table public.talks drop constraint talks_pkey cascade"],
    "the schema is renamed": ["create schema app", "alter table public.talks set schema app"],
}


def taken_by(run: Run, db: Connection) -> None:
    """Work through every line of a run, as the service does: a line that fails does not stop the next."""
    for policy in run.begun["policies"]:
        if run.open(policy)["outcome"] == "open":
            run.drain(policy)


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_change_before_a_run_fails_that_tables_policy_by_name_and_no_other(db: Connection, change: str) -> None:
    create(db, *CHANGES[change])
    shown = json.dumps(dry_run(db, "public.talks"))
    assert "public.talks" in shown
    report = run_cleanup(db)
    ours = lines_of(report, "public.talks")
    assert any(each["outcome"] == "failed" and "public." in str(each["error"]) for each in ours), ours
    assert did(report, "public.talks") == 0
    assert did(report, "lull.sessions") == 1
    assert scalar(db, "select count(*) from public.lines") == 6 or "dropped" in change
    assert "talks" in json.dumps(scalar(db, "select public.lull_inspect()")), "the doctor says nothing"


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_change_between_two_batches_ends_that_line_and_takes_nothing_unjudged(db: Connection, change: str) -> None:
    run = Run.begin(db)
    (ours,) = (name for name in run.begun["policies"] if "talks" in name and name.startswith(DRAFTS))
    assert run.open(ours)["would"] == 6
    assert run.batch(ours, 2)["deleted"] == 2
    create(db, *CHANGES[change])
    for _ in range(20):
        answer = run.batch(ours, 2)
        if answer["done"]:
            break
    for policy in run.begun["policies"]:
        if policy != ours and run.open(policy)["outcome"] == "open":
            run.drain(policy)
    report = run.finish()
    assert did(report, "lull.sessions") == 1
    entry = next(each for each in lines_of(report, "public.talks") if each["did"])
    assert entry["outcome"] in ("failed", "completed", "partial")
    assert entry["did"] == 2 or "index" in change, entry
    if entry["did"] == 2:
        assert entry["error"] and "public." in entry["error"]


def test_a_change_that_does_no_harm_in_the_middle_of_a_run_is_compiled_anew(db: Connection) -> None:
    before = keys_of(db, "public.talks")
    run = Run.begin(db, DRAFTS)
    (ours,) = (name for name in run.begun["policies"] if "talks" in name)
    run.open(ours)
    assert run.batch(ours, 2)["deleted"] == 2
    create(
        db,
        "alter table public.talks add mood text not null default 'calm'",
        "alter table public.lines add extra jsonb default '{}'",
        "alter table public.talks drop column title",
        "create index on public.talks (status, updated_at)",
    )
    run.drain(ours)
    assert did(run.finish(), "public.talks") == 6
    restore_run(db, run.id)
    assert keys_of(db, "public.talks") == before
    assert scalar(db, "select count(*) from public.lines") == 6
    assert scalar(db, "select count(*) from public.lines where extra is null") in (0, 2)


Later = Callable[[Connection], None]


def add_child(db: Connection) -> None:
    create(
        db,
        "create table public.notes (id int primary key, talk uuid references public.talks on delete cascade)",
        "create index on public.notes (talk)",
    )
    db.execute("insert into public.notes values (1, %s)", [key(5)])


def add_key_to_a_table_that_is_there(db: Connection) -> None:
    db.execute("create table public.notes (id int primary key, talk uuid)")
    db.execute("insert into public.notes values (1, %s)", [key(5)])
    create(
        db,
        "create index on public.notes (talk)",
        "alter table public.notes add foreign key (talk) references public.talks on delete cascade",
    )


@pytest.mark.parametrize("later", [add_child, add_key_to_a_table_that_is_there])
@pytest.mark.parametrize("when", ["before", "between"])
def test_a_table_below_that_came_later_keeps_its_rows_and_is_named(db: Connection, later: Later, when: str) -> None:
    run = Run.begin(db, DRAFTS)
    (ours,) = (name for name in run.begun["policies"] if "talks" in name)
    if when == "between":
        run.open(ours)
        run.batch(ours, 2)
    later(db)
    if when == "before":
        run.open(ours)
    run.drain(ours)
    report = run.finish()
    assert did(report, "public.talks") == 5
    assert keys_of(db, "public.talks") == [key(5)]
    assert scalar(db, "select count(*) from public.notes") == 1
    assert "public.notes" in json.dumps(dry_run(db, "public.talks"))
    assert "public.notes" in json.dumps(scalar(db, "select public.lull_inspect()"))


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_table_below_that_came_later_goes_along_with_a_row_put_on_the_list_by_adopt(
    db: Connection, when: str
) -> None:
    scalar(db, "select lull.release('public.talks')")
    scalar(db, "select lull.adopt('public.talks', 'updated_at')")
    run = Run.begin(db, "team-rows", p_policies=[stale_rows_policy("public.talks", "updated_at")])
    if when == "between":
        run.open("team-rows")
        run.batch("team-rows", 2)
    add_child(db)
    if when == "before":
        run.open("team-rows")
    run.drain("team-rows")
    assert did(run.finish(), "public.talks") == 6
    assert scalar(db, "select count(*) from public.notes") == 0
    restore_run(db, run.id)
    assert scalar(db, "select count(*) from public.notes") == 1
    assert len(keys_of(db, "public.talks")) == 6


REFERRING = {
    "set null": "talk uuid references public.talks on delete set null",
    "no action": "talk uuid references public.talks",
    "restrict": "talk uuid references public.talks on delete restrict",
    "set default": "talk uuid default null references public.talks on delete set default",
}


@pytest.mark.parametrize("action", sorted(REFERRING))
@pytest.mark.parametrize("size", [1, 1000])
def test_a_row_from_outside_keeps_what_it_refers_to_and_is_named(db: Connection, action: str, size: int) -> None:
    create(
        db,
        f"create table public.bills (id int primary key, {REFERRING[action]})",
        "create index on public.bills (talk)",
    )
    db.execute("insert into public.bills values (1, %s), (2, null)", [key(4)])
    report = run_cleanup(db, size=size)
    assert did(report, "public.talks") == 5
    assert did(report, "lull.sessions") == 1
    assert keys_of(db, "public.talks") == [key(4)]
    assert scalar(db, "select talk::text from public.bills where id = 1") == key(4)
    assert "public.bills" in json.dumps([report, dry_run(db, "public.talks")])


def test_a_run_ends_that_keeps_rows_of_one_clock_whose_key_has_a_type_of_the_teams(db: Connection) -> None:
    create(
        db,
        "create type public.shade as enum ('red', 'blue')",
        """create table public.tiles (id char(8) collate "C", shade public.shade, touched_at timestamptz not null,
          primary key (id, shade))""",
        "create index on public.tiles (touched_at)",
        """create table public.notes (id char(8), shade public.shade,
          foreign key (id, shade) references public.tiles)""",
    )
    scalar(db, "select lull.adopt('public.tiles', 'touched_at')")
    db.execute("insert into public.tiles select x, 'red', date_trunc('day', now()) - interval '3 days' "
               "from unnest('{C4,c4,c6,d1}'::text[]) x")  # fmt: skip
    db.execute("insert into public.notes select id, shade from public.tiles where id in ('c4', 'c6')")
    run = Run.begin(db, p_policies=[*policies(), stale_rows_policy("public.tiles", "touched_at")])
    assert run.open("team-rows")["would"] == 4
    for _ in range(10):
        if run.batch("team-rows", 1)["done"]:
            break
    else:
        raise AssertionError("the same rows are looked at for ever")
    (ours,) = lines_of(run.finish(), "public.tiles")
    assert (ours["did"], ours["kept"]) == (2, 2)
    assert scalar(db, "select array_agg(id::text order by id) from public.tiles") == ["c4", "c6"]



@pytest.mark.parametrize("action", ["set null", "no action"])
def test_a_row_that_refers_and_goes_with_the_same_root_goes_and_comes_back_with_its_link(
    db: Connection, action: str
) -> None:
    create(
        db,
        f"alter table public.lines add reply_to bigint references public.lines on delete {action}",
        f"alter table public.talks add last_line bigint references public.lines on delete {action}",
        "create index on public.lines (reply_to)",
        "create index on public.talks (last_line)",
        "insert into public.lines (body, talk, reply_to) select 'answer', talk, id from public.lines",
        "update public.talks t set last_line = (select max(id) from public.lines l where l.talk = t.id)",
    )
    rows = "select (select array_agg(t::text order by id) from public.talks t) || (select array_agg(l::text order by id) from public.lines l)"
    before = scalar(db, rows)
    assert did(run_cleanup(db), "public.talks") == 6
    assert scalar(db, "select count(*) from public.lines") == 0
    restore_run(db)
    assert scalar(db, rows) == before


def swallow(db: Connection) -> None:
    create(
        db,
        """create function public.keep() returns trigger language plpgsql as $$
        begin if old.body = 'keep' then return null; end if; return old; end $$""",
        "create trigger keep before delete on public.lines for each row execute function public.keep()",
    )
    db.execute("update public.lines set body = 'keep' where talk = %s", [key(3)])


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_delete_that_a_trigger_swallows_is_isolated_and_named(db: Connection, size: int) -> None:
    swallow(db)
    report = run_cleanup(db, size=size)
    assert did(report, "public.talks") == 5
    assert keys_of(db, "public.talks") == [key(3)]
    assert scalar(db, "select count(*) from public.lines where talk = %s", key(3)) == 1
    (entry,) = (each for each in lines_of(report, "public.talks") if each["did"])
    assert key(3) in json.dumps(entry)
    assert "public.lines" in json.dumps(entry)
    assert did(report, "lull.sessions") == 1


def test_what_a_trigger_deletes_elsewhere_is_named_in_the_report(db: Connection) -> None:
    create(
        db,
        "create table public.search_index (talk uuid, word text)",
        "insert into public.search_index select id, 'x' from public.talks",
        """create function public.unindex() returns trigger language plpgsql as $$
        begin delete from search_index where talk = old.id; return old; end $$""",
        "create trigger unindex after delete on public.talks for each row execute function public.unindex()",
    )
    report = run_cleanup(db)
    assert did(report, "public.talks") == 6
    assert scalar(db, "select count(*) from public.search_index") == 0
    assert "public.search_index" in json.dumps(lines_of(report, "public.talks"))


def test_a_trigger_that_deletes_rows_of_the_cascade_that_were_not_archived_is_caught(db: Connection) -> None:
    """Its fault would lose a line of a talk that stays: nothing goes with it."""
    create(
        db,
        """create function public.too_much() returns trigger language plpgsql as $$
        begin delete from lines where body = 'precious'; return old; end $$""",
        "create trigger too_much before delete on public.talks for each row execute function public.too_much()",
    )
    db.execute("insert into public.talks (id, status) values (%s, 'active')", [key(9)])
    db.execute("insert into public.lines (body, talk) values ('precious', %s)", [key(9)])
    report = run_cleanup(db)
    assert scalar(db, "select count(*) from public.lines where body = 'precious'") == 1
    assert did(report, "public.talks") == 0
    assert line(report, "stale-user-sessions")["outcome"] == "completed"
