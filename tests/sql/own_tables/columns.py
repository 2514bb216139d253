"""Columns of a random table that are neither keys nor references: every type, and the definitions that restores meet."""

from __future__ import annotations

from random import Random

from tests.sql.every_type import SAMPLES
from tests.sql.own_tables.schema import Column

# Names that meet aliases, variables and key words of SQL that is put together.
NAMES = [
    "t", "c", "p", "x", "d", "k", "n", "r", "s", "doc", "key", "keys", "root", "row", "rows", "value", "page", "tab",
    "target", "policy", "cutoff", "old", "new", "v_row", "p_policy", "p_keys", "order", "select", "User Id", "it's",
    "100% sure", "%I", "$1", 'say "hi"', "ünï", "a.b", "{x}", "data", "text", "json", "z" * 63,
]  # fmt: skip
# Their equality or text form is not that of the value itself in every place where a row is compared.
TYPES = sorted(set(SAMPLES) - {"xml"})


def literal(text: str | None) -> str:
    """Return an SQL literal of unknown type; a backslash and a quote stay themselves."""
    return "null" if text is None else "'" + text.replace("'", "''") + "'"


def array_literal(values: list[str | None], type_: str) -> str:
    """Return an array by its elements, so that no quoting of braces is needed."""
    elements = ", ".join(f"{literal(value)}::{type_}" for value in values)
    return f"array[{elements}]::{type_}[]"


def value_columns(random: Random, version: int, many: int) -> list[Column]:
    """Draw up to `many` columns with different names."""
    names = random.sample(NAMES, random.randint(0, many))
    return [_column(random, name, version) for name in names]


def _column(random: Random, name: str, version: int) -> Column:
    kind = random.choices(["plain", "array", "domain", "enum", "composite", "identity", "serial", "generated", "given", "json"],
                          [10, 3, 1, 1, 1, 1, 1, 2, 2, 1])[0]  # fmt: skip
    if kind == "plain":
        type_ = random.choice(TYPES)
        return Column(name, type_, ["null", *map(literal, SAMPLES[type_])])
    if kind == "array":
        type_ = random.choice([each for each in TYPES if each not in ("int2vector", "oidvector")])
        values = SAMPLES[type_]
        return Column(
            name,
            f"{type_}[]",
            ["null", "'{}'", array_literal([*values, None], type_), f"'[3:3]={{NULL}}'::{type_}[]"],
        )
    if kind == "domain":
        return Column(name, "team_title", ["null", "'a title'", "'ünï \"x\"'"])
    if kind == "enum":
        return Column(name, "team_mood not null default 'ok'", ["'ok'", "'sad'"])
    if kind == "composite":
        return Column(name, "team_pair", ["null", "(1, null)", "row(7, 'a,b(\"x\")')::team_pair"])
    if kind == "identity":
        how = random.choice(["always", "by default"])
        return Column(name, f"bigint generated {how} as identity", generated=True)
    if kind == "serial":
        return Column(name, "bigserial", generated=True)
    if kind == "generated":
        stored = "virtual" if version >= 180000 and random.random() < 0.4 else "stored"
        return Column(name, f"int generated always as (3 * 7) {stored}", generated=True)
    if kind == "json":
        return Column(name, "json", ["null", """'{"a":  1.00, "a" : null}'""", "'null'"])
    return Column(name, "text not null default 'given'", ["'given'", "''", "'other'"])
