"""The text of a call: what the catalog says about a function, put into SQL."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from psycopg import Cursor, sql

# A time-out is text in the units of the server's settings; without a unit it is in milliseconds.
_SIGNATURE = """
    select p.provolatile <> 'v', p.pronargs - p.pronargdefaults,
      coalesce((
        select array_agg(array[a.name, format_type(a.type, null)] order by a.place)
        from unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a(name, type, place)), '{}'),
      (
        select extract(epoch from (o.value || case when o.value ~ '^[0-9]+$' then 'ms' else '' end)::interval
        )::float
        from pg_catalog.pg_options_to_table(p.proconfig) as o(name, value)
        where o.name = 'statement_timeout')
    from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname = %s
"""


@dataclass(frozen=True)
class Call:
    """A call of a function with certain arguments: a text in three parts.

    Between them come the milliseconds that it may take, and its arguments as a literal of JSON. `seconds` is
    the function's own statement time-out, where it has one.
    """

    before: bytes
    between: bytes
    after: bytes
    seconds: float | None


def compose_call(cursor: Cursor[Any], function: str, names: Collection[str]) -> Call | None:
    """Ask the catalog how to call a function of schema public; None when none takes these arguments.

    One text is one round trip and one transaction. As PostgREST does it, the time-out is set before the call
    begins, a function that only reads does so in a transaction that can do nothing else, and Postgres itself
    takes the arguments, by their types, from the JSON.
    """
    row = cursor.execute(_SIGNATURE, (function,)).fetchone()
    if row is None:
        return None
    read_only, required, arguments, seconds = row
    types = dict(arguments)
    if not set([*types][:required]) <= set(names) <= types.keys():
        return None
    named = [sql.SQL("{0} => _.{0}").format(sql.Identifier(name)) for name in names]
    columns = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types[name])) for name in names]
    before = sql.SQL("{}set local statement_timeout = ").format(
        sql.SQL("set transaction read only; " if read_only else "")
    )
    between = sql.SQL("; select {}({}) from pg_catalog.json_to_record(").format(
        sql.Identifier("public", function), sql.SQL(", ").join(named)
    )
    after = sql.SQL(") as _({})").format(sql.SQL(", ").join(columns) if names else sql.SQL("nothing text"))
    return Call(before.as_bytes(), between.as_bytes(), after.as_bytes(), seconds or None)
