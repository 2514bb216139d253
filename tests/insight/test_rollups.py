"""Roll-ups are a recount of the event log: for random histories, late commits and two roll-ups at once."""

import random
from collections.abc import Callable
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.calls import CLEANUP
from tests.scale import examples

Sql = psycopg.Connection[Any]
Connect = Callable[..., Sql]
STATS = "/api/admin/stats"
CELLS = "select day, kind, measure, label, bucket, n, total from {} order by 1, 2, 3, 4, 5"
# What may follow one another in a session; `None` ends it.
EVENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("activated", {}),
    ("participant.joined", {"participant": "a"}),
    ("participant.joined", {"participant": "b"}),
    ("command_processed", {}),
    ("file-registered", {"file": "f"}),
    ("file-uploaded", {"file": "f"}),
    ("item.used", {"namespace": "app:x", "key": "map"}),
    ("archived", {"policy": "p", "status": "draft"}),
    ("archived", {"policy": "p", "status": "active"}),
    ("restored", {"run": "r"}),
    ("ended", {"reason": "ended"}),
    ("ended", {"reason": "discarded"}),
    ("purged", {}),
)


def write_history(sql: Sql, draw: random.Random) -> None:
    """One session's life of some events, days apart, in one to three transactions of which one may be undone."""
    session, kind, age = uuid4(), draw.choice(("chat", "room", "game")), draw.uniform(0, 20)
    events = [("created", {"status": draw.choice(("draft", "active"))}), *draw.choices(EVENTS, k=draw.randint(0, 8))]
    while events:
        some, events = events[: (size := draw.randint(1, 4))], events[size:]
        with sql.transaction() as block:
            for event, data in some:
                sql.execute(
                    "insert into lull.session_events (session_id, kind, event, at, data) "
                    "values (%s, %s, %s, now() - %s * interval '1 day', %s)",
                    (session, kind, event, age, Jsonb(data)),
                )
                age = max(0.0, age - draw.choice((0.0, 0.01, 2.0, 8.0)))
            if draw.random() < 0.1:
                raise psycopg.Rollback(block)


def check_against_recount(sql: Sql, zone: str = "UTC") -> int:
    """The roll-ups are the cells of the whole log. Return how many events they count."""
    recount = sql.execute(CELLS.format(f"lull.event_cells('0', null, '{zone}')")).fetchall()
    rolled = sql.execute(CELLS.format("lull.daily_rollups")).fetchall()
    live = sql.execute(
        CELLS.format("(select day, kind, measure, label, bucket, sum(n) as n, sum(total) as total "
                     "from lull.daily_cells('-infinity') group by 1, 2, 3, 4, 5) x")
    ).fetchall()
    for found in (rolled, live):
        assert [{**row, "total": pytest.approx(row["total"])} for row in recount] == [dict(row) for row in found]
    count = sql.execute("select count(*) as n from lull.session_events").fetchone()
    assert count is not None
    return int(count["n"])


def roll_up(sql: Sql, most: int = 20_000, zone: str = "UTC") -> int:
    """Count all that can be counted; return in how many steps."""
    steps = 1
    while sql.execute("select public.lull_roll_up(%s, %s) as x", (zone, most)).fetchone()["x"]["more"]:  # type: ignore[index]
        steps += 1
    return steps


