"""What the cleanup archived comes back exactly: every type, every shape of a row."""

from __future__ import annotations

import pytest

from tests.sql import every_type
from tests.sql.team_tables import adopt, clean, restore, snapshot
from tests.sql_servers import Connection, Database

# Settings of a session, a role or a database that change how values are written and read.
ELSEWHERE = [
    ("datestyle", "German, DMY"),
    ("datestyle", "SQL, MDY"),
    ("datestyle", "Postgres, YMD"),
    ("intervalstyle", "sql_standard"),
    ("intervalstyle", "postgres_verbose"),
    ("intervalstyle", "iso_8601"),
    ("timezone", "America/New_York"),
    ("timezone", "Asia/Kathmandu"),
    ("extra_float_digits", "-15"),
    ("extra_float_digits", "0"),
    ("bytea_output", "escape"),
    ("lc_monetary", "en_US.UTF-8"),
    ("xmloption", "document"),
    ("array_nulls", "off"),
    ("search_path", "pg_catalog"),
    ("quote_all_identifiers", "on"),
]


@pytest.fixture
def db(sql_database: Database) -> Connection:
    return sql_database.connect()


def test_the_samples_cover_every_built_in_type(db: Connection) -> None:
    covered = set(every_type.SAMPLES)
    assert every_type.built_in_types(db) <= covered


def test_a_row_with_a_column_of_every_type_comes_back_exactly(db: Connection) -> None:
    every_type.create_table_of_every_type(db)
    adopt(db, "public.everything")
    before = snapshot(db, "public.everything")
    done = clean(db, "public.everything")
    assert done["outcome"] == "completed"
    assert done["did"] == len(before["public.everything"])
    assert snapshot(db, "public.everything") == {"public.everything": []}
    assert restore(db)["conflicts"] == []
    assert snapshot(db, "public.everything") == before
