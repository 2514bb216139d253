"""Random rows for a schema, as INSERT statements of one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.sql.own_tables.schema import Column, Link, Schema, Table, quoted

STALE_STATUS = {"chat": "draft", "room": "active", "game": "active"}
CLOCK = ["now() - interval '3 days'"] * 6 + [
    "now() - interval '4 days'",
    "now()",
    "null",
    "now() + interval '1 day'",
]


@dataclass
class Row:
    """A row's numbers by key column, and the root that it hangs below (none: null reference)."""

    numbers: dict[str, int]
    root: int | None


class Rows:
    """Rows that are drawn table by table."""

    def __init__(self, random: Random, schema: Schema) -> None:
        self.random = random
        self.schema = schema
        self.rows: dict[str, list[Row]] = {table.name: [] for table in schema.tables}
        self.statements: list[str] = []

    def draw(self) -> list[str]:
        """Return the statements."""
        random = self.random
        roots = random.randint(3, 10)
        for table in self.schema.tables:
            many = {"lookup": 3, "root": roots, "outside": random.randint(0, 2)}.get(
                table.role, random.randint(roots, 3 * roots)
            )
            for _ in range(many):
                self._insert(table)
        for link in self.schema.links:
            if link.child.role == "root" and link.parent.role == "below":
                self._point_back(link)
        return self.statements

    def _insert(self, table: Table) -> None:
        random = self.random
        number = len(self.rows[table.name]) + 1
        numbers: dict[str, int] = {}
        values: dict[str, str] = {}
        for key in (key for key in table.keys if key.of is None):
            for position, (name, kind) in enumerate(zip(key.columns, key.kinds, strict=True)):
                numbers.setdefault(name, random.randint(1, 3) if name == "region" else 1 if position else number)
                values[name] = kind.spell(numbers[name])[0]
        row = Row(numbers, number if table.role == "root" else None)
        self.pointed: dict[str, int] = {}
        for link in self.schema.links:
            if link.child is table and not (table.role == "root" and link.parent.role == "below"):
                reference = self._reference(link, row)
                if reference is None:
                    return
                values |= reference
        if not self._derive(table, numbers):
            return
        for column in table.columns:
            if column.name not in values and not column.generated:
                values |= self._value(table, column, number)
        self.rows[table.name].append(row)
        names = ", ".join(map(quoted, values))
        self.statements.append(
            f"insert into {table.name} ({names}) overriding system value values ({', '.join(values.values())})"
        )

    def _derive(self, table: Table, numbers: dict[str, int]) -> bool:
        """Number the columns of a key that is made of a reference; false where another row has it already."""
        for key in (key for key in table.keys if key.of is not None):
            for name in key.columns:
                numbers[name] = self.pointed.get(name, len(self.rows[table.name]) + 1)
            if any(all(row.numbers[n] == numbers[n] for n in key.columns) for row in self.rows[table.name]):
                return False
        return True

    def _value(self, table: Table, column: Column, number: int) -> dict[str, str]:
        random, schema = self.random, self.schema
        is_root = table.role == "root"
        if is_root and column.name == schema.clock:
            return {column.name: random.choice(CLOCK)}
        if is_root and column.name == schema.status and schema.kind and random.random() < 0.7:
            return {column.name: repr(random.choice(schema.names[STALE_STATUS[schema.kind]]))}
        if not column.literals:
            return {}
        chosen = random.choice(column.literals)
        return {column.name: chosen.replace("<row>", str(number))}

    def _reference(self, link: Link, row: Row) -> dict[str, str] | None:
        """Return the referring columns' values, and set the row's root by its first cascade; none: no row fits."""
        random = self.random
        parents = self.rows[link.parent.name]
        if link.inner and row.root is not None and link.parent.role in ("root", "below") and random.random() < 0.93:
            parents = [each for each in parents if each.root == row.root]
        if link.partition:
            parents = [each for each in parents if each.numbers["region"] == 1]
        if link.nullable and (not parents or random.random() < 0.15):
            return dict.fromkeys(link.columns, "null")
        if not parents:
            parents = [
                each for each in self.rows[link.parent.name] if not link.partition or each.numbers["region"] == 1
            ]
        if not parents:
            return None
        parent = random.choice(parents)
        self.pointed |= {
            ours: parent.numbers[theirs] for ours, theirs in zip(link.columns, link.key.columns, strict=True)
        }
        if row.root is None and link.cascades and link.parent.role != "lookup":
            row.root = parent.root
        return {
            ours: random.choice(kind.spell(parent.numbers[theirs]))
            for ours, theirs, kind in zip(link.columns, link.key.columns, link.key.kinds, strict=True)
        }

    def _point_back(self, link: Link) -> None:
        """Let some roots refer to a row below them."""
        key = link.child.keys[0]
        for row in self.rows[link.child.name]:
            if self.random.random() < 0.7:
                values = self._reference(link, row) or dict.fromkeys(link.columns, "null")
                setting = ", ".join(f"{quoted(name)} = {value}" for name, value in values.items())
                where = " and ".join(
                    f"{quoted(column)} = {kind.spell(row.numbers[column])[0]}"
                    for column, kind in zip(key.columns, key.kinds, strict=True)
                )
                self.statements.append(f"update {link.child.name} set {setting} where {where}")
