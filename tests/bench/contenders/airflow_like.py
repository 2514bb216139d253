"""What `airflow db clean` does: copy the stale rows into a new table, then delete what was copied.

Only the parents are copied; the children go by their cascades and are not in the archive.
"""

import os

import psycopg

from tests.bench.contenders.conversation import take_part

_COPY = """
create table public._deleted_sessions as
select * from public.plain_sessions
where kind = 'chat' and status = 'draft' and first_message_at is null and last_activity_at < '{cutoff}'
"""
_DELETE = "delete from public.plain_sessions s using public._deleted_sessions d where s.id = d.id"


def main() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:

        def clean() -> None:
            connection.execute(_COPY.format(cutoff=os.environ["CUTOFF"]))
            connection.execute(_DELETE)

        take_part(clean)


main()
