"""One DELETE statement: as fast as Postgres can, with every row locked until it has ended."""

import os

import psycopg

from tests.bench.contenders.conversation import take_part

_DELETE = """
delete from {table}
where kind = 'chat' and status = 'draft' and first_message_at is null{more} and last_activity_at < %(cutoff)s
"""


def main() -> None:
    table, mode = os.environ["SESSIONS"], os.environ.get("MODE")
    more = " and mode = %(mode)s" if mode else " and not hold" if table == "lull.sessions" else ""
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        # On Lull's own tables, a trigger queues the bytes of deleted files. That is what a purge of the archive
        # does, not what an archiving cleanup does; this is how Lull itself tells the trigger so.
        connection.execute("set lull.cleaning = 'on'")
        values = {"cutoff": os.environ["CUTOFF"], "mode": mode}
        take_part(lambda: connection.execute(_DELETE.format(table=table, more=more), values))


main()
