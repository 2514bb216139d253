"""A schema of a team's: tables, keys, foreign keys, triggers; and the SQL that creates it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tests.sql.own_tables.keys import KeyKind

RESERVED = {"order", "select", "user", "table", "group", "default", "end", "all", "check", "desc"}
Rule = str | dict[str, str]


def quoted(name: str) -> str:
    """Quote an identifier where it needs that, as the server's quote_ident() does for these names."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Column:
    """A column: its definition after the name, and SQL literals that it may hold (none: the server fills it)."""

    name: str
    definition: str
    literals: list[str] = field(default_factory=list)
    generated: bool = False


@dataclass
class Key:
    """A unique key: columns and their kinds; `of` is the reference that it is made of, alone or with another column."""

    columns: list[str]
    kinds: list[KeyKind]
    of: Link | None = None


@dataclass
class Link:
    """A foreign key of `child` to a key of `parent`.

    `inner` says that values point to rows under the same root.
    """

    child: Table
    columns: list[str]
    parent: Table
    key: Key
    action: str
    timing: str = ""
    nullable: bool = True
    inner: bool = True
    partition: str | None = None  # the one partition of the parent that it refers to
    only: str | None = None  # the one partition of the child that has it
    own: list[str] = field(default_factory=list)  # columns that no other link shares

    @property
    def cascades(self) -> bool:
        return self.action == "cascade"

    def statement(self) -> str:
        """The ALTER TABLE that adds it."""
        action = f"set null ({_list(self.own)})" if self.action == "set null" else self.action
        return (
            f"alter table {self.only or self.child.name} add foreign key ({_list(self.columns)}) "
            f"references {self.partition or self.parent.name} ({_list(self.key.columns)}) "
            f"on delete {action} {self.timing}".rstrip()
        )

    def index(self) -> str:
        return f"create index on {self.child.name} ({_list(self.columns)})"


@dataclass
class Table:
    """A table: `role` is root, below, lookup (rows that stay, referred to) or outside (rows that refer to roots)."""

    name: str
    role: str
    columns: list[Column] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    rule: Rule | None = None
    partitions: list[str] = field(default_factory=list)
    partitioning: str = ""
    constraints: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    triggers: list[str] = field(default_factory=list)
    side_effects: bool = False  # whether its triggers change rows or columns on the way in

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def statements(self) -> list[str]:
        """CREATE TABLE, its partitions, and what follows at once."""
        lines = [f"{quoted(column.name)} {column.definition}" for column in self.columns]
        lines += [
            f"{'primary key' if number == 0 else 'unique'} ({_list(key.columns)})"
            for number, key in enumerate(self.keys)
        ]
        lines += self.constraints
        create = f"create table {self.name} (\n  " + ",\n  ".join(lines) + ")"
        return [f"{create} {self.partitioning}".rstrip(), *self.partitions, *self.after]


@dataclass
class Schema:
    """A whole schema: `links` in the order in which they are added, `kind` null for lull.adopt()."""

    root: Table
    tables: list[Table]
    links: list[Link]
    kind: str | None
    clock: str
    status: str | None
    names: dict[str, list[str]]  # status of Lull's → values of theirs
    first_message: str | None
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    existing: bool = True

    def statements(self) -> list[str]:
        """Everything from the first type to the last trigger, in order."""
        found = [*self.before]
        for table in self.tables:
            found += table.statements()
        for link in self.links:
            found += [link.statement(), link.index()]
        for table in self.tables:
            found += table.triggers
        return [*found, *self.after]

    def below(self) -> dict[str, Rule]:
        """What p_below says."""
        return {table.name: table.rule for table in self.tables if table.rule is not None}


def _list(names: list[str]) -> str:
    return ", ".join(map(quoted, names))
