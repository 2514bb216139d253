"""A policy that does not fit the database: refused by name with the reason, and alone in failing."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from tests.sql.driver import add_session, line, policies, preview, run_cleanup, scalar
from tests.sql.team_tables import POLICY, adopt, clean, create, create_table, policy_on
from tests.sql_servers import Connection


@pytest.fixture
def db(undone: Connection) -> Connection:
    connection = undone
    create(
        connection,
        "create type mood as enum ('fine', 'bad')",
        "create domain digit as int check (value < 10)",
    )
    create_table(
        connection,
        "public.things",
        "id int primary key, n int, mood mood, at date, digit digit, place point, code varchar(4), fixed char(4)",
        "(1, 1, 'fine', '2020-01-01', 1, null, 'long', 'long')",
    )
    adopt(connection, "public.things")
    return connection


def refusal(db: Connection, **changes: Any) -> str:
    """Try to store a policy and return the sentence; the policies are as before."""
    before = scalar(db, "select count(*) from lull.policies")
    policy = policy_on("public.things") | changes
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        db.execute("select lull.apply_policies(%s)", (json.dumps([*policies(), policy]),))
    assert (caught.value.sqlstate, caught.value.diag.message_detail) == ("PT422", "invalid-policy")
    assert scalar(db, "select count(*) from lull.policies") == before
    said = str(caught.value.diag.message_primary)
    assert said.startswith(f'Policy "{POLICY}" is invalid: ')
    assert preview(db, POLICY, p_policies=[policy])["error"] + "." in said
    return said.removeprefix(f'Policy "{POLICY}" is invalid: ')


def test_a_sound_policy_is_stored(db: Connection) -> None:
    db.execute("select lull.apply_policies(%s)", (json.dumps([*policies(), policy_on("public.things")]),))
    assert scalar(db, "select age from lull.policies where name = %s", POLICY).total_seconds() == 3600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"target": "public.others"},
            "its target public.others is not adopted; run: select lull.adopt('public.others', ...).",
        ),
        ({"target": "pg_class"}, "its target pg_class is not adopted"),
        ({"target": "no table; at all"}, "its target no table; at all is not adopted"),
        ({"target": None}, "its target is missing"),
        ({"clock": "seen"}, "its clock column seen does not exist in public.things."),
        ({"clock": None}, "its clock is missing"),
        ({"clock": "at"}, "its clock at is date; it must be timestamptz."),
        ({"equals": {"colour": "red"}}, "unknown column colour in public.things."),
        ({"nulls": ["colour"]}, "unknown column colour in public.things."),
        (
            {"nulls": ["colour"], "equals": {"n": 1, "Mood": "fine"}},
            "unknown column Mood, colour in public.things.",
        ),
        ({"age_seconds": -1}, "its age is negative or missing."),
        ({"age_seconds": None}, "its age is negative or missing."),
        (
            {"equals": {"n": "many"}},
            'a value in its equals does not fit the column: invalid input syntax for type integer: "many".',
        ),
        (
            {"equals": {"mood": "so so"}},
            'a value in its equals does not fit the column: invalid input value for enum public.mood: "so so".',
        ),
        ({"equals": {"n": 3000000000}}, "a value in its equals does not fit the column"),
        ({"equals": {"digit": 11}}, "a value in its equals does not fit the column"),
        ({"equals": {"place": "(1,1)"}}, "a value in its equals does not fit the column"),
    ],
)
def test_what_does_not_fit_is_the_reason(db: Connection, changes: dict[str, Any], reason: str) -> None:
    assert refusal(db, **changes).startswith(reason)


@pytest.mark.parametrize(("column", "value"), [("code", "longer"), ("fixed", "longer"), ("code", "lon")])
def test_a_value_longer_than_its_column_matches_nothing(db: Connection, column: str, value: str) -> None:
    assert clean(db, "public.things", equals={column: value})["did"] == 0
    assert clean(db, "public.things", equals={column: "long"})["did"] == 1


def test_a_dropped_index_is_the_reason(db: Connection) -> None:
    db.execute("drop index things_touched_idx")
    assert refusal(db) == (
        "no index of public.things serves its selection; create one on (touched, id) for the rows it takes."
    )


def test_an_index_for_other_rows_does_not_serve(db: Connection) -> None:
    create(db, "drop index things_touched_idx", "create index on things (touched) where n = 1")
    assert refusal(db, equals={"n": 2}).startswith("no index of public.things serves its selection")
    assert clean(db, "public.things", equals={"n": 1})["did"] == 1


def test_an_index_on_another_column_does_not_hide_the_one_that_serves(db: Connection) -> None:
    create(
        db,
        "create index on things (n)",
        "insert into things (id, n, touched) select n, n, now() from generate_series(2, 5000) n",
        "analyze things",
    )
    assert clean(db, "public.things", equals={"n": 1})["outcome"] == "completed"


@pytest.mark.parametrize("action", ["restrict", "set null", "set default", "no action"])
def test_a_row_that_a_key_added_later_refers_to_is_kept_and_named(db: Connection, action: str) -> None:
    create(
        db,
        f"create table notes (thing int constraint ours references things on delete {action})",
        "insert into things (id) values (2), (3)",
        "insert into notes values (2)",
    )
    done = clean(db, "public.things")
    assert (done["did"], done["outcome"], done["skipped_rows"]) == (2, "completed", [])
    assert [row["key"] for row in done["kept_rows"]] == ["2"]
    assert "public.notes" in done["kept_rows"][0]["reason"]
    assert scalar(db, "select thing from notes") == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("drop table things", "it does not exist; if it is gone for good, release it"),
        ("alter table things rename to renamed", "it does not exist; public.renamed has its place"),
        ("alter table things drop held", "its hold column held does not exist in public.things"),
        ("alter table things drop id", "its key column id does not exist in public.things"),
        ("alter table things drop touched", "its clock column touched does not exist in public.things"),
    ],
)
def test_a_table_that_changed_fails_its_policy_and_no_other(db: Connection, change: str, reason: str) -> None:
    db.execute("alter table things add held boolean not null default false")
    adopt(db, "public.things", p_hold="held")
    session = add_session(db)
    db.execute(change)
    report = run_cleanup(db, p_policies=[*policies(), policy_on("public.things")])
    assert line(report, POLICY)["outcome"] == "failed"
    assert line(report, POLICY)["error"].startswith(reason)
    assert line(report, "abandoned-drafts")["did"] == 1
    assert scalar(db, "select key from lull.archive_keys") == session


def test_a_row_that_cannot_even_be_read_is_skipped_and_the_rest_goes(db: Connection) -> None:
    create(
        db,
        """create function say(mood) returns text language plpgsql as $$
             begin if $1 = 'bad' then raise 'unspeakable'; end if; return 'fine'; end $$""",
        "create cast (mood as text) with function say(mood)",
        "insert into things (id, mood) values (2, 'bad'), (3, 'fine')",
    )
    done = clean(db, "public.things")
    assert (done["did"], done["skipped_rows"]) == (2, [{"key": "2", "reason": "unspeakable"}])
    assert scalar(db, "select array_agg(id) from things") == [2]


def test_a_table_that_changed_under_a_running_policy_ends_it_and_no_other(db: Connection) -> None:
    session = add_session(db)
    report = run_cleanup(
        db,
        p_policies=[policy_on("public.things"), *policies()],
        each=lambda _: create(db, "alter table if exists things rename to renamed"),
    )
    assert (line(report, POLICY)["outcome"], line(report, POLICY)["did"]) == ("failed", 0)
    assert "public.renamed has its place" in line(report, POLICY)["error"]
    assert scalar(db, "select count(*) from lull.archive_keys where key = %s", session) == 1


def test_a_column_dropped_under_a_running_policy_ends_it(db: Connection) -> None:
    report = run_cleanup(
        db,
        p_policies=[policy_on("public.things"), *policies()],
        each=lambda _: create(db, "alter table things drop column if exists touched"),
    )
    assert (line(report, POLICY)["outcome"], line(report, POLICY)["did"]) == ("failed", 0)
    assert line(report, POLICY)["error"] == "its clock column touched does not exist in public.things"
