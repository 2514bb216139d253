"""A restore after the world went on: taken places, changed tables, files, and an older archive."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.driver import add_session, call, run_cleanup, scalar
from tests.sql.team_tables import adopt, clean, create, create_table, differences, restore, snapshot
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


def reasons(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (table, id, reason) of each conflict."""
    return [(c["table"], c["row"]["id"], c["reason"]) for c in answer["conflicts"]]


def test_a_taken_key_and_a_taken_name_are_reported_row_by_row_and_the_rest_comes_back(
    archived: Connection,
) -> None:
    archived.execute("insert into things values (1, 'new', now()), (4, 'two', now())")
    answer = restore(archived)
    taken = "a row with one of its unique values is there already"
    assert reasons(answer) == [("public.things", "1", taken), ("public.things", "2", taken)]
    assert (answer["restored"], answer["children"], answer["remaining"]) == (1, 2, 2)
    assert scalar(archived, "select array_agg(name::text order by id) from things") == ["new", "three", "two"]
    archived.execute("delete from things where id in (1, 4)")
    assert restore(archived)["restored"] == 2
    assert scalar(archived, "select count(*) from parts") == 6


def test_a_taken_child_is_reported_with_its_content_and_its_siblings_come_back(archived: Connection) -> None:
    archived.execute("insert into parts values (10, null, 'new')")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], answer["remaining"]) == (3, 5, 0)
    assert answer["conflicts"] == [
        {
            "table": "public.parts",
            "row": {"id": "10", "thing": "1", "label": "part"},
            "reason": "a row with one of its unique values is there already",
        }
    ]
    assert scalar(archived, "select label from parts where id = 10") == "new"


def test_a_new_nullable_column_is_null_and_a_default_is_used(archived: Connection) -> None:
    create(
        archived, "alter table things add colour text", "alter table parts add weight int not null default 7"
    )
    assert restore(archived)["conflicts"] == []
    assert scalar(archived, "select count(*) from things where colour is null") == 3
    assert scalar(archived, "select sum(weight) from parts") == 42


def test_a_new_column_that_must_be_given_is_a_reported_conflict(archived: Connection) -> None:
    archived.execute("alter table parts add weight int not null")
    answer = restore(archived)
    assert (answer["restored"], answer["children"], len(answer["conflicts"])) == (3, 0, 6)
    assert 'null value in column "weight"' in answer["conflicts"][0]["reason"]


def test_a_dropped_column_is_left_out(archived: Connection) -> None:
    create(archived, "alter table things drop name", "alter table parts drop label")
    assert restore(archived)["conflicts"] == []
    assert scalar(archived, "select array_agg(id order by id) from parts") == [10, 11, 20, 21, 30, 31]


def test_a_column_that_became_generated_is_computed(archived: Connection) -> None:
    create(
        archived,
        "alter table parts drop label",
        "alter table parts add label text generated always as ('p' || id::text) stored",
    )
    assert restore(archived)["conflicts"] == []
    assert scalar(archived, "select label from parts where id = 10") == "p10"


def test_a_column_that_became_too_short_refuses_the_row_and_cuts_nothing(archived: Connection) -> None:
    archived.execute("alter table things alter name type varchar(3)")
    answer = restore(archived)
    assert reasons(answer) == [("public.things", "3", "value too long for type character varying(3)")]
    assert scalar(archived, "select array_agg(name::text order by id) from things") == ["one", "two"]


def test_a_column_whose_type_was_widened_takes_the_value(archived: Connection) -> None:
    create(archived, "alter table parts alter id type bigint", "alter table things alter name type text")
    assert restore(archived)["conflicts"] == []
    assert scalar(archived, "select max(id) from parts") == 31


def test_a_child_table_that_is_gone_is_reported_and_the_rows_come_back(archived: Connection) -> None:
    archived.execute("drop table parts")
    answer = restore(archived)
    assert (answer["restored"], answer["children"]) == (3, 0)
    assert {c["reason"] for c in answer["conflicts"]} == {"the table public.parts is gone"}
    assert [c["row"]["id"] for c in answer["conflicts"]] == ["10", "11", "20", "21", "30", "31"]


