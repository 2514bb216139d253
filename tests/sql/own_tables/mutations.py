"""What an ordinary migration or an app does to the tables between a run and a restore, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.sql.driver import Connection
from tests.sql.own_tables.schema import Schema, Table, quoted
from tests.sql.team_tables import Snapshot


@dataclass
class Mutation:
    """Statements that change the tables and statements that take it back; `blocks` when a row cannot come back."""

    name: str
    do: list[str]
    undo: list[str]
    blocks: bool


Maker = Callable[[Random, Schema, Table, Snapshot], Mutation | None]


def draw_mutation(random: Random, connection: Connection, schema: Schema, gone: Snapshot) -> Mutation | None:
    """Choose a mutation of a table of which rows are gone; null where none applies."""
    tables = [table for table in schema.tables if gone.get(table.name)]
    makers: list[Maker] = [
        _rename_table, _rename_column, _rename_key, _required_column, _check, _refusing_trigger, _not_null, _taken,
        _column_with_default, _add_child, _retype, _add_and_reorder, _rename_type,
    ]  # fmt: skip
    random.shuffle(tables)
    random.shuffle(makers)
    for table in tables:
        for maker in makers:
            mutation = maker(random, schema, table, gone)
            if mutation:
                return mutation
    return None


def _rename_table(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation:
    space = table.name.split(".")[0]
    return Mutation(
        f"{table.name} is renamed",
        [f"alter table {table.name} rename to renamed_away"],
        [f"alter table {space}.renamed_away rename to {table.name.split('.', 1)[1]}"],
        True,
    )


def _plain_columns(table: Table, gone: Snapshot) -> list[str]:
    """Columns of no key, reference or trigger, with a value in a row that is gone."""
    named = " ".join(table.triggers)
    referring = {"parent_", "second_", "reply_", "author_", "last_"}
    return [
        column.name
        for column in table.columns
        if column.literals
        and not column.generated
        and column.name not in ("pos", "region", "seen", "pinned", "filled", "Heading")
        and not any(column.name.startswith(prefix) for prefix in referring)
        and column.name not in named.split()
        and any(row.get(column.name) is not None for row in gone[table.name])
        and "not null" not in column.definition
    ]


def _rename_column(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    columns = _plain_columns(table, gone)
    columns = [name for name in columns if name not in (schema.status, schema.first_message)]
    if not columns:
        return None
    column = quoted(random.choice(columns))
    return Mutation(
        f"{table.name}.{column} is renamed",
        [f"alter table {table.name} rename column {column} to renamed"],
        [f"alter table {table.name} rename column renamed to {column}"],
        True,
    )


def _rename_key(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    if not table.keys or table.role == "root" or any("counted" in line for line in table.triggers):
        return None
    column = quoted(table.keys[0].columns[0])
    return Mutation(
        f"the key {column} of {table.name} is renamed",
        [f"alter table {table.name} rename column {column} to renamed"],
        [f"alter table {table.name} rename column renamed to {column}"],
        True,
    )


def _required_column(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation:
    return Mutation(
        f"{table.name} has a new column that must be given",
        [
            f"alter table {table.name} add column lang text not null default 'en'",
            f"alter table {table.name} alter column lang drop default",
        ],
        [f"alter table {table.name} drop column lang"],
        True,
    )


def _check(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation:
    return Mutation(
        f"{table.name} has a check that every row fails",
        [f"alter table {table.name} add constraint never check (false) not valid"],
        [f"alter table {table.name} drop constraint never"],
        True,
    )


def _refusing_trigger(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation:
    return Mutation(
        f"a trigger of {table.name} refuses every row",
        [
            "create function public.refuse_rows() returns trigger language plpgsql as "
            "$f$ begin raise exception 'no more rows here'; end $f$",
            f"create trigger refuse_rows before insert on {table.name} for each row execute function public.refuse_rows()",
        ],
        [f"drop trigger refuse_rows on {table.name}", "drop function public.refuse_rows()"],
        True,
    )


def _not_null(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    """A NOT NULL for rows to come: as a check that is not valid for those that are there."""
    for column in table.columns:
        if column.generated or "not null" in column.definition:
            continue
        if column.name == "filled" or column.name not in gone[table.name][0]:
            continue
        if any(row[column.name] is None for row in gone[table.name]):
            name = quoted(column.name)
            return Mutation(
                f"{table.name}.{name} must not be null any more",
                [f"alter table {table.name} add constraint given check ({name} is not null) not valid"],
                [f"alter table {table.name} drop constraint given"],
                True,
            )
    return None


def _taken(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    """Another row takes a unique value of a row that is gone."""
    if table.role != "root" or len(table.keys) < 2:
        return None
    row = random.choice(gone[table.name])
    primary, other = table.keys[0], table.keys[1]
    values = {
        quoted(column): kind.spell(290 + n)[0]
        for n, (column, kind) in enumerate(zip(primary.columns, primary.kinds, strict=True))
    }
    where = " and ".join(f"{name} = {value}" for name, value in values.items())
    values |= {
        quoted(column): _typed(row[column], kind.type) for column, kind in zip(other.columns, other.kinds, strict=True)
    }
    return Mutation(
        f"a new row of {table.name} takes ({', '.join(other.columns)}) of one that is gone",
        [
            f"insert into {table.name} ({', '.join(values)}) overriding system value values ({', '.join(values.values())})"
        ],
        [f"delete from {table.name} where {where}"],
        True,
    )


def _typed(text: str | None, type_: str) -> str:
    escaped = (text or "").replace("'", "''")
    return f"'{escaped}'::{type_.split(' collate')[0]}"


def _column_with_default(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation:
    return Mutation(
        f"{table.name} has a new column with a default",
        [f"alter table {table.name} add column extra text not null default 'x'"],
        [f"alter table {table.name} drop column extra"],
        False,
    )


def _add_child(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    if not table.keys:
        return None
    key = table.keys[0]
    columns = ", ".join(f"{quoted(f'r{n}')} {kind.type}" for n, kind in enumerate(key.kinds))
    names = ", ".join(f"r{n}" for n, _ in enumerate(key.columns))
    return Mutation(
        f"a table below {table.name} is new",
        [
            f"create table public.newcomer ({columns}, foreign key ({names}) references {table.name} "
            f"({', '.join(map(quoted, key.columns))}) on delete cascade)"
        ],
        ["drop table public.newcomer"],
        False,
    )


def _retype(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    """A column becomes wider and back: the value is the same text."""
    for column in table.columns:
        if column.definition == "varchar(5)" and not any(column.name in line for line in table.triggers):
            name = quoted(column.name)
            return Mutation(
                f"{table.name}.{name} is a text now",
                [f"alter table {table.name} alter column {name} type text"],
                [f"alter table {table.name} alter column {name} type varchar(5)"],
                False,
            )
    return None


def _add_and_reorder(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    """A value column moves to the end of the table, as tools that rebuild a column do."""
    if table.partitioning or any("view of" in line or "create view" in line for line in table.triggers):
        return None
    columns = [
        column
        for column in table.columns
        if column.literals and column.definition in ("text", "int4", "jsonb", "numeric")
    ]
    if not columns or table.role == "root":
        return None
    name, type_ = quoted(columns[0].name), columns[0].definition
    if columns[0].name in ("Heading", "pos"):
        return None
    return Mutation(
        f"{table.name}.{name} is rebuilt at the end",
        [
            f"alter table {table.name} add column rebuilt {type_}",
            f"update {table.name} set rebuilt = {name}",
            f"alter table {table.name} drop column {name}",
            f"alter table {table.name} rename column rebuilt to {name}",
        ],
        [],
        False,
    )


def _rename_type(random: Random, schema: Schema, table: Table, gone: Snapshot) -> Mutation | None:
    """A type is renamed: the archive names columns, not types."""
    if not any(column.definition.startswith("team_mood") for column in table.columns):
        return None
    return Mutation(
        "a type is renamed",
        ["alter type team_mood rename to team_temper"],
        ["alter type team_temper rename to team_mood"],
        False,
    )