def test_roll_ups_at_once_are_a_recount(sql: Sql, connect: Connect) -> None:
    """Eight writers with undone transactions, and two that roll up all the while."""
    writing = [Event() for _ in range(8)]
    connections = [connect(autocommit=True) for _ in range(10)]

    def write(place: int) -> None:
        draw = random.Random(place)
        for _ in range(examples(12)):
            write_history(connections[place], draw)
        writing[place].set()

    def count(place: int) -> None:
        while not all(each.is_set() for each in writing):
            roll_up(connections[place], most=place)

    threads = [Thread(target=write, args=(place,)) for place in range(8)]
    threads += [Thread(target=count, args=(place,)) for place in (8, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    roll_up(sql)
    assert check_against_recount(sql) > examples(12) * 8


def test_an_event_that_commits_late_counts_once(sql: Sql, connect: Connect) -> None:
    """An open transaction holds its event's number; a mark by number would pass over it. It counts live at once."""
    late, other = connect(autocommit=False), connect(autocommit=True)
    new = (
        "insert into lull.session_events (session_id, kind, event, at) "
        "values (%s, 'chat', 'created', now() - %s::interval)"
    )
    late.execute(new, (uuid4(), "3 days"))
    other.execute(new, (uuid4(), "0"))
    roll_up(sql)
    assert sql.execute("select count(*) as n from lull.daily_rollups").fetchone() == {"n": 0}
    live = "select coalesce(sum(n), 0) as n from lull.daily_cells('-infinity')"
    assert sql.execute(live).fetchone() == {"n": 1}
    late.commit()
    assert sql.execute(live).fetchone() == {"n": 2}
    roll_up(sql)
    roll_up(sql)
    assert check_against_recount(sql) == 2


def test_another_time_zone_counts_the_log_anew_and_keeps_what_it_does_not_reach(sql: Sql) -> None:
    for place in range(20):
        write_history(sql, random.Random(place))
    assert roll_up(sql, most=7) > 2
    check_against_recount(sql)
    sql.execute(
        "insert into lull.daily_rollups (day, kind, measure, n) values (current_date - 300, 'chat', 'created', 5)"
    )
    roll_up(sql, zone="Pacific/Auckland")
    oldest = "(select (min(at) at time zone 'Pacific/Auckland')::date + 1 from lull.session_events)"
    recount = sql.execute(
        CELLS.format(f"lull.event_cells('0', null, 'Pacific/Auckland') where day >= {oldest}")
    ).fetchall()
    rolled = sql.execute(CELLS.format(f"lull.daily_rollups where day >= {oldest}")).fetchall()
    assert [{**row, "total": pytest.approx(row["total"])} for row in recount] == [dict(row) for row in rolled]
    assert sql.execute("select n from lull.daily_rollups where day < current_date - 200").fetchone() == {"n": 5}
    with pytest.raises(psycopg.errors.DatabaseError, match="There is no time zone Nowhere"):
        roll_up(sql, zone="Nowhere")


def test_a_log_of_another_cluster_is_counted_anew(sql: Sql) -> None:
    for place in range(8):
        write_history(sql, random.Random(place))
    roll_up(sql)
    ahead = "(pg_current_xact_id()::text::bigint + 1000000)::text::xid8"
    sql.execute(f"update lull.session_events set xid = {ahead} where id % 2 = 0")
    sql.execute(f"update lull.event_readers set xid = {ahead} where name = 'rollup'")
    roll_up(sql)
    check_against_recount(sql)


def reads(sql: Sql) -> tuple[int, int]:
    """How many sequential scans of the event log this connection made, and how many of its rows it read."""
    row = sql.execute(
        "select seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) as n from pg_stat_xact_user_tables "
        "where relid = 'lull.session_events'::regclass"
    ).fetchone()
    return (row["seq_scan"], row["n"]) if row else (0, 0)


def test_numbers_of_a_large_log_touch_the_roll_ups_and_what_came_after(
    sql: Sql, api: httpx.Client, admin: dict[str, str]
) -> None:
    """A call reads the rows of the log that no roll-up has, and those of the last hours."""
    sql.execute(
        "insert into lull.session_events (session_id, kind, event, at, data) "
        "select gen_random_uuid(), 'chat', 'created', now() - interval '1 day' - n * interval '5 days' / %s, '{\"status\": \"draft\"}' "
        "from generate_series(1, %s) n",
        (examples(100_000), examples(100_000)),
    )
    sql.execute("analyze lull.session_events")  # as autovacuum does a minute later
    roll_up(sql)
    write_history(sql, random.Random(1))
    for function in ("lull_stats", "lull_funnel"):
        with sql.transaction():
            before = reads(sql)
            sql.execute(f"select public.{function}(7)")
            scans, rows = reads(sql)
        assert scans == before[0]
        assert rows - before[1] < 500
    answer = api.get(STATS, headers=admin)
    assert answer.json()["kinds"][0]["drafts"] >= examples(100_000)


def test_a_run_rolls_up_and_the_list_says_how_sessions_went(
    api: httpx.Client, admin: dict[str, str], sql: Sql
) -> None:
    session = uuid4()
    for age, event, data in (
        (100, "created", {"status": "draft"}),
        (90, "activated", {}),
        (80, "participant.joined", {"participant": "a"}),
        (70, "participant.joined", {"participant": "b"}),
        (60, "participant.joined", {"participant": "b"}),
        (40, "ended", {"reason": "ended"}),
    ):
        sql.execute(
            "insert into lull.session_events (session_id, kind, event, at, data) "
            "values (%s, 'room', %s, now() - %s * interval '1 minute', %s)",
            (session, event, age, Jsonb(data)),
        )
    sql.execute(
        "insert into lull.session_feedback (session_id, kind, author_hash, score) "
        "values (gen_random_uuid(), 'room', 'a', 4), (gen_random_uuid(), 'room', 'a', 5)"
    )
    before = api.get(STATS, headers=admin).json()
    assert api.post(CLEANUP, headers=admin).status_code == 200
    after = api.get(STATS, headers=admin).json()
    assert before["lagSeconds"] > 3600 > after["lagSeconds"]
    (kind,) = after["kinds"]
    assert kind == before["kinds"][0]
    assert kind | {"kind": "room", "created": 1, "drafts": 1, "activatedIn24Hours": 1, "ended": 1, "cleaned": 0,
                   "abandonedSharePercent": 0, "conversionRatePercent": 100,
                   "participants": {"n": 1, "average": 2, "median": 2}, "commands": None} == kind
    assert kind["durationSeconds"]["average"] == pytest.approx(3600, rel=0.01)
    assert kind["durationSeconds"]["median"] == pytest.approx(3600, rel=0.1)
    assert after["feedback"] == [{"kind": "room", "mode": None, "answers": 2, "averageScore": 4.5}]
    assert {"lull.sessions", "lull.session_events"} <= {table["table"] for table in after["tables"]}
    rolled = sql.execute("select sum(n) as n from lull.daily_rollups where kind = 'room'").fetchone()
    assert rolled is not None and rolled["n"] >= 5
