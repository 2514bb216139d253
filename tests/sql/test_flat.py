"""What needs no archive, and is directly below: it goes with its parent, and Postgres has counted it."""

from __future__ import annotations

import pytest

from tests.sql.driver import Connection, Run, policies, scalar
from tests.sql.team_tables import POLICY, adopt, clean, create, create_table, policy_on
from tests.sql.waiting import beside, never_give_up, wait_until_blocked
from tests.sql_servers import Database


@pytest.fixture
def db(sql_database: Database) -> Connection:
    """Two stale shelves and a fresh one, with three books each."""
    db = sql_database.connect()
    create_table(db, "public.shelves", "id int primary key", "(1), (2)")
    create(
        db,
        "insert into shelves values (3, now())",
        "create table public.books (id int primary key, shelf int not null references shelves on delete cascade)",
        "create index on books (shelf)",
        "insert into books select n, 1 + n % 3 from generate_series(1, 9) n",
    )
    adopt(db, "public.shelves")
    return db


def test_what_goes_along_is_counted(db: Connection) -> None:
    assert scalar(db, "select count(*) from books where shelf < 3") == 6
    done = clean(db, "public.shelves", archive=False)
    assert (done["outcome"], done["did"], done["cascaded"]) == ("completed", 2, 6)
    assert scalar(db, "select count(*) from books") == 3


def test_it_is_counted_as_well_where_postgres_does_not_count(db: Connection) -> None:
    db.execute("set track_counts = off")
    assert clean(db, "public.shelves", archive=False)["cascaded"] == 6


def test_a_busy_child_is_left_for_the_next_run(sql_database: Database, db: Connection) -> None:
    reader = sql_database.connect()
    with reader.transaction():
        reader.execute("select from books where shelf = 1 for update")
        done = clean(db, "public.shelves", archive=False)
        assert (done["did"], done["busy"], done["outcome"]) == (1, 1, "completed")
    assert clean(db, "public.shelves", archive=False)["did"] == 1


def test_a_child_that_is_moved_to_a_fresh_parent_meanwhile_stays(
    sql_database: Database, db: Connection
) -> None:
    never_give_up(db)
    mover, batch = sql_database.connect(), sql_database.connect()
    run = Run.begin(db, POLICY, p_policies=[*policies(), policy_on("public.shelves", archive=False)])
    assert run.open(POLICY)["cascaded_total"] == 6
    with beside() as start:
        with mover.transaction():
            mover.execute("update books set shelf = 3 where id = 3")
            removal = start(run.lane, POLICY, 1, 10, batch)
            wait_until_blocked(db, batch, mover)
        assert (removal.result()["deleted"], removal.result()["cascaded"]) == (2, 5)
    assert [row["id"] for row in db.execute("select id from books order by id")] == [2, 3, 5, 8]


def test_rows_of_a_partitioned_child_are_counted(db: Connection) -> None:
    create(
        db,
        "create table public.loans (shelf int references shelves on delete cascade, n int) partition by list (n)",
        "create table public.loans_1 partition of loans for values in (1)",
        "create index on loans (shelf)",
        "insert into loans values (1, 1), (2, 1), (3, 1)",
    )
    assert clean(db, "public.shelves", archive=False)["cascaded"] == 8
    assert scalar(db, "select count(*) from loans") == 1
