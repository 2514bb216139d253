"""Kinds of key whose equality a cleanup must take from the constraint: several spellings are one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from tests.sql.driver import Connection


@dataclass(frozen=True)
class KeyKind:
    """A type for key columns.

    `spell(n)` gives the n-th value in SQL, each spelling equal to the first; `referring` are the types that a
    referring column may have.
    """

    type: str
    referring: tuple[str, ...]
    spell: Callable[[int], list[str]]


def _uuid(number: int) -> list[str]:
    text = f"{number:08x}-abcd-4000-8000-0000000000ef"
    return [f"'{text}'", f"'{text.upper()}'", f"'{{{text}}}'"]


KINDS: dict[str, KeyKind] = {
    "bigint": KeyKind("bigint", ("bigint", "int"), lambda n: [str(n)]),
    "int": KeyKind("int", ("int", "bigint", "smallint"), lambda n: [str(n)]),
    "text": KeyKind("text", ("text", "varchar(40)"), lambda n: [f"'key {n}'"]),
    "uuid": KeyKind("uuid", ("uuid",), _uuid),
    "numeric": KeyKind("numeric", ("numeric",), lambda n: [f"{n}.5", f"{n}.50", f"{n}.5000"]),
    "whole": KeyKind("numeric", ("int", "bigint"), lambda n: [f"{n}.0", str(n)]),
    "char": KeyKind("char(8)", ("char(8)", "char(12)"), lambda n: [f"'c{n}'", f"'c{n}  '"]),
    "interval": KeyKind("interval", ("interval",), lambda n: [f"'{n} mon'", f"'{30 * n} days'", f"'{720 * n} hours'"]),
    "double": KeyKind("float8", ("float8",), lambda n: ["'-0'", "'0'"] if n == 1 else [f"'{n}.25'"]),
    "date": KeyKind("date", ("date",), lambda n: [f"date '2024-01-01' + {n}"]),
    "moment": KeyKind(
        "timestamptz",
        ("timestamptz",),
        lambda n: [f"timestamptz '2024-01-01 00:00:00.000001+00' + {n} * interval '1 minute'"],
    ),
    "bytea": KeyKind("bytea", ("bytea",), lambda n: [f"'\\x{n:04x}00ff'"]),
    "inet": KeyKind("inet", ("inet",), lambda n: [f"'10.0.{n // 250}.{n % 250}'"]),
    "domain": KeyKind("team_code", ("team_code", "int"), lambda n: [str(n)]),
    "enum": KeyKind("team_label", ("team_label",), lambda n: [f"'label {n}'"]),
    "array": KeyKind("int[]", ("int[]",), lambda n: [f"'{{{n},1}}'"]),
    "composite": KeyKind("team_pair", ("team_pair",), lambda n: [f"'({n},\"a, b\")'::team_pair"]),
}
CITEXT = KeyKind("citext", ("citext",), lambda n: [f"'Key {n}'", f"'KEY {n}'", f"'key {n}'"])
NOCASE = KeyKind(
    "text collate team_nocase",
    ("text collate team_nocase",),
    lambda n: [f"'Key {n}'", f"'KEY {n}'", f"'key {n}'"],
)
LABELS = 300
TYPES = [
    "create domain team_code as int check (value > 0)",
    f"create type team_label as enum ({', '.join(repr(f'label {n}') for n in range(LABELS))})",
    "create type team_pair as (number int, note text)",
    "create domain team_title as text check (length(value) < 100)",
    "create type team_mood as enum ('draft', 'ok', 'sad')",
]


def extensions(connection: Connection) -> list[str]:
    """Return the statements that add what this server has and another may lack: citext, an ICU collation."""
    statements = []
    if connection.execute("select 1 from pg_available_extensions where name = 'citext'").fetchone():
        statements.append("create extension if not exists citext")
    nocase = "create collation team_nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(nocase)
    except psycopg.errors.FeatureNotSupported:  # a server that was built without ICU
        return statements
    return [*statements, nocase]


def kinds_of(statements: list[str]) -> dict[str, KeyKind]:
    """Return the kinds of key that a server with these extensions has."""
    added = {"citext": CITEXT, "team_nocase": NOCASE}
    return KINDS | {name: kind for name, kind in added.items() if any(name in statement for statement in statements)}
