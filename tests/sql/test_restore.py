"""A restore after the world went on: taken places, changed tables, files, and an older archive."""

from __future__ import annotations

import pytest

from tests.sql.driver import add_session, call, run_cleanup, scalar
from tests.sql.team_tables import adopt, clean, create, create_table, restore
from tests.sql_servers import Connection


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


@pytest.fixture
def archived(db: Connection) -> Connection:
    """Three archived things with two parts each: (1) to (3), parts (10) to (31)."""
    create_table(
        db,
        "public.things",
        "id int primary key, name varchar(20) unique",
        "(1, 'one'), (2, 'two'), (3, 'three')",
    )
    create(
        db,
        "create table public.parts (id int primary key, thing int references things on delete cascade, label text)",
        "create index on parts (thing)",
        "insert into parts select id * 10 + n, id, 'part' from things, generate_series(0, 1) n",
    )
    adopt(db, "public.things")
    assert clean(db, "public.things")["cascaded"] == 6
    return db


TAKEN = "a row with one of its unique values is there already"


def remainder(db: Connection) -> list[tuple[str, str]]:
    """Return (table, first column) of each row that stands in a remainder."""
    rows = db.execute(
        "select r.tab, r.cells[1] as id from lull.archive_pages p, lull.page_rows(p.content) r "
        "where p.kind = 'remainder' order by 1, 2"
    )
    return [(row["tab"], row["id"]) for row in rows]


def test_rows_whose_place_is_taken_wait_with_all_below_them_and_the_rest_comes_back(archived: Connection) -> None:
    archived.execute("insert into things values (1, 'new', now()), (4, 'two', now())")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], answer["missing"], answer["remaining"]) == (1, 4, 4, 0)
    assert answer["reasons"] == [TAKEN, "the row of public.things that it refers to does not exist"]
    assert scalar(archived, "select array_agg(name::text order by id) from things") == ["new", "three", "two"]
    archived.execute("delete from things where id in (1, 4)")
    again = restore(archived)
    assert (again["restored"], again["children"], again["missing"]) == (2, 2, 0)
    assert scalar(archived, "select count(*) from parts") == 4, "two came back under the new 1, and went with it"


def test_a_taken_child_waits_in_a_remainder_and_its_siblings_come_back(archived: Connection) -> None:
    archived.execute("insert into parts values (10, null, 'new')")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], answer["missing"], answer["remaining"]) == (3, 5, 1, 0)
    assert answer["reasons"] == [TAKEN]
    assert remainder(archived) == [("public.parts", "10")]
    assert scalar(archived, "select label from parts where id = 10") == "new"
    assert scalar(archived, "select rows from lull.archive_pages") == 1
    window = "select purge_after - archived_at = interval '7 days' from lull.archive_pages"
    assert scalar(archived, window), "a full window of its own"
    archived.execute("delete from parts where id = 10")
    assert restore(archived)["missing"] == 0
    assert scalar(archived, "select label from parts where id = 10") == "part"
    assert scalar(archived, "select count(*) from lull.archive_pages") == 0


def test_a_new_nullable_column_is_null_and_a_default_is_used(archived: Connection) -> None:
    create(archived, "alter table things add colour text", "alter table parts add weight int not null default 7")
    assert restore(archived)["reasons"] == []
    assert scalar(archived, "select count(*) from things where colour is null") == 3
    assert scalar(archived, "select sum(weight) from parts") == 42


def test_a_new_column_that_must_be_given_keeps_its_rows_archived_until_it_has_a_default(archived: Connection) -> None:
    archived.execute("alter table parts add weight int not null")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], answer["missing"]) == (3, 0, 6)
    assert answer["reasons"] == ["the column weight of public.parts must not be null"]
    archived.execute("alter table parts alter weight set default 1")
    assert restore(archived)["missing"] == 0
    assert scalar(archived, "select sum(weight) from parts") == 6


def test_values_of_a_dropped_column_stay_archived_and_come_back_with_it(archived: Connection) -> None:
    create(archived, "alter table parts drop label")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], answer["missing"]) == (3, 6, 6)
    assert answer["reasons"] == ["the column label of public.parts does not exist"]
    assert scalar(archived, "select array_agg(id order by id) from parts") == [10, 11, 20, 21, 30, 31]
    archived.execute("alter table parts add label text")
    assert restore(archived)["missing"] == 0
    assert scalar(archived, "select count(*) from parts where label = 'part'") == 6


def test_a_column_that_became_generated_is_computed(archived: Connection) -> None:
    create(
        archived,
        "alter table parts drop label",
        "alter table parts add label text generated always as ('p' || id::text) stored",
    )
    assert restore(archived)["reasons"] == []
    assert scalar(archived, "select label from parts where id = 10") == "p10"


def test_a_column_that_became_too_short_refuses_the_row_and_cuts_nothing(archived: Connection) -> None:
    archived.execute("alter table things alter name type varchar(3)")
    answer = restore(archived)
    assert answer["reasons"] == [
        "the row of public.things that it refers to does not exist", "value too long for type character varying(3)"
    ]  # fmt: skip
    assert remainder(archived)[-1] == ("public.things", "3")
    assert scalar(archived, "select array_agg(name::text order by id) from things") == ["one", "two"]


