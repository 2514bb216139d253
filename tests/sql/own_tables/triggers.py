"""Triggers as teams have them, one function each: what they write is unqualified, as it is in an app's migration."""

from __future__ import annotations

from random import Random

from tests.sql.own_tables.schema import Column, Link, Table, quoted

TABLES = [
    "create table public.audit (id bigserial primary key, what text, who text)",
    "create table public.search_index (id bigserial primary key, source text)",
]
# What triggers write to: not compared, but what vanishes from the index is named in the report.
SIDE_TABLES = ("public.audit", "public.search_index")


def add_triggers(random: Random, table: Table, links: list[Link]) -> None:
    """Give a table up to two triggers."""
    makers = [_audit, _stamp, _statement, _deferred, _unindex, _normalise, _fill, _view]
    if table.role == "below":
        makers += [_swallow, _refuse]
    for maker in random.sample(makers, random.choice([0, 0, 1, 1, 2])):
        maker(table)
    for link in links:
        if link.child is table and link.parent.role == "root" and link.cascades and random.random() < 0.15:
            _count(link)


def _function(table: Table, what: str, body: str, declare: str = "") -> str:
    """Add a trigger function; return its name."""
    name = f"public.{what}_{_plain(table)}"
    table.triggers.append(
        f"create function {name}() returns trigger language plpgsql as $f$\n{declare}begin {body} end $f$"
    )
    return name


def _plain(table: Table) -> str:
    return "".join(letter for letter in table.name.lower() if letter.isalnum() or letter == "_")


def _audit(table: Table) -> None:
    name = _function(
        table,
        "audit",
        "insert into audit (what, who) values (tg_op, coalesce(current_setting('lull.restoring', true), '')); return null;",
    )
    table.triggers.append(
        f"create trigger a_audit after insert or update or delete on {table.name} for each row execute function {name}()"
    )


def _stamp(table: Table) -> None:
    table.columns.append(Column("stamped", "timestamptz", generated=True))
    table.side_effects = True
    name = _function(table, "stamp", "new.stamped := clock_timestamp(); return new;")
    table.triggers.append(
        f"create trigger stamp before insert or update on {table.name} for each row execute function {name}()"
    )


def _statement(table: Table) -> None:
    name = _function(table, "statement", "insert into audit (what) select tg_op from gone; return null;")
    table.triggers.append(
        f"create trigger per_statement after delete on {table.name} referencing old table as gone "
        f"for each statement execute function {name}()"
    )


def _deferred(table: Table) -> None:
    name = _function(table, "checked", "perform 1 from audit limit 1; return null;")
    table.triggers.append(
        f"create constraint trigger checked after insert or update or delete on {table.name} "
        f"deferrable initially deferred for each row execute function {name}()"
    )


def _unindex(table: Table) -> None:
    name = _function(
        table,
        "unindex",
        "delete from search_index where id = (select min(id) from search_index where source = tg_table_name); return old;",
    )
    table.triggers.append(f"create trigger unindex after delete on {table.name} for each row execute function {name}()")


def _normalise(table: Table) -> None:
    table.columns.append(Column("Heading", "text", ["'a heading'", "'HEADING'", "null"]))
    name = _function(table, "normalise", 'new."Heading" := upper(new."Heading"); return new;')
    table.triggers.append(
        f'create trigger "Normalise" before insert or update on {table.name} for each row execute function {name}()'
    )


def _fill(table: Table) -> None:
    table.columns.append(Column("filled", "uuid", ["null"]))
    name = _function(table, "fill", "new.filled := coalesce(new.filled, gen_random_uuid()); return new;")
    table.triggers.append(f"create trigger fill before insert on {table.name} for each row execute function {name}()")


def _view(table: Table) -> None:
    view = f"public.view_of_{_plain(table)}"
    table.triggers.append(f"create view {view} as select * from {table.name}")
    name = _function(table, "through", "insert into audit (what) values ('through the view'); return null;")
    table.triggers.append(f"create trigger through instead of delete on {view} for each row execute function {name}()")


def _swallow(table: Table) -> None:
    _pin(table)
    name = _function(table, "swallow", "if old.pinned then return null; end if; return old;")
    table.triggers.append(
        f"create trigger swallow before delete on {table.name} for each row execute function {name}()"
    )


def _refuse(table: Table) -> None:
    _pin(table)
    name = _function(table, "refuse", "if old.pinned then raise exception 'it is pinned'; end if; return old;")
    table.triggers.append(f"create trigger refuse before delete on {table.name} for each row execute function {name}()")


def _pin(table: Table) -> None:
    if all(column.name != "pinned" for column in table.columns):
        table.columns.append(Column("pinned", "boolean not null default false", ["false", "false", "false", "true"]))


def _count(link: Link) -> None:
    """Count the rows below in a column of the root, at every insert."""
    root, child = link.parent, link.child
    if all(column.name != "counted" for column in root.columns):
        root.columns.append(Column("counted", "int not null default 0", generated=True))
    root.side_effects = True
    where = " and ".join(
        f"{quoted(theirs)} = new.{quoted(ours)}" for theirs, ours in zip(link.key.columns, link.columns, strict=True)
    )
    name = _function(
        child,
        f"count_{link.columns[0][:-2]}",
        f"update {root.name} set counted = counted + 1 where {where}; return null;",
    )
    child.triggers.append(
        f"create trigger counted_{link.columns[0]} after insert on {child.name} for each row execute function {name}()"
    )
