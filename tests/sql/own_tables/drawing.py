"""Draw a random schema: the same for the same number and server."""

from __future__ import annotations

from random import Random

from tests.sql.own_tables.columns import value_columns
from tests.sql.own_tables.keys import TYPES, KeyKind
from tests.sql.own_tables.schema import Column, Key, Link, Rule, Schema, Table, quoted
from tests.sql.own_tables.triggers import TABLES, add_triggers

CLOCKS = ["updated_at", "at", "Last Seen", "touched", "t_clock"]


class Drawing:
    """The state of one drawing: its random numbers, the server's kinds of key, and what was drawn."""

    def __init__(self, number: int, version: int, kinds: dict[str, KeyKind], extensions: list[str]) -> None:
        self.random = Random(number)
        self.version = version
        self.kinds = kinds
        self.extensions = extensions
        self.links: list[Link] = []
        self.space = self.random.choice(["public", "public", "public", '"Our App"'])

    def schema(self) -> Schema:
        """Draw everything."""
        random = self.random
        kind = random.choice(["chat", "chat", "room", "game", None])
        schema = self._root(kind)
        root = schema.root
        below: list[Table] = []
        for number in range(random.randint(1, 6)):
            below.append(self._below(number, root, below, kind))
        self._fork(root, kind)
        others = [self._lookup(below)] if random.random() < 0.6 else []
        others += [self._outside(n, [root, *below]) for n in range(random.choice([0, 0, 1, 2]))]
        self._cycle(root, below)
        lookups = [table for table in others if table.role == "lookup"]
        outside = [table for table in others if table.role == "outside"]
        schema.tables = [*lookups, root, *below, *outside]
        schema.links = self.links
        for table in [root, *below]:
            add_triggers(random, table, self.links)
        schema.after = [
            "create view public.everything as select count(*) as n from " + root.name,
            f"create materialized view public.counted as select count(*) as n from {root.name}",
        ]
        return schema

    def _root(self, kind: str | None) -> Schema:
        random = self.random
        table = Table(f"{self.space}.{random.choice(['chats', 'rooms', quoted('Chat Rooms')])}", "root")
        clock = random.choice(CLOCKS)
        schema = Schema(table, [], [], kind, clock, None, {}, None, [*self.extensions, *TYPES, *TABLES], existing=True)
        if self.space != "public":
            schema.before.insert(0, f"create schema {self.space}")
        if kind:
            table.columns.append(Column("id", "uuid default gen_random_uuid()"))
            table.keys.append(Key(["id"], [self.kinds["uuid"]]))
            self._status(schema)
        else:
            table.keys.append(self._new_key(table, random.choice([1, 1, 2])))
        table.columns.append(Column(clock, "timestamptz default now()"))
        if random.random() < 0.5:
            table.keys.append(self._new_key(table, random.choice([1, 2]), "tenant"))
        table.columns += [
            column
            for column in value_columns(random, self.version, 4)
            if column.name not in {each.name for each in table.columns}
        ]
        self._gap(table)
        table.after.append(f"create index on {table.name} ({quoted(clock)})")
        if schema.status:
            table.after.append(f"create index on {table.name} ({quoted(schema.status)}, {quoted(clock)})")
        return schema

    def _status(self, schema: Schema) -> None:
        """Choose how a status is stored, and whether a first message is."""
        random, root = self.random, schema.root
        words = {"draft": ["draft"], "active": ["active"], "paused": ["paused"], "ended": ["ended"]}
        own = {"draft": ["new", "draft"], "active": ["open", "live"], "ended": ["done"]}
        how = random.choice(["text", "own", "enum", "boolean", "code", "varchar", "citext"])
        if how == "citext" and "citext" not in self.kinds:
            how = "text"
        stored = {"enum": "team_status", "boolean": "boolean", "code": "smallint", "varchar": "varchar(12)",
                  "citext": "citext"}.get(how, "text")  # fmt: skip
        schema.names = own if how in ("own", "enum", "varchar") else words
        if how == "boolean":
            schema.names = {"draft": ["false"], "active": ["true"]}
        if how == "code":
            schema.names = {"draft": ["0", "7"], "active": ["1"], "paused": ["2"], "ended": ["3"]}
        values = [value for several in schema.names.values() for value in several]
        unknown = [] if how == "boolean" else ["9"] if how == "code" else ["archived"]
        if how == "enum":
            schema.before.append(f"create type team_status as enum ({', '.join(map(repr, values + unknown))})")
        schema.status = random.choice(["status", "State", "t"])
        root.columns.append(Column(schema.status, stored, [repr(v) for v in values * 3 + unknown] + ["null"]))
        if schema.kind == "chat" and random.random() < 0.6:
            schema.first_message = random.choice(["first_message_at", "First"])
            root.columns.append(Column(schema.first_message, "timestamptz", ["null", "null", "null", "now()"]))

    def _new_key(self, table: Table, width: int, prefix: str = "id") -> Key:
        """Add columns for a key of `width` columns to a table."""
        names = [f"{prefix}{n or ''}" for n in range(width)]
        kinds = [self.kinds[self.random.choice(sorted(self.kinds))] for _ in names]
        for name, kind in zip(names, kinds, strict=True):
            table.columns.append(Column(name, f"{kind.type} not null"))
        return Key(names, kinds)

    def _gap(self, table: Table) -> None:
        """Sometimes leave a dropped column in the middle."""
        if self.random.random() < 0.2:
            table.columns.insert(1, Column("dropped", "int", generated=True))
            table.after.append(f"alter table {table.name} drop column dropped")
            # It is not there when rows are written or compared: nothing else may name it.

    def _below(self, number: int, root: Table, before: list[Table], kind: str | None) -> Table:
        random = self.random
        name = random.choice([f"part_{number}", quoted(f"Part {number}"), quoted(f'100% "{number}".b')])
        table = Table(f"{self.space}.{name}", "below")
        if random.random() < 0.85:
            key = self._new_key(table, random.choice([1, 1, 1, 2]))
            table.keys.append(key)
        parents = [root] + [each for each in before if each.keys]
        nullable = bool(table.keys) and not random.randint(0, 5)
        parent = self._link(table, random.choice(parents), "cascade", "parent", nullable)
        if not table.keys and random.random() < 0.6:  # one row for each parent, or a table that joins two
            member = [] if random.random() < 0.5 else ["member"]
            table.columns += [Column(name, "int not null", ["<row>"]) for name in member]
            kinds = [*parent.key.kinds, *(self.kinds["int"] for _ in member)]
            table.keys.append(Key([*parent.columns, *member], kinds, parent))
        if random.random() < 0.2:  # a diamond, or two ways from the same parent
            action = random.choice(["cascade", "set null", "no action"])
            self._link(table, random.choice(parents), action, "second", True)
        if table.keys and random.random() < 0.3:
            action = random.choice(["cascade", "set null", "no action", "set null"])
            self._link(table, table, action, "reply_to", True)
        table.columns += [
            column
            for column in value_columns(random, self.version, 4)
            if column.name not in {each.name for each in table.columns}
        ]
        if random.random() < 0.2:
            self._deferrable_unique(table)
        elif random.random() < 0.1:
            table.columns.append(Column("during", "int4range", ["'[<row>,<row>]'"]))
            table.constraints.append("exclude using gist (during with &&) deferrable initially deferred")
        self._gap(table)
        if (
            table.keys
            and table.keys[0].of is None
            and "during" not in str(table.constraints)
            and random.random() < 0.25
        ):
            self._partition(table)
        table.rule = self._rule(table, kind)
        return table

    def _deferrable_unique(self, table: Table) -> None:
        link = next(link for link in self.links if link.child is table)
        table.columns.append(Column("pos", "int not null", ["<row>"]))
        columns = ", ".join(map(quoted, [*link.columns, "pos"]))
        table.constraints.append(f"unique ({columns}) deferrable initially deferred")

    def _rule(self, table: Table, kind: str | None) -> Rule | None:
        random = self.random
        rule: Rule | None = random.choice(["keeps", "goes along", "goes along", "goes along", {"clock": "seen"}, None])
        if isinstance(rule, dict):
            table.columns.append(
                Column(
                    "seen",
                    "timestamptz",
                    ["null", "now() - interval '9 days'", "now() - interval '8 days'", "now()"],
                )
            )
        return rule if kind else None

    def _partition(self, table: Table) -> None:
        """Partition by a column of its own, which every unique constraint then contains."""
        random = self.random
        table.columns.append(Column("region", "int not null", ["1", "2", "3"]))
        for key in table.keys:
            key.columns.append("region")
            key.kinds.append(self.kinds["int"])
        for link in self.links:
            if link.parent is table and link.child is table:
                self.links.remove(link)  # a self reference would need the region too
                table.columns = [column for column in table.columns if column.name not in link.own]
                break
        for number, constraint in enumerate(table.constraints):
            table.constraints[number] = constraint.replace("pos)", "pos, region)")
        by = random.choice(["list", "range", "hash"])
        table.partitioning = f"partition by {by} (region)"
        bounds = {
            "list": ["in (1)", "in (2, 3)"],
            "range": ["from (1) to (2)", "from (2) to (9)"],
            "hash": ["with (modulus 2, remainder 0)", "with (modulus 2, remainder 1)"],
        }[by]
        for number, bound in enumerate(bounds, 1):
            table.partitions.append(
                f"create table {first_partition(table, number)} partition of {table.name} for values {bound}"
            )
        if by != "hash" and random.random() < 0.3:
            next(link for link in self.links if link.child is table).only = first_partition(table)
        for column in table.columns:
            if "identity" in column.definition and self.version < 170000:
                column.definition = "bigint"  # partitioned tables have identity columns from 17 on

    def _link(self, child: Table, parent: Table, action: str, prefix: str, nullable: bool) -> Link:
        random = self.random
        key = random.choice(parent.keys)
        columns = [f"{prefix}_{n}" for n in range(len(key.columns))]
        for name, kind in zip(columns, key.kinds, strict=True):
            null = "" if nullable else " not null"
            child.columns.append(Column(name, f"{random.choice(kind.referring)}{null}"))
        timing = (
            "" if action == "restrict" else random.choice(["", "", "", "deferrable", "deferrable initially deferred"])
        )
        link = Link(child, columns, parent, key, action, timing, nullable, own=columns)
        if parent.partitioning and "hash" not in parent.partitioning and random.random() < 0.4:
            self._refer_to_partition(link)
        self.links.append(link)
        return link

    def _refer_to_partition(self, link: Link) -> None:
        """Refer to the first partition alone, by a key of its own without the region."""
        bare = [name for name in link.key.columns if name != "region"]
        if not bare or len(bare) == len(link.key.columns):
            return
        dropped = link.columns.pop()  # the region is the last column of every key there
        link.child.columns = [column for column in link.child.columns if column.name != dropped]
        link.key = Key(bare, link.key.kinds[: len(bare)])
        link.partition = first_partition(link.parent)
        unique = f"alter table {link.partition} add unique ({', '.join(map(quoted, bare))})"
        if unique not in link.parent.after:
            link.parent.after.append(unique)

    def _fork(self, root: Table, kind: str | None) -> None:
        """Sometimes let a root refer to another, as a copy does to its original."""
        if self.random.random() < 0.12:
            actions = ["set null", "no action"] if kind is None else ["set null", "no action", "cascade"]
            self._link(root, root, self.random.choice(actions), "forked", True).inner = False

    def _lookup(self, below: list[Table]) -> Table:
        """Add a table of rows that stay and that rows below refer to."""
        table = Table("public.authors", "lookup")
        table.keys.append(self._new_key(table, 1))
        child = self.random.choice(below)
        self._link(child, table, self.random.choice(["set null", "restrict", "cascade"]), "author", True)
        return table

    def _outside(self, number: int, inside: list[Table]) -> Table:
        """Add a table whose rows refer to roots or rows below and stay."""
        table = Table(f"public.outside_{number}", "outside")
        table.keys.append(self._new_key(table, 1))
        parent = self.random.choice([each for each in inside if each.keys])
        link = self._link(table, parent, self.random.choice(["set null", "no action", "restrict"]), "about", True)
        link.inner = False
        return table

    def _cycle(self, root: Table, below: list[Table]) -> None:
        """Sometimes let the root refer back to a row below it, as `last_message_id` does."""
        with_keys = [table for table in below if table.keys]
        if with_keys and self.random.random() < 0.35:
            action = self.random.choice(["set null", "no action", "set null"])
            self._link(root, self.random.choice(with_keys), action, "last", True)


def first_partition(table: Table, number: int = 1) -> str:
    """Name a partition after its table."""
    end = '"' if table.name.endswith('"') else ""
    return f"{table.name.removesuffix(end) if end else table.name}_{number}{end}"