def test_a_table_that_is_gone_keeps_its_archive(archived: Connection) -> None:
    archived.execute("drop table things cascade")
    answer = restore(archived)
    assert (answer["restored"], answer["remaining"]) == (0, 3)
    assert {c["reason"] for c in answer["conflicts"]} == {"the table public.things is gone"}


def test_a_trigger_that_swallows_or_refuses_a_row_is_a_reported_conflict(archived: Connection) -> None:
    create(
        archived,
        """create function judge() returns trigger language plpgsql as $$ begin
             if new.id = 1 then return null; elsif new.id = 2 then raise 'not this one'; end if; return new; end $$""",
        "create trigger judge before insert on things for each row execute function judge()",
    )
    answer = restore(archived)
    assert [(key, reason) for _, key, reason in reasons(answer)] == [
        ("1", "a row with one of its unique values is there already"),
        ("2", "not this one"),
    ]
    assert answer["remaining"] == 2


def test_a_restore_of_one_policy_leaves_the_others_archived(archived: Connection) -> None:
    run = scalar(archived, "select id from lull.cleanup_runs")
    assert call(archived, "lull_restore_run", p_run=run, p_policy="empty-rooms")["restored"] == 0
    assert call(archived, "lull_restore_run", p_run=run, p_policy="team-rows")["restored"] == 3


def test_a_restore_in_portions_ends_and_a_second_one_does_nothing(archived: Connection) -> None:
    run = scalar(archived, "select id from lull.cleanup_runs")
    portions = [call(archived, "lull_restore_run", p_run=run, p_limit=2) for _ in range(3)]
    assert [(p["restored"], p["remaining"]) for p in portions] == [(2, 1), (1, 0), (0, 0)]


def test_a_conflict_does_not_bar_the_way_of_later_portions(archived: Connection) -> None:
    archived.execute("insert into things values (1, 'new', now())")
    run = scalar(archived, "select id from lull.cleanup_runs")
    portions = [call(archived, "lull_restore_run", p_run=run, p_limit=1) for _ in range(3)]
    assert [(p["restored"], p["remaining"]) for p in portions] == [(1, 2), (1, 1), (0, 1)]


def test_a_single_row_is_restored_by_its_key_once(archived: Connection) -> None:
    restored = "select lull.restore_archived('public.things', '2')"
    assert scalar(archived, restored) == {"restored": True, "children": 2, "conflicts": []}
    assert scalar(archived, restored) is None
    assert scalar(archived, "select array_agg(id) from things") == [2]


def test_an_older_archived_row_with_the_same_key_gives_way_and_its_bytes_are_queued(db: Connection) -> None:
    session = add_session(db)
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'old')", [session])
    run_cleanup(db, "abandoned-drafts")
    add_session(db, id=session)  # somebody made a session with the same id by hand
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'new')", [session])
    before = snapshot(db, "lull.sessions", "lull.session_files")
    run_cleanup(db, "abandoned-drafts")
    assert scalar(db, "select count(*) from lull.archive") == 1
    assert scalar(db, "select array_agg(path) from lull.file_removals") == ["old"]
    assert restore(db)["conflicts"] == []
    assert differences(before, snapshot(db, "lull.sessions", "lull.session_files")) == []


def test_the_bytes_of_a_file_that_the_newer_archived_row_has_too_stay(db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'same')", [session]
    )
    run_cleanup(db, "abandoned-drafts")
    add_session(db, id=session)
    db.execute(
        "insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'same')", [session]
    )
    run_cleanup(db, "abandoned-drafts")
    assert scalar(db, "select count(*) from lull.file_removals") == 0


def test_restored_sessions_tell_it_in_the_ledger(db: Connection) -> None:
    session = add_session(db)
    run_cleanup(db, "abandoned-drafts")
    restore(db)
    told = "select array_agg(event order by id) from lull.session_events where session_id = %s"
    assert scalar(db, told, session) == ["archived", "restored"]
