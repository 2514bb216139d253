"""What a run must take and must leave, by the words of the contract and none of Lull's SQL.

Rows and references are read from the tables with the team's own operators; the rest is a walk in Python.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.sql.driver import Connection, policies
from tests.sql.own_tables.schema import Link, Rule, Schema, Table, quoted

Place = tuple[str, str]  # table, ctid with the partition's oid


@dataclass
class Verdict:
    """Roots by what a run must do with them; `either` where the order of batches decides."""

    go: set[str] = field(default_factory=set)
    stay: set[str] = field(default_factory=set)
    either: set[str] = field(default_factory=set)
    why: dict[str, str] = field(default_factory=dict)
    below: dict[str, set[Place]] = field(default_factory=dict)  # what goes with each root


class Oracle:
    """The graph of a schema's rows at one moment."""

    def __init__(self, connection: Connection, schema: Schema, held: set[str]) -> None:
        self.connection = connection
        self.schema = schema
        self.held = held  # row texts of roots with a hold
        self.down: dict[Place, set[Place]] = defaultdict(set)  # by cascading keys
        self.refers: dict[Place, set[Place]] = defaultdict(set)  # row → rows that refer to it otherwise
        self.checked: dict[Place, set[Place]] = defaultdict(set)  # those whose check may come too early
        for link in schema.links:
            if link.parent.role == "lookup":
                continue
            for parent, child in self._pairs(link):
                (self.down if link.cascades else self.refers)[parent].add(child)
                if (
                    link.action == "no action"
                    and link.timing != "deferrable initially deferred"
                    and link.child.role == "below"
                ):
                    self.checked[parent].add(child)
        self.keeping = {place for table in schema.tables for place in self._keeping(table)}
        self.pinned = {place for table in schema.tables for place in self._where(table, "pinned")}

    def verdict(self) -> Verdict:
        """Judge every root."""
        verdict = Verdict()
        stale = self._stale()
        roots = self._places(self.schema.root)
        closures = {place: self._below(place) for place in roots}
        with_stale = set().union(*(closures[place] | {place} for place in stale)) if stale else set()
        for place, text in roots.items():
            closure = closures[place]
            whole = closure | {place}
            outside = {r for inner in whole for r in self.refers[inner] if r not in whole}
            verdict.below[text] = closure
            if place not in stale:
                self._stay(verdict, text, "not stale")
            elif closure & self.keeping or (closure & roots.keys()) - stale:
                self._stay(verdict, text, "a row below keeps it")
            elif closure & self.pinned:
                self._stay(verdict, text, "a trigger keeps a row below")
            elif outside - with_stale:
                self._stay(verdict, text, "a row from outside refers to it")
            elif (
                outside
                or closure & roots.keys()
                or any(self.checked[each] & closure for each in whole)
                or any(whole & (closures[other] | {other}) for other in roots if other != place)
            ):
                verdict.either.add(text)
            else:
                verdict.go.add(text)
        return verdict

    def _stay(self, verdict: Verdict, text: str, why: str) -> None:
        verdict.stay.add(text)
        verdict.why[text] = why

    def _below(self, place: Place) -> set[Place]:
        found: set[Place] = set()
        todo = [place]
        while todo:
            for child in self.down[todo.pop()]:
                if child not in found and child != place:
                    found.add(child)
                    todo.append(child)
        return found

    def _pairs(self, link: Link) -> list[tuple[Place, Place]]:
        on = " and ".join(
            f"p.{quoted(theirs)} = c.{quoted(ours)}"
            for theirs, ours in zip(link.key.columns, link.columns, strict=True)
        )
        rows = self.connection.execute(
            f"select {_place('p')} as parent, {_place('c')} as child "
            f"from {link.partition or link.parent.name} p join {link.only or link.child.name} c on {on}"
        ).fetchall()
        return [((link.parent.name, row["parent"]), (link.child.name, row["child"])) for row in rows]

    def _places(self, table: Table, where: str = "true") -> dict[Place, str]:
        rows = self.connection.execute(
            f"select {_place('one_row')} as place, one_row::text as said from {table.name} one_row where {where}"
        ).fetchall()
        return {(table.name, row["place"]): row["said"] for row in rows}

    def _where(self, table: Table, column: str) -> set[Place]:
        if all(each.name != column for each in table.columns):
            return set()
        return set(self._places(table, f"one_row.{quoted(column)}"))

    def _stale(self) -> set[Place]:
        schema = self.schema
        conditions = [f"one_row.{quoted(schema.clock)} < now() - interval '2 days'"]
        if schema.kind and not schema.existing:
            return set()
        if schema.status and schema.kind:
            words = {p["equals"].get("status") for p in policies() if p["equals"].get("kind") == schema.kind}
            names = [name for word in sorted(word for word in words if word) for name in schema.names.get(word, [])]
            texts = ", ".join(f"'{name}'" for name in names) or "''"
            conditions.append(f"one_row.{quoted(schema.status)}::text in ({texts})")
        if schema.first_message:
            conditions.append(f"one_row.{quoted(schema.first_message)} is null")
        places = self._places(schema.root, " and ".join(conditions))
        return {place for place, text in places.items() if text not in self.held}

    def _keeping(self, table: Table) -> set[Place]:
        """Rows that keep every root above them. A clock that is null is never old."""
        rule = effective_rule(self.schema, table)
        if rule == "keeps":
            return set(self._places(table))
        if isinstance(rule, dict):
            return set(
                self._places(table, f"(one_row.{quoted(rule['clock'])} < now() - interval '2 days') is not true")
            )
        return set()


def effective_rule(schema: Schema, table: Table) -> Rule | None:
    """Return what the rows of a table below mean; null for any other table."""
    if table.role != "below":
        return None
    if schema.kind is None:
        return "goes along"
    if table.rule is not None:
        return table.rule
    parents = {
        link.parent.name: link.parent
        for link in schema.links
        if link.child is table and link.cascades and link.parent is not table and link.parent.role != "lookup"
    }
    along = all(
        parent.role == "below" and effective_rule(schema, parent) == "goes along" for parent in parents.values()
    )
    return "goes along" if along else "keeps"


def _place(alias: str) -> str:
    return f"{alias}.tableoid::text || {alias}.ctid::text"
