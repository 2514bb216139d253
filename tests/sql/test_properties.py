"""For any set of sessions and any time: dry run = run = an independent oracle in Python, to the microsecond."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database import truncate
from tests.scale import examples
from tests.sql.driver import Connection, Run, line, policies, preview, run_cleanup
from tests.sql_servers import Database

AGES = {
    ("chat", "draft"): ("abandoned-drafts", timedelta(hours=24)),
    ("game", "active"): ("orphaned-games", timedelta(minutes=30)),
    ("room", "active"): ("empty-rooms", timedelta(hours=1)),
    ("room", "draft"): ("unopened-rooms", timedelta(hours=24)),
    ("game", "draft"): ("unopened-games", timedelta(hours=24)),
}
MICROSECOND = timedelta(microseconds=1)
pytestmark = pytest.mark.timeout(600)
PROPERTY = settings(
    max_examples=examples(8),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Row:
    """A session, its clock relative to a run's time."""

    kind: str
    status: str
    idle: timedelta
    hold: bool
    participants: int

    def policy(self) -> str | None:
        """The oracle: which policy takes this row, by the words of the design and none of its SQL."""
        name, age = AGES.get((self.kind, self.status), (None, timedelta(0)))
        return name if name and not self.hold and self.idle > age else None


edges = st.sampled_from([age + step * MICROSECOND for _, age in AGES.values() for step in (-1, 0, 1)])
idle_times = st.one_of(edges, st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=4000)))
rows = st.lists(
    st.builds(
        Row,
        kind=st.sampled_from(["chat", "room", "game"]),
        status=st.sampled_from(["draft", "active", "paused", "ended"]),
        idle=idle_times,
        hold=st.sampled_from([False, False, False, True]),
        participants=st.integers(0, 2),
    ),
    max_size=25,
)


def insert(db: Connection, sessions: list[Row], at: datetime) -> dict[str, Row]:
    """Insert sessions as of `at`; return them by id."""
    known = {}
    for row in sessions:
        found = db.execute(
            """insert into lull.sessions (kind, status, last_activity_at, hold, first_message_at, paused_at, ended_at)
            values (%(kind)s, %(status)s, %(clock)s, %(hold)s,
              case when %(status)s <> 'draft' then now() end,
              case when %(status)s = 'paused' then now() end, case when %(status)s = 'ended' then now() end)
            returning id::text""",
            {"kind": row.kind, "status": row.status, "clock": at - row.idle, "hold": row.hold},
        ).fetchone()
        assert found
        known[found["id"]] = row
        db.execute(
            "insert into lull.session_participants (session_id, last_seen_at) select %s, %s from generate_series(1, %s)",
            [found["id"], at - timedelta(days=900), row.participants],
        )
    return known


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


@PROPERTY
@given(sessions=rows, size=st.integers(1, 8))
def test_dry_run_and_run_and_oracle_agree(db: Connection, sessions: list[Row], size: int) -> None:
    truncate(db)
    run = Run.begin(db)
    at = datetime.fromisoformat(run.begun["at"])
    known = insert(db, sessions, at)
    for policy in run.begun["policies"]:
        taken = {key for key, row in known.items() if row.policy() == policy}
        below = sum(known[key].participants for key in taken)
        shown = preview(db, policy, p_at=at.isoformat(), p_sample=policy, p_limit=200)
        assert {entry["key"] for entry in shown["sample"]} == taken
        assert shown["sample"] == sorted(shown["sample"], key=lambda entry: (entry["clock"], entry["key"]))
        opened = run.open(policy)
        outcome = "open" if taken else "completed"
        assert opened | {"sample": shown["sample"], "notes": shown["notes"]} == shown | {"outcome": outcome}
        assert (opened["would"], opened["cascaded_total"]) == (len(taken), below)
        run.drain(policy, size)
        archived = "select k.key from lull.archive_keys k join lull.archive_pages p on p.id = k.page where p.policy = %s"
        assert {row["key"] for row in db.execute(archived, [policy])} == taken
    report = run.finish()
    assert {entry["policy"]: (entry["would"], entry["did"]) for entry in report["policies"]} == {
        name: (count, count)
        for name in run.begun["policies"]
        for count in [sum(row.policy() == name for row in known.values())]
    }
    kept = {key for key, row in known.items() if row.policy() is None}
    assert {str(row["id"]) for row in db.execute("select id from lull.sessions")} == kept


@PROPERTY
@given(sessions=rows)
def test_what_may_never_go_survives_two_runs_and_the_second_deletes_nothing(
    db: Connection, sessions: list[Row]
) -> None:
    truncate(db)
    now = db.execute("select now() as at").fetchone()
    assert now
    known = insert(db, sessions, now["at"])
    run_cleanup(db)
    assert all(entry["did"] == 0 for entry in run_cleanup(db)["policies"] if entry["target"] == "lull.sessions")
    left = {str(row["id"]) for row in db.execute("select id from lull.sessions")}
    for key, row in known.items():
        if row.hold or row.status in ("paused", "ended") or row.idle <= timedelta(0):
            assert key in left


@PROPERTY
@given(sessions=rows, offset=st.timedeltas(min_value=timedelta(days=-4000), max_value=timedelta(days=4000)))
def test_a_dry_run_at_any_time_is_what_the_oracle_says_of_that_time(
    db: Connection, sessions: list[Row], offset: timedelta
) -> None:
    truncate(db)
    moment = datetime.fromisoformat("2026-03-29T00:59:59.999999+00:00") + offset
    known = insert(db, sessions, moment)
    for name, _ in AGES.values():
        shown = preview(db, name, p_at=moment.isoformat())
        assert shown["would"] == sum(row.policy() == name for row in known.values())


clocks = st.one_of(st.none(), idle_times)


@PROPERTY
@given(idle=st.lists(clocks, max_size=20), same=st.booleans(), size=st.integers(1, 5))
def test_a_row_without_a_clock_never_goes(db: Connection, idle: list[timedelta | None], same: bool, size: int) -> None:
    truncate(db)
    db.execute(
        "drop table if exists public.things; create table public.things (id serial primary key, used_at timestamptz)"
    )
    db.execute("create index on public.things (used_at, id); select lull.adopt('public.things', 'used_at')")
    policy = policies()[0] | {
        "name": "things",
        "target": "public.things",
        "clock": "used_at",
        "equals": {},
        "nulls": [],
    }
    run = Run.begin(db, p_policies=[policy])
    at = datetime.fromisoformat(run.begun["at"])
    values: list[Any] = [None if one is None else at - (idle[0] or one if same else one) for one in idle]
    for value in values:
        db.execute("insert into public.things (used_at) values (%s)", [value])
    stale = sum(value is not None and value < at - timedelta(hours=24) for value in values)
    assert run.open("things")["would"] == stale
    run.drain("things", size)
    assert line(run.finish(), "things")["did"] == stale
    left = db.execute("select used_at from public.things").fetchall()
    assert len(left) == len(values) - stale
    assert sum(row["used_at"] is None for row in left) == values.count(None)


def test_the_oracle_can_disagree(db: Connection) -> None:
    """A policy one microsecond off is noticed, so the agreement above means something."""
    shifted = policies(abandoned_drafts={"age_seconds": 24 * 3600 + 0.000001})
    run = Run.begin(db, p_policies=shifted)
    insert(
        db,
        [Row("chat", "draft", timedelta(hours=24) + MICROSECOND, False, 0)],
        datetime.fromisoformat(run.begun["at"]),
    )
    assert run.open("abandoned-drafts")["would"] == 0
