"""What hung below an archived row comes back with it, whatever shape the foreign keys make."""

from __future__ import annotations

import pytest

from tests.sql.driver import add_session, line, policies, run_cleanup
from tests.sql.team_tables import adopt, clean, create, create_table, differences, restore, snapshot
from tests.sql_servers import Connection, Database


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def assert_there_and_back(db: Connection, *tables: str) -> None:
    """Clean stale sessions, find nothing of theirs left below, restore, and find every bit as it was."""
    before = snapshot(db, "lull.sessions", *tables)
    below = sum(len(before[table]) for table in tables)
    along = {table: "goes along" for table in tables if table.startswith("public.")}
    run = run_cleanup(db, "abandoned-drafts", p_policies=policies(abandoned_drafts={"below": along}))
    done = line(run, "abandoned-drafts")
    assert (done["outcome"], done["did"], done["cascaded"]) == (
        "completed",
        len(before["lull.sessions"]),
        below,
    )
    assert snapshot(db, *tables) == {table: [] for table in tables}
    assert restore(db)["reasons"] == []
    clocks = {"lull.sessions.last_activity_at", "lull.sessions.the row"}  # a restored session was used just now
    found = differences(before, snapshot(db, "lull.sessions", *tables))
    assert [each for each in found if each.split(":")[0] not in clocks] == []


def child(db: Connection, table: str, columns: str, *indexed: str) -> None:
    """Create a team's table below sessions."""
    reference = "session_id uuid not null references lull.sessions on delete cascade"
    create(db, f"create table {table} ({columns}, {reference})", f"create index on {table} (session_id)")
    create(db, *(f"create index on {table} ({column})" for column in indexed))


def test_participants_and_files_come_back(db: Connection) -> None:
    session = add_session(db)
    db.execute(
        "insert into lull.session_participants (session_id, name, last_seen_at) "
        "values (%s, 'é', now() - interval '2 days'), (%s, null, '2000-01-01')",
        [session] * 2,
    )
    db.execute("insert into lull.session_files (session_id, bucket, path) values (%s, 'b', 'p')", [session])
    add_session(db)
    assert_there_and_back(db, "lull.session_participants", "lull.session_files")


def test_a_tree_of_messages_comes_back(db: Connection) -> None:
    child(
        db,
        "public.messages",
        "id int primary key, parent int references messages on delete cascade",
        "parent",
    )
    session = add_session(db)
    # Parents have higher numbers than their children, and stand behind them in the table.
    for n in range(1, 8):
        db.execute("insert into messages values (%s, null, %s)", [n, session])
    db.execute("update messages set parent = id + 1 where id < 7")
    assert_there_and_back(db, "public.messages")


def test_an_attachment_of_a_session_and_a_message_comes_back_once(db: Connection) -> None:
    child(db, "public.messages", "id int primary key")
    child(db, "public.attachments", "id int, message_id int references messages on delete cascade", "message_id")
    for n in (1, 2):
        session = add_session(db)
        db.execute("insert into messages values (%s, %s)", [n, session])
        db.execute("insert into attachments values (1, %s, %s), (2, null, %s)", [n, session, session])
    assert_there_and_back(db, "public.messages", "public.attachments")


def test_siblings_that_refer_to_one_another_come_back(db: Connection) -> None:
    child(db, "public.answers", "id int primary key, question int")
    child(
        db,
        "public.questions",
        "id int primary key, best int references answers, earlier int references questions",
    )
    db.execute("alter table answers add foreign key (question) references questions")
    session = add_session(db)
    db.execute("insert into questions select n, null, nullif(n - 1, 0), %s from generate_series(1, 5) n", [session])
    db.execute("insert into answers select n, n, %s from generate_series(1, 3) n", [session])
    db.execute("update questions set best = 3 where id = 5")
    assert_there_and_back(db, "public.questions", "public.answers")


def test_rows_without_a_key_and_alike_come_back_as_often(db: Connection) -> None:
    child(db, "public.notes", "text text")
    session = add_session(db)
    db.execute("insert into notes select 'same', %s from generate_series(1, 3)", [session])
    assert_there_and_back(db, "public.notes")


