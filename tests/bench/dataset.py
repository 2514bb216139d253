"""The data of the benchmarks: sessions in random heap order, a participant each and half a file each.

Lull's own tables get it, and so do a team's plain tables of the same columns (public.plain_*), which have nothing of
Lull's: what people use today runs on those, and Lull too, after `lull.adopt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Tables:
    """The three tables of one shape."""

    sessions: str
    participants: str
    files: str

    @property
    def names(self) -> list[str]:
        return [self.sessions, self.participants, self.files]


LULL = Tables("lull.sessions", "lull.session_participants", "lull.session_files")
PLAIN = Tables("public.plain_sessions", "public.plain_participants", "public.plain_files")

# What a team would have: keys, cascades, indexes on what is looked up, and one for the drafts that get stale.
PLAIN_SCHEMA = """
create table public.plain_sessions (
  id uuid primary key,
  kind text not null,
  status text not null,
  owner_id uuid,
  title text,
  mode text,
  metadata jsonb not null,
  created_at timestamptz not null,
  first_message_at timestamptz,
  last_activity_at timestamptz not null
);
create table public.plain_participants (
  id uuid primary key,
  session_id uuid not null references public.plain_sessions on delete cascade,
  user_id uuid,
  name text
);
create index plain_participants_session on public.plain_participants (session_id);
create table public.plain_files (
  id uuid primary key,
  session_id uuid not null references public.plain_sessions on delete cascade,
  bucket text not null,
  path text not null,
  size bigint,
  state text not null,
  uploaded_at timestamptz,
  unique (bucket, path)
);
create index plain_files_session on public.plain_files (session_id);
grant select, update, delete on public.plain_sessions to service_role;
grant select, delete on public.plain_participants, public.plain_files to service_role;
"""
_DRAFTS = "where kind = 'chat' and status = 'draft' and first_message_at is null"
DRAFTS_INDEX = f"create index plain_sessions_drafts on public.plain_sessions (last_activity_at, id) {_DRAFTS}"
# For the data whose stale drafts are taken a mode at a time.
MODES_INDEX = f"create index plain_sessions_drafts on public.plain_sessions (mode, last_activity_at, id) {_DRAFTS}"

# Stale rows are chat drafts of 25 to 125 hours; the others are active chats, and a tenth are drafts of the last 20 hours.
# Ids are computed from numbers, so that children need no join.
_SESSIONS = """
insert into {0} (id, kind, status, owner_id, title, mode, metadata, created_at, first_message_at, last_activity_at)
select md5('session ' || g.n)::uuid, 'chat', case when g.draft then 'draft' else 'active' end,
  md5('owner ' || g.n)::uuid, 'Session ' || g.n, case when g.stale then 'm' || mod(g.n, {3}) else 'standard' end,
  '{{"model": "small"}}', g.at, case when not g.draft then g.at end, g.at
from (
  select n, n <= {2} as stale, n <= {2} or mod(n, 10) = 0 as draft,
    now() - case when n <= {2} then interval '25 hours' + random() * interval '100 hours'
      else random() * interval '20 hours' end as at
  from generate_series(1, {1}::bigint) n
  order by random()
) g
"""
# Multiplied by a prime, modulo the rows: each session once, none beside its neighbour in the table of sessions. Who takes
# part in Lull's sessions was last seen 10 days ago: later than the cutoff would keep a draft.
_PARTICIPANTS = """
insert into {0} (id, session_id, user_id, name{2})
select gen_random_uuid(), md5('session ' || s.n)::uuid, md5('owner ' || s.n)::uuid, 'Somebody'{3}
from (select mod(k * 2654435761, {1}) + 1 as n from generate_series(1, {1}::bigint) k) s
"""
_FILES = """
insert into {0} (id, session_id, bucket, path, size, state, uploaded_at)
select gen_random_uuid(), md5('session ' || s.n)::uuid, 'session-files',
  md5('session ' || s.n)::uuid || '/' || gen_random_uuid() || '/picture.png', 40000, 'uploaded', now()
from (select mod(k * 2654435761, {1}) + 1 as n from generate_series(1, {1}::bigint) k) s
where mod(s.n, 2) = 0
"""


def fill(connection: Connection, tables: Tables, *, rows: int, stale: int, modes: int = 1) -> None:
    """Fill empty tables: `rows` sessions, of which `stale` are drafts that a cleanup takes, of `modes` modes."""
    if rows % 10 or stale > rows:
        raise ValueError("rows must be a multiple of 10, and stale no more than that")
    connection.execute("set work_mem = '512MB'")
    connection.execute("set maintenance_work_mem = '1GB'")
    connection.execute("set session_replication_role = replica")  # the data is whole: no keys need checking
    with _without_indexes(connection, tables):
        connection.execute(_SESSIONS.format(tables.sessions, rows, stale, modes))
        seen = (", last_seen_at", ", now() - interval '10 days'") if tables is LULL else ("", "")
        connection.execute(_PARTICIPANTS.format(tables.participants, rows, *seen))
        connection.execute(_FILES.format(tables.files, rows))
    connection.execute("set session_replication_role = origin")
    connection.execute(f"vacuum (analyze) {', '.join(tables.names)}")


@contextmanager
def _without_indexes(connection: Connection, tables: Tables) -> Iterator[None]:
    """Drop the tables' keys and indexes, and make them again at the end: several times faster with 10^7 rows."""
    keys = connection.execute(
        "select conrelid::regclass, quote_ident(conname), pg_get_constraintdef(oid) from pg_constraint"
        " where contype in ('p', 'u', 'f') and (conrelid = any(%s::regclass[]) or confrelid = any(%s::regclass[]))"
        " order by contype = 'f' desc",  # a key that others refer to goes after them
        (tables.names, tables.names),
    ).fetchall()
    indexes = connection.execute(
        "select indexrelid::regclass, pg_get_indexdef(indexrelid) from pg_index i"
        " where indrelid = any(%s::regclass[]) and not exists"
        " (select from pg_constraint where conindid = i.indexrelid and contype in ('p', 'u'))",
        (tables.names,),
    ).fetchall()
    for table, name, _ in keys:
        connection.execute(f"alter table {table} drop constraint {name}")
    for index, _ in indexes:
        connection.execute(f"drop index {index}")
    yield
    for _, definition in indexes:
        connection.execute(definition)
    for table, name, definition in reversed(keys):
        connection.execute(f"alter table {table} add constraint {name} {definition}")


# Django's and Express' sessions: no children, a tenth expired.
PEERS = (
    "insert into django_session (session_key, session_data, expire_date)"
    " select md5('session ' || n), repeat(md5(n::text), 6), now() - case when n <= {1} then interval '1 hour'"
    " else interval '-300 days' end from generate_series(1, {0}::bigint) n order by random()",
    "insert into public.session (sid, sess, expire)"
    " select md5('session ' || n), json_build_object('cookie', repeat(md5(n::text), 6)),"
    " (now() - case when n <= {1} then interval '1 hour' else interval '-300 days' end)::timestamp"
    " from generate_series(1, {0}::bigint) n order by random()",
)
