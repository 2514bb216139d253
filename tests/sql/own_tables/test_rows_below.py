"""What hangs below a row, by whatever key: what keeps it, what goes along, what refers to it from outside."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.driver import Connection, Run, add_session, call, line, policies, preview, run_cleanup, scalar
from tests.sql.own_tables.team import (
    ADA,
    BOB,
    adopt_sessions,
    create,
    did,
    dry_run,
    keys_of,
    refused,
    restore_run,
    transition,
    user,
)
from tests.sql.team_tables import differences, snapshot
from tests.sql_servers import Database

DRAFTS = "abandoned-drafts"


def key(number: int) -> str:
    return f"b0b0b0b0-1111-4000-8000-{number:012d}"


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def rooms(db: Connection, many: int = 5) -> None:
    """Active rooms of hours ago that are known by their id, by (club, id), and by a name."""
    create(
        db,
        """create table public.lounges (
          id uuid primary key default gen_random_uuid(), club int not null, name text unique,
          status text not null default 'active', updated_at timestamptz not null default now(), unique (club, id))""",
        "create index on public.lounges (updated_at)",
    )
    for number in range(1, many + 1):
        db.execute(
            "insert into public.lounges (id, club, name, updated_at) values (%s, 3, %s, now() - interval '3 hours')",
            [key(number), f"lounge {number}"],
        )


BELOW = {
    "by_pair": "club int not null, lounge uuid not null, foreign key (club, lounge) references public.lounges (club, id) on delete cascade",
    "by_name": "lounge text not null references public.lounges (name) on delete cascade",
    "by_id": "lounge uuid not null references public.lounges on delete cascade",
}


def hang(db: Connection, what: str, *values: Any) -> None:
    """Create a table below the lounges with one row in it."""
    columns = "club, lounge" if what == "by_pair" else "lounge"
    create(
        db,
        f"create table public.{what} (id bigint generated always as identity primary key, {BELOW[what]}, body text)",
        f"create index on public.{what} ({columns})",
    )
    db.execute(
        f"insert into public.{what} ({columns}, body) values ({', '.join(['%s'] * len(values))}, 'said today')",
        values,
    )


def test_an_unexplained_table_below_keeps_by_whatever_key_it_hangs_and_whenever_it_came(
    db: Connection,
) -> None:
    rooms(db)
    hang(db, "by_pair", 3, key(1))
    hang(db, "by_name", "lounge 2")
    adopt_sessions(db, "public.lounges", "room")
    hang(db, "by_id", key(3))
    said = json.dumps(dry_run(db, "public.lounges"))
    for table in ("public.by_pair", "public.by_name", "public.by_id"):
        assert table in said, f"{table} is not named: {said}"
    assert did(run_cleanup(db), "public.lounges") == 2
    assert keys_of(db, "public.lounges") == [key(1), key(2), key(3)]


@pytest.mark.parametrize("what", sorted(BELOW))
def test_a_table_that_goes_along_goes_and_comes_back_by_whatever_key(db: Connection, what: str) -> None:
    rooms(db, 1)
    hang(db, what, *{"by_pair": (3, key(1)), "by_name": ("lounge 1",), "by_id": (key(1),)}[what])
    before = scalar(db, f"select b::text from public.{what} b")
    adopt_sessions(db, "public.lounges", "room", p_below={f"public.{what}": "goes along"})
    (shown,) = (each for each in dry_run(db, "public.lounges") if each["would"])
    assert (shown["would"], shown["cascaded_total"]) == (1, 1)
    assert did(run_cleanup(db), "public.lounges") == 1
    assert scalar(db, f"select count(*) from public.{what}") == 0
    restore_run(db)
    assert scalar(db, f"select b::text from public.{what} b") == before


def test_a_clock_below_keeps_while_it_is_newer_than_the_cutoff(db: Connection) -> None:
    rooms(db, 3)
    create(
        db,
        """create table public.visits (id serial primary key, lounge uuid references public.lounges on delete cascade,
          seen timestamptz)""",
        "create index on public.visits (lounge)",
    )
    adopt_sessions(db, "public.lounges", "room", p_below={"public.visits": {"clock": "seen"}})
    for number, seen in enumerate(["now() - interval '20 minutes'", "now() - interval '2 hours'", "null"], 1):
        db.execute(f"insert into public.visits (lounge, seen) values (%s, {seen})", [key(number)])
    assert did(run_cleanup(db), "public.lounges") == 1
    assert keys_of(db, "public.lounges") == [key(1), key(3)], "a clock that is null is never old"


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside one that goes along"])
def test_what_goes_along_below_a_table_that_keeps_is_in_no_count(db: Connection, beside: bool) -> None:
    rooms(db)
    hang(db, "by_id", key(1))
    create(
        db,
        "create table public.parts (id int primary key, said bigint not null references public.by_id on delete cascade)",
        "create index on public.parts (said)",
        "insert into public.parts select 1, id from public.by_id",
    )
    below = {"public.by_id": "keeps", "public.parts": "goes along"}
    if beside:
        hang(db, "by_name", "lounge 2")
        below["public.by_name"] = "goes along"
    adopt_sessions(db, "public.lounges", "room", p_below=below)
    (shown,) = (each for each in dry_run(db, "public.lounges") if each["would"])
    assert (shown["error"], shown["would"]) == (None, 4)
    assert shown["cascaded"] == ({"public.by_name": 1} if beside else {})
    assert did(run_cleanup(db), "public.lounges") == 4
    assert keys_of(db, "public.lounges") == [key(1)]


def test_what_hangs_only_below_a_table_that_goes_along_goes_along(db: Connection) -> None:
    rooms(db, 2)
    hang(db, "by_id", key(1))
    create(
        db,
        """create table public.likes (id int primary key, said bigint not null references public.by_id on delete cascade)""",
        "create index on public.likes (said)",
        "insert into public.likes select 1, id from public.by_id",
        """create table public.pins (id int primary key, said bigint not null references public.by_id on delete cascade,
          lounge uuid not null references public.lounges on delete cascade)""",
        "create index on public.pins (said)",
        "create index on public.pins (lounge)",
    )
    db.execute("insert into public.by_id (lounge) values (%s)", [key(2)])
    db.execute("insert into public.pins select 1, id, lounge from public.by_id where lounge = %s", [key(2)])
    adopt_sessions(db, "public.lounges", "room", p_below={"public.by_id": "goes along"})
    assert did(run_cleanup(db), "public.lounges") == 1
    assert keys_of(db, "public.lounges") == [key(2)], "pins hang on the lounge itself too, and are not explained"


def test_a_table_below_the_whole_of_a_table_of_which_one_partition_hangs_below_is_named_taken_and_brought_back(
    db: Connection,
) -> None:
    rooms(db, 2)
    create(
        db,
        "create table public.parts (id int, region int, lounge uuid, primary key (id, region)) partition by list (region)",
        "create table public.parts_1 partition of public.parts for values in (1)",
        "create table public.parts_2 partition of public.parts for values in (2)",
        "alter table public.parts_1 add foreign key (lounge) references public.lounges on delete cascade",
        "create index on public.parts (lounge)",
        """create table public.marks (part int, region int, foreign key (part, region) references public.parts
          on delete cascade)""",
        "create index on public.marks (part, region)",
    )
    db.execute("insert into public.parts values (1, 1, %s), (2, 2, %s)", [key(1), key(1)])
    db.execute("insert into public.marks values (1, 1), (1, 1), (2, 2)")
    named = {"public.parts_1": "goes along", "public.marks": "goes along"}
    adopt_sessions(db, "public.lounges", "room", p_below=named)
    before = snapshot(db, "public.lounges", "public.parts", "public.marks")
    assert did(run_cleanup(db), "public.lounges") == 2
    assert scalar(db, "select array_agg(part) from public.marks") == [2], "a sibling partition does not hang below"
    restore_run(db)
    assert differences(before, snapshot(db, *before)) == []


def test_a_row_below_one_partition_is_counted_taken_and_brought_back(db: Connection) -> None:
    create(
        db,
        """create table public.drafts (id uuid primary key default gen_random_uuid(), status text default 'draft',
          updated_at timestamptz not null default now())""",
        "create index on public.drafts (updated_at)",
        """create table public.pieces (id bigint not null, draft uuid not null references public.drafts on delete cascade,
          day date not null, primary key (id, day)) partition by range (day)""",
        "create table public.pieces_now partition of public.pieces for values from ('2026-01-01') to ('2027-01-01')",
        "create table public.pieces_then partition of public.pieces for values from ('2025-01-01') to ('2026-01-01')",
        "create index on public.pieces (draft)",
        "alter table public.pieces_now add unique (id)",
        "create table public.marks (id int primary key, piece bigint not null references public.pieces_now (id) on delete cascade)",
        "create index on public.marks (piece)",
        """create table public.notes (id int primary key, piece bigint not null, day date not null,
          foreign key (piece, day) references public.pieces on delete cascade)""",
        "create index on public.notes (piece, day)",
    )
    adopt_sessions(db, "public.drafts", p_below={"public.pieces": "goes along"})
    db.execute("insert into public.drafts (id, updated_at) values (%s, now() - interval '3 days')", [key(1)])
    db.execute("insert into public.pieces values (1, %s, '2026-05-01'), (1, %s, '2025-05-01')", [key(1), key(1)])
    create(
        db,
        "insert into public.marks values (1, 1), (2, 1)",
        "insert into public.notes values (1, 1, '2026-05-01'), (2, 1, '2025-05-01')",
    )
    (shown,) = (each for each in dry_run(db, "public.drafts") if each["would"])
    assert (shown["would"], shown["cascaded_total"]) == (1, 6)
    assert did(run_cleanup(db), "public.drafts") == 1
    assert scalar(db, "select count(*) from public.marks") == 0
    restore_run(db)
    for table, many in {"drafts": 1, "pieces": 2, "marks": 2, "notes": 2}.items():
        assert scalar(db, f"select count(*) from public.{table}") == many, table


@pytest.fixture
def messages(db: Connection) -> Connection:
    """Two drafts of Ada's: the first has a message, which no status says."""
    create(
        db,
        """create table public.talks (
          id uuid primary key default gen_random_uuid(), author uuid not null, status text not null default 'draft',
          first_message_at timestamptz, updated_at timestamptz not null default now())""",
        "create index on public.talks (updated_at)",
        """create table public.lines (id bigint generated always as identity primary key,
          talk uuid not null references public.talks on delete cascade, body text)""",
        "create index on public.lines (talk)",
    )
    adopt_sessions(db, "public.talks", p_owner="author")
    for number in (1, 2):
        db.execute(
            "insert into public.talks (id, author, updated_at) values (%s, %s, now() - interval '3 days')",
            [key(number), ADA],
        )
    db.execute("insert into public.lines (talk, body) values (%s, 'hello')", [key(1)])
    return db


