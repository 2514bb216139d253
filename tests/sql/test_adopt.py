"""A team's own table: what lull.adopt() accepts, and each reason why it refuses."""

from __future__ import annotations

import psycopg
import pytest

from tests.sql.driver import preview, scalar
from tests.sql.team_tables import POLICY, adopt, clean, create, create_table, policy_on, restore
from tests.sql_servers import Connection


@pytest.fixture
def db(undone: Connection) -> Connection:
    return undone


def refusal(db: Connection, table: str, clock: str = "touched", **arguments: str | None) -> str:
    """Adopt a table that cannot be adopted and return the sentence."""
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        adopt(db, table, clock, **arguments)
    assert caught.value.sqlstate == "PT422"
    assert caught.value.diag.message_detail == "not-adoptable"
    assert scalar(db, "select count(*) from lull.targets where not builtin") == 0
    return str(caught.value.diag.message_primary)


def test_a_sound_table_is_adopted_cleaned_and_restored(db: Connection) -> None:
    create_table(db, "public.things", "id uuid primary key default gen_random_uuid()", "(default)", "(default, now())")
    create(
        db,
        "create table parts (thing uuid references things on delete cascade)",
        "create index on parts (thing)",
        "insert into parts select id from things",
    )
    assert adopt(db, "things") == ("public.things is adopted: a policy may act on it now. Nothing was changed in it.")
    done = clean(db, "public.things")
    assert (done["outcome"], done["did"], done["cascaded"]) == ("completed", 1, 1)
    assert restore(db)["restored"] == 1