def test_a_column_whose_type_was_widened_takes_the_value(archived: Connection) -> None:
    create(archived, "alter table parts alter id type bigint", "alter table things alter name type text")
    assert restore(archived)["reasons"] == []
    assert scalar(archived, "select max(id) from parts") == 31


def test_a_child_table_that_is_gone_is_reported_and_the_rows_come_back(archived: Connection) -> None:
    archived.execute("drop table parts")
    answer = restore(archived)
    assert (answer["restored"], answer["children"]) == (3, 0)
    assert answer["reasons"] == ["the table public.parts does not exist"]
    assert [id_ for _, id_ in remainder(archived)] == ["10", "11", "20", "21", "30", "31"]


def test_a_table_that_is_gone_keeps_everything_archived(archived: Connection) -> None:
    archived.execute("drop table things cascade")
    answer = restore(archived)
    assert (answer["restored"], answer["missing"]) == (0, 9 - answer["children"])
    assert "the table public.things does not exist" in answer["reasons"]


def test_a_trigger_that_swallows_or_refuses_a_row_is_a_reported_conflict(archived: Connection) -> None:
    create(
        archived,
        """create function judge() returns trigger language plpgsql as $$ begin
             if new.id = 1 then return null; elsif new.id = 2 then raise 'not this one'; end if; return new; end $$""",
        "create trigger judge before insert on things for each row execute function judge()",
    )
    answer = restore(archived)
    assert set(answer["reasons"]) >= {"a trigger or a rule keeps it out", "not this one"}
    assert [key for table, key in remainder(archived) if table == "public.things"] == ["1", "2"]


def test_what_a_trigger_changes_on_the_way_in_is_set_right_or_named(archived: Connection) -> None:
    create(
        archived,
        """create function touch() returns trigger language plpgsql as $$ begin
             if current_setting('lull.restoring', true) is distinct from 'on' then raise 'it cannot see that'; end if;
             new.name := upper(new.name); return new; end $$""",
        "create trigger touch before insert on things for each row execute function touch()",
        """create function relabel() returns trigger language plpgsql as $$ begin
             new.label := 'always'; return new; end $$""",
        "create trigger relabel before insert or update on parts for each row execute function relabel()",
    )
    answer = restore(archived)
    assert (answer["restored"], answer["missing"]) == (3, 0)
    assert scalar(archived, "select array_agg(name::text order by id) from things") == ["one", "two", "three"]
    assert answer["reasons"] == ["a trigger of public.parts changed 6 rows on their way in"]


def test_a_restore_of_one_policy_leaves_the_others_archived(archived: Connection) -> None:
    run = scalar(archived, "select id from lull.cleanup_runs")
    assert call(archived, "lull_restore_run", p_run=run, p_policy="empty-rooms")["restored"] == 0
    assert call(archived, "lull_restore_run", p_run=run, p_policy="team-rows")["restored"] == 3


def test_a_restore_in_portions_ends_and_a_second_one_does_nothing(archived: Connection) -> None:
    run = scalar(archived, "select id from lull.cleanup_runs")
    portions = [call(archived, "lull_restore_run", p_run=run, p_limit=2) for _ in range(3)]
    assert [(p["restored"], p["remaining"]) for p in portions] == [(2, 1), (1, 0), (0, 0)]


def test_a_row_that_cannot_come_back_does_not_bar_the_way_of_later_portions(archived: Connection) -> None:
    archived.execute("insert into things values (1, 'new', now())")
    run = scalar(archived, "select id from lull.cleanup_runs")
    portions = [call(archived, "lull_restore_run", p_run=run, p_limit=1) for _ in range(3)]
    assert sum(portion["restored"] for portion in portions) == 2
    assert portions[-1]["remaining"] == 0


def test_a_single_row_is_restored_by_its_key_once(archived: Connection) -> None:
    restored = "select lull.restore_key('public.things', '2', '{\"service\": true}')"
    assert scalar(archived, restored) == {"restored": 3, "missing": 0, "reasons": []}
    assert scalar(archived, restored) is None
    assert scalar(archived, "select array_agg(id) from things") == [2]
    assert scalar(archived, "select array_agg(key order by key) from lull.archive_keys") == ["1", "3"]


def test_a_key_that_is_archived_twice_comes_back_oldest_first_and_loses_no_file(db: Connection) -> None:
    session = add_session(db, title="old")
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'old')", [session])
    run_cleanup(db, "abandoned-drafts")
    add_session(db, id=session, title="new")  # the app made the session again
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'new')", [session])
    run_cleanup(db, "abandoned-drafts")
    assert scalar(db, "select count(*) from lull.archive_keys") == 2, "archiving purges nothing"
    assert scalar(db, "select count(*) from lull.file_removals") == 0
    answer = scalar(db, "select lull.restore_key('lull.sessions', %s, '{\"service\": true}')", session)
    assert (answer["restored"], answer["missing"], answer["reasons"]) == (3, 1, [TAKEN])
    assert scalar(db, "select title from lull.sessions") == "old"
    assert scalar(db, "select array_agg(path order by path) from lull.session_files") == ["new", "old"]
    assert remainder(db) == [("lull.sessions", session)]


def test_restored_sessions_tell_it_in_the_ledger(db: Connection) -> None:
    session = add_session(db)
    run_cleanup(db, "abandoned-drafts")
    restore(db)
    told = "select array_agg(event order by id) from lull.session_events where session_id = %s"
    assert scalar(db, told, session) == ["archived", "restored"]
