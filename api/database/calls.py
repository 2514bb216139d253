"""The text of a call: what the catalog says about a function, put into SQL."""

import json
import re
from collections.abc import Callable, Collection, Mapping
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


# What PQescapeLiteral would cut off, and what is no UTF-8: inside JSON, Postgres itself refuses both.
_NOT_QUOTED = re.compile("[\0\ud800-\udfff]")

_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
Quote = Callable[[str], bytes]


@dataclass(frozen=True)
class Argument:
    """A named argument of a function, and how to write a value for it."""

    name: str
    opening: bytes
    kind: bytes

    def written(self, value: Any, quote: Quote) -> bytes:
        """A value as SQL. Raises ValueError for a number that is no JSON."""
        is_json = self.kind in (b"json", b"jsonb")
        if value is None:
            return self.opening + b"null::" + self.kind
        if isinstance(value, str) and not is_json and not _NOT_QUOTED.search(value):
            return self.opening + quote(value) + b"::" + self.kind
        if is_json or isinstance(value, int | float):
            return self.opening + quote(_json(value)) + b"::" + self.kind
        record = quote(_json({"value": value})) + b") as _(value " + self.kind
        return self.opening + b"(select value from pg_catalog.json_to_record(" + record + b"))"


@dataclass(frozen=True)
class Call:
    """A call of a function with certain arguments. `seconds` is the function's own statement time-out, if any."""

    before: bytes
    function: bytes
    arguments: tuple[Argument, ...]
    seconds: float | None

    def text(self, values: Mapping[str, Any], seconds: float, quote: Quote) -> bytes:
        """The statements of a call that may take so many seconds."""
        milliseconds = max(1, int(1000 * min(seconds, self.seconds or seconds)))
        written = [argument.written(values[argument.name], quote) for argument in self.arguments]
        return self.before + b"%d" % milliseconds + self.function + b", ".join(written) + b")"


def compose_call(cursor: Cursor[Any], function: str, names: Collection[str]) -> Call | None:
    """Ask the catalog how to call a function of schema public; None when none takes these arguments.

    One text is one round trip and one transaction. As PostgREST does it, the time-out is set before the call
    begins, a function that only reads does so in a transaction that can do nothing else, and Postgres itself
    takes each argument, by its type, from its text; lists from JSON.
    """
    row = cursor.execute(_SIGNATURE, (function,)).fetchone()
    if row is None:
        return None
    read_only, required, arguments, seconds = row
    types = dict(arguments)
    if not set([*types][:required]) <= set(names) <= types.keys():
        return None
    before = b"set transaction read only; " if read_only else b""
    called = sql.SQL("; select {}(").format(sql.Identifier("public", function)).as_bytes()
    written = tuple(_argument(name, types[name]) for name in names)
    return Call(before + b"set local statement_timeout = ", called, written, seconds or None)


def _argument(name: str, kind: str) -> Argument:
    return Argument(name, sql.SQL("{} => ").format(sql.Identifier(name)).as_bytes(), kind.encode())
