"""What the cleanup archived comes back exactly: every type, every shape of a row."""

from __future__ import annotations

import pytest

from tests.sql import every_type
from tests.sql.team_tables import adopt, clean, create, create_table, differences, restore, snapshot
from tests.sql_servers import Connection, Database

# Settings of a session, a role or a database that change how values are written and read.
ELSEWHERE = {
    "in Germany": {"datestyle": "German, DMY", "intervalstyle": "sql_standard", "timezone": "Europe/Berlin"},
    "in New York": {
        "datestyle": "SQL, MDY",
        "intervalstyle": "postgres_verbose",
        "timezone": "America/New_York",
    },
    "in Kathmandu": {"datestyle": "Postgres, YMD", "intervalstyle": "iso_8601", "timezone": "Asia/Kathmandu"},
    "rounding": {"extra_float_digits": "-15", "bytea_output": "escape"},
    "peculiar": {"xmloption": "document", "array_nulls": "off", "search_path": "pg_catalog"},
}


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def assert_there_and_back(db: Connection, *tables: str, cascaded: int = 0) -> None:
    """Clean the adopted first table, find all empty, restore, and find every bit as it was."""
    adopt(db, tables[0])
    before = snapshot(db, *tables)
    done = clean(db, tables[0])
    assert (done["outcome"], done["did"], done["cascaded"]) == ("completed", len(before[tables[0]]), cascaded)
    assert snapshot(db, *tables) == {table: [] for table in tables}
    assert restore(db)["reasons"] == []
    assert differences(before, snapshot(db, *tables)) == []


def test_the_samples_cover_every_built_in_type(db: Connection) -> None:
    assert every_type.built_in_types(db) <= set(every_type.SAMPLES)


def test_a_row_with_a_column_of_every_type_comes_back_exactly(db: Connection) -> None:
    every_type.create_table_of_every_type(db)
    assert_there_and_back(db, "public.everything")


@pytest.mark.parametrize("settings", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_callers_settings_change_nothing(sql_database: Database, settings: dict[str, str]) -> None:
    here, there = sql_database.connect(), sql_database.connect()
    for name, value in settings.items():
        there.execute("select set_config(%s, %s, false)", (name, value))
    every_type.create_table_of_every_type(here)
    adopt(here, "public.everything")
    before = snapshot(here, "public.everything")
    for cleaner, restorer in [(here, there), (there, here)]:
        clean(cleaner, "public.everything")
        assert snapshot(here, "public.everything") == {"public.everything": []}
        assert restore(restorer)["reasons"] == []
        assert differences(before, snapshot(here, "public.everything")) == []
        here.execute("delete from lull.holds where reason = 'restored'")


def test_types_that_a_team_made_come_back_exactly(db: Connection) -> None:
    create(
        db,
        """create schema "Team's" """,
        """create type "Team's"."Mood" as enum ('so so', 'it''s "fine"', '')""",
        """create type "Team's".pair as (a text, b "Team's"."Mood", c timestamptz, d float8[])""",
        """create domain "Team's".code as char(4) check (value <> 'no')""",
        """create domain "Team's".pairs as "Team's".pair[]""",
        """create type "Team's".span as range (subtype = float8)""",
    )
    types = ['"Mood"', '"Mood"[]', "pair", "pair[]", "code", "pairs", "span", "span[]"]
    create_table(
        db,
        "public.made",
        "id int primary key, " + ", ".join(f"""c{n} "Team's".{name}""" for n, name in enumerate(types)),
        "(1)",
        r"""(2, 'it''s "fine"', '{"so so",NULL,""}', row(null, null, null, null),
             array[row('a"b,(\', '', '0044-03-15 BC', '{NaN,-0}'), null]::"Team's".pair[], 'ab ',
             array[row('', 'so so', 'infinity', null)]::"Team's".pair[], '[0.1,Infinity)', '{empty,NULL}')""",
        "(3, null, null, row('', null, '-infinity', '[2:3]={1,2}'))",
    )
    assert_there_and_back(db, "public.made")


def test_arrays_keep_dimensions_bounds_and_nulls(db: Connection) -> None:
    create_table(
        db,
        "public.arrays",
        "id int primary key, numbers int[], texts text[][]",
        "(1, '{}', '{}')",
        """(2, '[-2:0]={1,NULL,3}', '[0:1][5:6]={{a,NULL},{"NULL",""}}')""",
        r"""(3, '{{{1},{2}},{{3},{4}}}', array[E'a\\b', E'\n', '"', ' '])""",
    )
    assert_there_and_back(db, "public.arrays")


def test_json_null_and_sql_null_stay_distinct(db: Connection) -> None:
    create_table(
        db,
        "public.nulls",
        "id int primary key, one jsonb, several jsonb[]",
        """(1, 'null', '{"null",NULL}'), (2, null, null), (3, '[null]', '{}')""",
    )
    assert_there_and_back(db, "public.nulls")
    assert db.execute("select id from public.nulls where one is null").fetchall() == [{"id": 2}]


def test_identity_serial_and_generated_columns_come_back_and_count_on(db: Connection) -> None:
    create_table(
        db,
        "public.numbered",
        """always bigint generated always as identity primary key, serial serial, small smallserial,
           by_default int generated by default as identity,
           doubled numeric generated always as (n * 2) stored, n numeric(6,2)""",
    )
    db.execute("insert into public.numbered (n) values (1.5), (-2)")
    assert_there_and_back(db, "public.numbered")
    db.execute("insert into public.numbered (n) values (7)")
    query = "select always, by_default, serial, small, doubled from public.numbered where n = 7"
    assert [list(map(int, row.values())) for row in db.execute(query)] == [[3, 3, 3, 3, 14]]


def test_odd_names_come_back(db: Connection) -> None:
    table, child = '"My ""own"" Schema"."Weird "".Table"', '"My ""own"" Schema"."Children"'
    create(db, 'create schema "My ""own"" Schema"')
    create_table(
        db,
        table,
        r"""  "Key "" %s" text primary key, "Weird ""Col"" é" text, "select" int, "Ü, {}" text,
           "x'y\" text[]""",
        r"""(E'it''s\n\\ "ø"', 'a', 1, 'b', '{c}'), ('', null, null, null, null)""",
    )
    create(
        db,
        f'create table {child} ("Parent" text references {table} on delete cascade, "a b" text)',
        f'create index on {child} ("Parent")',
        rf"""insert into {child} values ('', E'one\ttab'), ('', null), (E'it''s\n\\ "ø"', '')""",
    )
    assert_there_and_back(db, table, child, cascaded=3)


def test_a_composite_key_comes_back(db: Connection) -> None:
    create_table(
        db,
        "public.pairs",
        "a text, b timestamptz, c float8, d char(4), primary key (c, a, d, b)",
        "('x', '2024-01-01', 0.1, 'ab')",
        """('"', 'infinity', 'NaN', '')""",
        "(',', '0044-03-15 BC', '-0', 'abcd')",
    )
    assert_there_and_back(db, "public.pairs")


def test_a_generated_key_and_clock_come_back(db: Connection) -> None:
    create(
        db,
        """create table public.made (n int, id int generated always as (n * 2) stored primary key,
             touched timestamptz generated always as ('2000-01-01'::timestamptz) stored)""",
        "create index on public.made (touched)",
        "insert into public.made values (1), (2)",
        """create table public.below (made int references public.made on delete cascade,
             double int generated always as (made * 2) stored)""",
        "create index on public.below (made)",
        "insert into public.below values (2), (4), (4)",
    )
    assert_there_and_back(db, "public.made", "public.below", cascaded=3)