def test_nothing_is_adopted_or_changed_by_a_look_at_it(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key", "(1)")
    line = preview(db, POLICY, p_policies=[policy_on("public.things")])
    assert line["error"] == "its target public.things is not adopted; run: select lull.adopt('public.things', ...)"
    assert scalar(db, "select count(*) from things") == 1


def test_a_unique_column_may_be_the_key(db: Connection) -> None:
    create_table(db, "public.things", "id int, code text not null unique", "(null, 'a')", "(1, 'b')")
    adopt(db, "public.things", p_key="code")
    assert clean(db, "public.things")["did"] == 2
    assert scalar(db, "select array_agg(key order by key) from lull.archive_keys") == ["a", "b"]


def test_a_composite_primary_key_is_a_key(db: Connection) -> None:
    create_table(db, "public.pairs", "a int, b text, primary key (b, a)", "(1, 'x')", "(2, 'x')", "(1, 'y', now())")
    adopt(db, "public.pairs")
    assert clean(db, "public.pairs")["did"] == 2
    assert scalar(db, "select array_agg(key order by key) from lull.archive_keys") == ['["x", "1"]', '["x", "2"]']
    assert restore(db)["restored"] == 2


def test_a_held_row_stays(db: Connection) -> None:
    create_table(db, "public.things", 'id int primary key, "Keep me" bool not null', "(1, true)", "(2, false)")
    adopt(db, "public.things", p_hold="Keep me")
    assert clean(db, "public.things")["did"] == 1
    assert scalar(db, "select array_agg(id) from things") == [1]


def test_a_row_with_a_null_clock_stays(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key", "(1, null)", "(2)")
    adopt(db, "public.things")
    assert clean(db, "public.things")["did"] == 1
    assert scalar(db, "select array_agg(id) from things") == [1]


def test_quoted_and_mixed_case_names_work(db: Connection) -> None:
    create(
        db,
        'create schema "Our App"',
        'create table "Our App"."User.Rows" ("Id" int primary key, "Last Seen" timestamptz, "Kind" text, "order" int)',
        'create index on "Our App"."User.Rows" ("Kind", "Last Seen")',
        """insert into "Our App"."User.Rows" values (1, '2000-01-01', 'a', null), (2, '2000-01-01', 'b', null)""",
        """insert into "Our App"."User.Rows" values (3, '2000-01-01', 'a', 1)""",
    )
    adopt(db, '"Our App"."User.Rows"', "Last Seen")
    done = clean(db, '"Our App"."User.Rows"', clock="Last Seen", equals={"Kind": "a"}, nulls=["order"])
    assert (done["outcome"], done["did"]) == ("completed", 1)
    assert scalar(db, 'select array_agg("Id" order by "Id") from "Our App"."User.Rows"') == [2, 3]


def test_an_entry_is_updated_when_a_table_is_adopted_again(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key, code text not null unique, held bool not null")
    adopt(db, "public.things")
    adopt(db, "public.things", p_key="code", p_hold="held")
    query = "select key_columns, hold_column from lull.targets where name = 'public.things'"
    assert db.execute(query).fetchall() == [{"key_columns": ["code"], "hold_column": "held"}]


def test_a_view_is_refused(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key")
    db.execute("create view seen as select * from things")
    assert refusal(db, "public.seen") == "public.seen cannot be adopted: it is a view."


def test_a_partition_alone_is_refused(db: Connection) -> None:
    create(
        db,
        "create table logs (id int, touched timestamptz, primary key (id)) partition by range (id)",
        "create table logs_1 partition of logs for values from (1) to (2)",
        "create index on logs (touched)",
    )
    adopt(db, "public.logs")
    db.execute("select lull.release('public.logs')")
    said = "public.logs_1 cannot be adopted: it is a partition; adopt the whole table."
    assert refusal(db, "public.logs_1") == said


def test_a_table_that_others_inherit_from_is_refused(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key")
    db.execute("create table special (more text) inherits (things)")
    assert refusal(db, "public.things") == "public.things cannot be adopted: it is not a plain table."


def test_a_child_that_others_inherit_from_is_refused(db: Connection) -> None:
    create_table(db, "public.things", "id int primary key")
    create(
        db,
        "create table parts (thing int references things on delete cascade)",
        "create index on parts (thing)",
        "create table special () inherits (parts)",
    )
    assert refusal(db, "public.things") == (
        "public.things cannot be adopted: "
        "public.parts below it has inheriting tables, which its foreign key does not cover."
    )


def test_lulls_own_table_is_refused(db: Connection) -> None:
    assert "it belongs to Lull" in refusal(db, "lull.tombstones", "purged_at")


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("id int", None),
        ("id int unique", None),
        ("id int unique", "id"),
        ("id int primary key, code int", "code"),
        ("id int primary key deferrable", None),
        ("id int primary key", "nothing"),
    ],
    ids=["no key", "no primary key", "nullable", "not unique", "deferrable", "no such column"],
)
def test_a_table_without_a_sound_key_is_refused(db: Connection, columns: str, key: str | None) -> None:
    create_table(db, "public.things", columns)
    name = key or "the primary key"
    assert f"{name} is no unique, not-null key of it" in refusal(db, "public.things", p_key=key)


@pytest.mark.parametrize("where", ["(id) where id > 0", "((id + 0))", "(id, code)"])
def test_a_unique_index_that_is_partial_or_on_more_is_no_key(db: Connection, where: str) -> None:
    create_table(db, "public.things", "id int not null, code int not null")
    db.execute(f"create unique index on things {where}")
    assert "id is no unique, not-null key of it" in refusal(db, "public.things", p_key="id")


@pytest.mark.parametrize(("clock", "kind"), [("at", "timestamp"), ("at", "date"), ("at", "text"), ("nothing", "int")])
def test_a_clock_that_is_not_timestamptz_is_refused(db: Connection, clock: str, kind: str) -> None:
    create(db, f"create table things (id int primary key, at {kind})", "create index on things (at)")
    assert f"its clock column {clock} " in refusal(db, "public.things", clock)


@pytest.mark.parametrize(
    "index",
    [
        None,
        "(id) include (touched)",
        "using brin (touched)",
        "using hash (touched)",
    ],
)
def test_a_clock_without_an_index_that_orders_by_it_is_refused(db: Connection, index: str | None) -> None:
    db.execute("create table things (id int primary key, touched timestamptz)")
    if index:
        db.execute(f"create index on things {index}")
    assert "no index begins its order with the clock touched" in refusal(db, "public.things")


@pytest.mark.parametrize("action", ["no action", "restrict", "set null", "set default"])
@pytest.mark.parametrize("level", ["things", "parts"])
def test_a_foreign_key_that_does_not_cascade_is_accepted_on_every_level(
    db: Connection, action: str, level: str
) -> None:
    """What it means is decided row by row: one that refers from outside keeps its root."""
    create_table(db, "public.things", "id int primary key")
    create(
        db,
        "create table parts (id int primary key, thing int references things on delete cascade)",
        "create index on parts (thing)",
        f"create table others (thing int constraint ours references {level} on delete {action})",
        "create index on others (thing)",
    )
    assert "is adopted" in adopt(db, "public.things")


@pytest.mark.parametrize("index", [None, "(note, thing)", "(thing) where note > 0", "((thing + 1))"])
def test_a_foreign_key_without_an_index_is_refused(db: Connection, index: str | None) -> None:
    create_table(db, "public.things", "id int primary key")
    db.execute("create table parts (thing int references things on delete cascade, note int)")
    if index:
        db.execute(f"create index on parts {index}")
    assert refusal(db, "public.things") == (
        "public.things cannot be adopted: the foreign key of public.parts on (thing) has no index."
    )


@pytest.mark.parametrize(
    ("hold", "said"), [("missing", "does not exist"), ("held", "is text"), ("maybe", "may be null")]
)
def test_a_hold_column_that_is_not_a_not_null_boolean_is_refused(db: Connection, hold: str, said: str) -> None:
    create_table(db, "public.things", "id int primary key, held text not null, maybe boolean")
    assert f"its hold column {hold} {said}" in refusal(db, "public.things", p_hold=hold)


def test_all_reasons_are_told_at_once_with_the_statements_that_help(db: Connection) -> None:
    create(
        db,
        "create table things (id int unique not null, touched timestamp)",
        "create table parts (thing int references things (id) on delete cascade)",
    )
    with pytest.raises(psycopg.Error) as caught, db.transaction():
        adopt(db, "public.things", p_hold="held")
    for reason in (
        "its hold column held does not exist",
        "its clock column touched is timestamp without time zone; it must be timestamp with time zone",
        "the primary key is no unique, not-null key of it",
        "the foreign key of public.parts on (thing) has no index",
        "no index begins its order with the clock touched (or with the columns of a policy and then touched)",
    ):
        assert reason in str(caught.value.diag.message_primary)
    assert "create index on public.parts (thing);" in str(caught.value.diag.message_hint)
    assert "alter table public.things alter column touched type timestamptz;" in str(caught.value.diag.message_hint)
