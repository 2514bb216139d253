"""Random schemas of teams: what goes comes back whole, whatever the schema, its rows and what was changed meanwhile.

`make test` draws 10 on each server, `make release-check` 250. OWN_TABLES_FIRST and OWN_TABLES choose the first and how
many.
"""

from __future__ import annotations

import os

import pytest

from tests.scale import SCALE
from tests.sql.own_tables.journey import travel
from tests.sql_servers import TEMPLATE, Server, database_on

FIRST = int(os.environ.get("OWN_TABLES_FIRST", "1"))
MANY = int(os.environ.get("OWN_TABLES", "0")) or (10 if SCALE == 1 else 250)


@pytest.mark.parametrize("number", range(FIRST, FIRST + MANY))
def test_a_random_schema_is_adopted_cleaned_and_restored_whole(sql_server: Server, number: int) -> None:
    with database_on(sql_server, template=TEMPLATE) as database:
        travel(database, number)