def test_a_draft_with_a_message_stays_and_one_without_comes_back_to_its_owner(messages: Connection) -> None:
    assert did(run_cleanup(messages), "public.talks") == 1
    assert keys_of(messages, "public.talks") == [key(1)]
    assert transition(messages, "get", key(1), user(ADA))["session"]["id"] == key(1)
    assert refused(messages, "get", key(2), user(ADA)).sqlstate == "PT410"
    answer = transition(messages, "activate", key(2), user(ADA))
    assert (answer["restored"], answer["session"]["status"]) == (True, "active")
    row = messages.execute(
        "select status, first_message_at is not null as had from public.talks where id = %s", [key(2)]
    ).fetchone()
    assert row == {"status": "active", "had": True}


def test_another_user_gets_404_at_every_stage(messages: Connection) -> None:
    for number in (1, 2):
        assert refused(messages, "get", key(number), user(BOB)).sqlstate == "PT404"
    run_cleanup(messages)
    for verb in ("get", "activate", "end"):
        assert refused(messages, verb, key(2), user(BOB)).sqlstate == "PT404", verb
    assert keys_of(messages, "public.talks") == [key(1)]
    messages.execute("update lull.archive_pages set purge_after = now() - interval '1 second'")
    run_cleanup(messages, "purge")
    assert refused(messages, "activate", key(2), user(BOB)).sqlstate == "PT404"
    assert refused(messages, "activate", key(2), user(ADA)).sqlstate == "PT410"


