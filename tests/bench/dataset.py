"""The data of the benchmarks: sessions in random heap order, a participant each and half a file each.

Lull's own tables get it, and so do plain tables of the same shape in schema `plain`, which are for the one-shot DELETE:
its cost must not include what Lull's schema adds.
"""

from __future__ import annotations

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]

# Stale rows are chat drafts of 25 to 125 hours; the others are active chats and fresh drafts, in random order.
_SESSIONS = """
insert into lull.sessions (kind, status, owner_id, title, mode, metadata, created_at, first_message_at, last_activity_at)
select 'chat', case when g.stale or mod(g.n, 10) = 0 then 'draft' else 'active' end, gen_random_uuid(),
  'Session ' || g.n, 'standard', jsonb_build_object('model', 'small', 'n', g.n),
  g.at, case when g.stale or mod(g.n, 10) = 0 then null else g.at end, g.at
from (
  select n, n <= %(stale)s as stale,
    now() - case when n <= %(stale)s then interval '25 hours' + random() * interval '100 hours'
      else random() * interval '20 hours' end as at
  from generate_series(1, %(rows)s::bigint) n
  order by random()
) g
"""
_PARTICIPANTS = """
insert into lull.session_participants (session_id, user_id, name)
select id, owner_id, 'Somebody' from lull.sessions order by random()
"""
_FILES = """
insert into lull.session_files (session_id, bucket, path, size, state, uploaded_at)
select id, 'session-files', id || '/' || gen_random_uuid() || '/picture.png', 40000, 'uploaded', created_at
from lull.sessions where mod((metadata ->> 'n')::bigint, 2) = 0 order by random()
"""


def fill(connection: Connection, rows: int, stale: int) -> None:
    """Fill Lull's empty tables: `rows` sessions of which `stale` are drafts that a cleanup takes."""
    connection.execute("set work_mem = '256MB'")
    connection.execute("set maintenance_work_mem = '1GB'")
    connection.execute("set session_replication_role = replica")  # the data is whole: no keys need checking
    for statement in (_SESSIONS, _PARTICIPANTS, _FILES):
        connection.execute(statement, {"rows": rows, "stale": stale} if "%(" in statement else None)
    connection.execute("set session_replication_role = origin")
    connection.execute("vacuum (analyze) lull.sessions, lull.session_participants, lull.session_files")
