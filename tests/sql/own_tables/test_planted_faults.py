"""The journey through random schemas notices a fault that is planted in Lull: the proof left out, a table left out of pages."""

from __future__ import annotations

import re

import pytest

from tests.sql.own_tables.journey import travel
from tests.sql_servers import TEMPLATE, Server, database_on

SCHEMAS = range(1, 11)
FAULTS = {
    "what was deleted is not compared with what was archived": """
        create or replace function lull.check_deleted(
          p_made lull.compiled_policies, p_tabs oid[], p_relations oid[], p_deleted bigint[], p_updated bigint[])
        returns jsonb language sql set search_path = pg_catalog, pg_temp as $$ select '{}'::jsonb $$;
    """,
    "one table below is not in the archive": """
        alter function lull.archive_places rename to archive_places_whole;
        create function lull.archive_places(
          p_line lull.cleanup_run_policies, p_policy lull.policy_definition, p_made lull.compiled_policies, p_tabs oid[],
          p_ctids tid[], p_roots integer[], p_count integer, p_size bigint, p_keys text[], p_owners uuid[])
        returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
        begin
          perform lull.archive_places_whole(
            p_line, p_policy, p_made, p_tabs, p_ctids, p_roots, p_count, p_size, p_keys, p_owners);
          update lull.archive_pages
          set content = (
            select json_agg(e order by n) from json_array_elements(content) with ordinality x (e, n)
            where n = 1 or n < json_array_length(content))
          where run_id = p_line.run_id;
        end $$;
    """,
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_fault_makes_a_journey_fail(sql_server: Server, fault: str) -> None:
    failures = []
    for number in SCHEMAS:
        with database_on(sql_server, template=TEMPLATE) as database:
            database.connect().execute(FAULTS[fault].encode())
            try:
                travel(database, number)
            except AssertionError as error:
                failures.append(str(error))
                break
    assert failures, "ten schemas were travelled, and nothing was noticed"
    noticed = failures[0].split("\n")[0]
    broken = re.search(r"psycopg|(function|column|relation) \S+ does not exist", noticed)
    assert not broken, "the fault is broken itself: " + failures[0]