@pytest.fixture
def bills(db: Connection) -> tuple[Connection, list[str]]:
    """Five stale drafts of the API's; a bill, checked at commit, refers to the third."""
    create(
        db,
        "create table public.bills (id int primary key, session uuid not null "
        "references lull.sessions (id) deferrable initially deferred)",
        "create index on public.bills (session)",
    )
    sessions = [add_session(db, idle="3 days") for _ in range(5)]
    db.execute("insert into public.bills values (1, %s)", [sessions[2]])
    return db, sessions


def left(db: Connection) -> set[str]:
    return {str(row["id"]) for row in db.execute("select id from lull.sessions")}


def goes_along() -> list[dict[str, Any]]:
    return policies(abandoned_drafts={"below": {"public.bills": "goes along"}})


@pytest.mark.parametrize("by", ["calls", "steps"])
def test_a_row_that_refers_to_a_session_keeps_it_and_is_named(bills: tuple[Connection, list[str]], by: str) -> None:
    db, sessions = bills
    assert "public.bills" in json.dumps(preview(db, DRAFTS))
    if by == "calls":
        report = run_cleanup(db, DRAFTS)
        assert line(report, DRAFTS)["did"] == 4
    else:
        for _ in range(40):
            call(db, "lull_cleanup_step")
            if len(left(db)) == 1:
                break
    assert left(db) == {sessions[2]}


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_row_from_outside_keeps_its_session_though_it_is_said_to_go_along(
    bills: tuple[Connection, list[str]], size: int
) -> None:
    db, sessions = bills
    report = run_cleanup(db, DRAFTS, size=size, p_policies=goes_along())
    assert line(report, DRAFTS)["did"] == 4
    assert left(db) == {sessions[2]}
    assert "public.bills" in json.dumps([report, preview(db, DRAFTS, p_policies=goes_along())])


def test_a_row_from_outside_that_is_committed_after_the_judgement_is_caught_and_isolated(
    bills: tuple[Connection, list[str]],
    sql_database: Database,
) -> None:
    """The bill is written while the batch stands at its first delete: its check at commit found the session still there."""
    db, sessions = bills
    db.execute("delete from public.bills")
    run, writer = Run.begin(sql_database.connect(), DRAFTS, p_policies=goes_along()), sql_database.connect()
    assert run.open(DRAFTS)["would"] == 5
    writer.execute("begin")
    writer.execute("insert into public.bills values (2, %s)", [sessions[3]])
    run.drain(DRAFTS)  # whether it is passed over as busy or taken, the bill decides at its commit
    gone = sessions[3] not in left(db)
    try:
        writer.execute("commit")
        assert not gone, "the bill was written, and its session is gone"
    except psycopg.errors.ForeignKeyViolation:
        assert gone
    report = line(run.finish(), DRAFTS)
    assert report["did"] == 5 - len(left(db))
    assert len(left(db)) <= 1