def test_three_levels_come_back(db: Connection) -> None:
    child(db, "public.one", "id int generated always as identity primary key")
    create(
        db,
        "create table two (id text primary key, one int references one on delete cascade)",
        "create table three (two text references two on delete cascade, data jsonb)",
        "create index on two (one)",
        "create index on three (two)",
    )
    session = add_session(db)
    db.execute("insert into one (session_id) select %s from generate_series(1, 3)", [session])
    db.execute("insert into two select n || '-' || id, id from one, generate_series(1, 2) n")
    db.execute("insert into three select id, 'null' from two, generate_series(1, 2)")
    assert_there_and_back(db, "public.one", "public.two", "public.three")


def test_children_by_a_composite_key_come_back_and_half_references_stay(db: Connection) -> None:
    create_table(db, "public.seats", "hall text, n int, primary key (hall, n)", "('a', 1), ('a', 2)")
    create(
        db,
        """create table public.tickets (n int, hall text, id int,
             foreign key (hall, n) references seats on delete cascade)""",
        "create index on tickets (n, hall)",
        "insert into tickets values (1, 'a', 1), (2, 'a', 2), (2, 'a', 3), (1, null, 4), (null, 'z', 5)",
    )
    adopt(db, "public.seats")
    before = snapshot(db, "public.seats", "public.tickets")
    assert clean(db, "public.seats")["cascaded"] == 3
    assert {row["id"] for row in snapshot(db, "public.tickets")["public.tickets"]} == {"4", "5"}
    assert restore(db)["reasons"] == []
    assert differences(before, snapshot(db, "public.seats", "public.tickets")) == []


def test_a_partitioned_child_table_comes_back(db: Connection) -> None:
    create(
        db,
        """create table public.logs (id int, at date, session_id uuid not null references lull.sessions
             on delete cascade, primary key (id, at)) partition by range (at)""",
        "create table logs_old partition of logs for values from (minvalue) to ('2025-01-01')",
        "create table logs_new partition of logs for values from ('2025-01-01') to (maxvalue)",
        "create index on logs (session_id)",
        """create table public.lines (id int, at date, foreign key (id, at) references logs on delete cascade)""",
        "create index on lines (id, at)",
    )
    session = add_session(db)
    db.execute("insert into logs values (1, '2024-01-01', %s), (2, '2026-01-01', %s)", [session] * 2)
    db.execute("insert into lines select id, at from logs")
    assert_there_and_back(db, "public.logs", "public.lines")


@pytest.mark.parametrize(
    ("parent", "below", "stale", "live"),
    [
        ("int8", "int4", "8589934592", "1"),
        ("numeric", "int4", "12.5", "12"),
        ("text", "varchar(4)", "long text", "long"),
        ("timestamptz", "timestamptz(0)", "2024-01-01 00:00:00.25+00", "2024-01-01 00:00:00+00"),
    ],
)
def test_a_child_whose_type_cuts_the_stale_parents_key_is_not_taken(
    db: Connection, parent: str, below: str, stale: str, live: str
) -> None:
    create_table(db, "public.up", f"id {parent} primary key", f"('{stale}')", f"('{live}', now())")
    create(db, f"create table down (up {below} references up on delete cascade)", "create index on down (up)")
    db.execute(f"insert into down values ('{live}')")
    adopt(db, "public.up")
    done = clean(db, "public.up")
    assert (done["outcome"], done["did"], done["cascaded"]) == ("completed", 1, 0)


@pytest.mark.parametrize(
    ("parent", "below", "key"),
    [("char(9)", "char(4)", "long"), ("float8", "float4", "0.5"), ("int4", "int8", "7")],
)
def test_a_child_of_another_type_than_its_parent_goes_along(db: Connection, parent: str, below: str, key: str) -> None:
    create_table(db, "public.up", f"id {parent} primary key", f"('{key}')")
    create(db, f"create table down (up {below} references up on delete cascade)", "create index on down (up)")
    db.execute(f"insert into down values ('{key}')")
    adopt(db, "public.up")
    assert clean(db, "public.up")["cascaded"] == 1
    assert restore(db)["children"] == 1


def test_a_reply_in_another_stale_session_comes_back_with_the_run(db: Connection) -> None:
    child(
        db,
        "public.messages",
        "id int primary key, reply_to int references messages on delete cascade",
        "reply_to",
    )
    asked, answered = add_session(db, idle="26 hours"), add_session(db, idle="27 hours")
    db.execute("insert into messages values (1, null, %s), (2, 1, %s)", [asked, answered])
    assert_there_and_back(db, "public.messages")
