"""One random schema from its creation to its release: adopt, dry run, run, change, restore, compare."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import psycopg

from tests.sql.driver import Policy, call, policies, run_cleanup, scalar, store
from tests.sql.own_tables import team
from tests.sql.own_tables.drawing import Drawing
from tests.sql.own_tables.keys import extensions, kinds_of
from tests.sql.own_tables.mutations import Mutation, draw_mutation
from tests.sql.own_tables.oracle import Oracle, Verdict
from tests.sql.own_tables.rows import Rows
from tests.sql.own_tables.schema import Table
from tests.sql.team_tables import Snapshot, snapshot
from tests.sql_servers import Database

# Columns that a trigger sets on every insert: a restore names them where it cannot set them right.
SET_BY_TRIGGERS = ("stamped", "counted")
TIES = """
select 'trigger ' || pg_get_triggerdef(t.oid) as line from pg_trigger t
join pg_class c on c.oid = t.tgrelid
where not t.tgisinternal and c.relnamespace::regnamespace::text not in ('lull', 'auth', 'storage')
union all
select 'constraint ' || o.conrelid::regclass || ' ' || pg_get_constraintdef(o.oid) from pg_constraint o
join pg_class c on c.oid = o.conrelid where c.relnamespace <> 'lull'::regnamespace
union all
select 'column ' || a.attrelid::regclass || ' ' || a.attname from pg_attribute a
join pg_class c on c.oid = a.attrelid
where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and c.relnamespace::regnamespace::text !~ '^(lull|pg_|information_schema)'
"""


class Journey:
    """The steps over one database; `script` holds every statement of the team's, to be repeated by hand."""

    def __init__(self, database: Database, number: int) -> None:
        self.database = database
        self.number = number
        self.script: list[str] = []
        self.connection = database.connect()
        added = extensions(self.connection)
        version = self.connection.info.server_version
        drawing = Drawing(number, version, kinds_of(added), added)
        self.schema = drawing.schema()
        self.random = drawing.random
        self.arguments: dict[str, Any] = {}
        self.answers: list[dict[str, Any]] = []

    @property
    def root(self) -> str:
        return self.schema.root.name

    def travel(self) -> Counter[str]:
        """Go the whole way; return what was seen, for a test that the drawings are not all alike."""
        seen: Counter[str] = Counter()
        self._create()
        before = self._snapshot()
        ties = self._ties()
        self._adopt()
        held = self._hold()
        verdict = Oracle(self.connection, self.schema, held).verdict()
        self._dry_run(verdict, before)
        report = self._run()
        gone = self._check_run(verdict, before, report)
        seen.update({"gone": len(gone[self.root]), "stayed": len(verdict.stay), "either": len(verdict.either)})
        seen.update({f"below {table}": len(rows) for table, rows in gone.items() if table != self.root})
        if gone[self.root]:
            mutation = self._mutate(gone)
            seen["mutations"] += mutation is not None
            self._restore(mutation, gone)
            self._check_restored(before)
            self._check_stays(gone)
        self._release(ties)
        return seen

    # Steps

    def _do(self, *statements: str) -> None:
        for statement in statements:
            self.script.append(statement + ";")
            self.connection.execute(statement)

    def _note(self, what: str) -> None:
        self.script.append(f"-- {what}")

    def _create(self) -> None:
        self._do(*self.schema.statements())
        self._do("insert into public.search_index (source) select relname from pg_class c, generate_series(1, 30)"
                 " where relnamespace not in (select oid from pg_namespace where nspname ~ '^(pg_|lull|info)')"
                 " and relkind in ('r', 'p')")  # fmt: skip
        self._do("begin", *Rows(self.random, self.schema).draw(), "commit")
        self._do("analyze")

    def _adopt(self) -> None:
        schema = self.schema
        if schema.kind is None:
            self.script.append(f"select lull.adopt('{self.root}', '{schema.clock}');")
            scalar(self.connection, "select lull.adopt(%s, %s)", self.root, schema.clock)
            return
        self.arguments = {"p_clock": schema.clock, "p_below": schema.below(), "p_existing": schema.existing}
        if schema.status:
            self.arguments |= {"p_status": schema.status, "p_statuses": schema.names}
        if schema.first_message:
            self.arguments["p_first_message"] = schema.first_message
        self.script.append(
            f"select lull.adopt_sessions('{self.root}', '{schema.kind}', "
            + ", ".join(f"{name} => {_sql(value)}" for name, value in self.arguments.items())
            + ");"
        )
        team.adopt_sessions(self.connection, self.root, schema.kind, **self.arguments)

    def _hold(self) -> set[str]:
        """Sometimes hold one root; return its text."""
        key = self.schema.root.keys[0]
        if len(key.columns) > 1 or self.random.random() < 0.6:
            return set()
        row = self.connection.execute(
            f'select one_row."{key.columns[0]}"::text as key, one_row::text as said from {self.root} one_row order by 2 limit 1'
        ).fetchone()
        assert row
        self.script.append(
            f"insert into lull.holds (target, key, reason) values ('{self.root}', '{row['key']}', 'kept');"
        )
        self.connection.execute(
            "insert into lull.holds (target, key, reason) values (%s, %s, 'kept')", [self.root, row["key"]]
        )
        return {row["said"]}

    def policies(self) -> list[Policy]:
        mine = [] if self.schema.kind else [team.stale_rows_policy(self.root, self.schema.clock)]
        return [*policies(), *mine]

    def _dry_run(self, verdict: Verdict, before: Snapshot) -> None:
        store(self.connection, self.policies())
        answer = call(self.connection, "lull_preview_cleanup", p_policies=self.policies())
        self.answers.append(answer)
        lines = team.lines_of(answer, self.root)
        assert lines, f"no line of the dry run is about {self.root}"
        assert not any(line["error"] for line in lines), [line["error"] for line in lines]
        shown = sum(line["would"] for line in lines)
        named = sum(why.startswith(("a trigger", "a row from")) for why in verdict.why.values())
        assert len(verdict.go) <= shown <= len(verdict.go) + len(verdict.either) + named, (
            f"the dry run shows {shown} rows; {len(verdict.go)} must go, {len(verdict.either)} may"
        )
        assert self._snapshot() == before, "the dry run changed something"

    def _run(self) -> dict[str, Any]:
        size = self.random.choice([1, 2, 3, 1000])
        self._note(f"a run in batches of {size}")
        report = run_cleanup(self.connection, size=size, p_policies=self.policies())
        self.answers.append(report)
        return report

    def _check_run(self, verdict: Verdict, before: Snapshot, report: dict[str, Any]) -> Snapshot:
        """Compare with the verdict; return the rows that are gone, by table."""
        after = self._snapshot()
        left = {row["the row"] for row in self._texts()}
        missing_from = verdict.go & left
        assert not missing_from, f"stale and still there: {sorted(missing_from)}; {_short(report)}"
        taken = {text: why for text, why in verdict.why.items() if text not in left}
        assert not taken, f"taken though they must stay: {taken}"
        gone = {table: _without(before[table], after[table]) for table in before}
        for table, rows in gone.items():
            assert len(before[table]) == len(after[table]) + len(rows), f"rows that stay in {table} have changed"
        went = [text for text in verdict.below if text not in left]
        places = set().union(*(verdict.below[text] for text in went)) if went else set()
        for each in self.schema.tables:
            expected = sum(place[0] == each.name for place in places)
            assert each.role == "root" or len(gone[each.name]) == expected, (
                f"{len(gone[each.name])} rows of {each.name} are gone, {expected} hung below what went"
            )
        said = self._said()
        for text, why in verdict.why.items():
            if why.startswith(("a trigger", "a row from")) and text in left:
                assert '"skipped' in said or "outside" in said, f"kept and not named ({why}): {text}"
        unindexed = 30 * self._sources() - scalar(self.connection, "select count(*) from public.search_index")
        assert not unindexed or "search_index" in said, (
            f"a trigger deleted {unindexed} rows of search_index, and the report does not say so: {_short(report)}"
        )
        return gone

    def _mutate(self, gone: Snapshot) -> Mutation | None:
        if self.random.random() < 0.3:
            return None
        mutation = draw_mutation(self.random, self.connection, self.schema, gone)
        if mutation:
            self._note(mutation.name)
            self._do(*mutation.do)
        return mutation

    def _restore(self, mutation: Mutation | None, gone: Snapshot) -> None:
        restore = self.random.choice([self._restore_run, self._restore_keys])
        answers = restore()
        missing = sum(answer.get("missing", 0) for answer in answers)
        reasons = [reason for answer in answers for reason in answer.get("reasons", [])]
        total = sum(len(rows) for rows in gone.values())
        if mutation and mutation.blocks:
            assert missing and reasons, f"{mutation.name}, and the restore names nothing: {answers}"
            assert missing <= total, f"{missing} of {total} rows are said to be missing"
        else:
            assert not missing, f"not back: {missing} rows, {reasons}"
        if mutation:
            self._note("taken back, and restored again")
            self._do(*mutation.undo)
            if mutation.blocks:
                answers = self._restore_keys() if self.random.random() < 0.5 else self._restore_run()
                missing = sum(answer.get("missing", 0) for answer in answers)
                assert not missing, f"{mutation.name} was taken back, and {missing} rows are not back: {answers}"

    def _restore_run(self) -> list[dict[str, Any]]:
        self._note(
            "select public.lull_restore_run((select id from lull.cleanup_runs order by started_at desc limit 1));"
        )
        answers = [team.restore_run(self.connection)]
        self.answers += answers
        return answers

    def _restore_keys(self) -> list[dict[str, Any]]:
        rows = self.connection.execute(
            "select distinct key from lull.archive_keys where target = %s order by key", [self.root]
        ).fetchall()
        answers = []
        for row in rows:
            self._note(f"select lull.restore_key('{self.root}', '{row['key']}', '{{\"service\": true}}');")
            answers.append(team.restore_key(self.connection, self.root, row["key"]) or {})
        self.answers += answers
        return answers

    def _check_restored(self, before: Snapshot) -> None:
        """Every table is as it was, but for columns that a trigger sets on the way in; those are named."""
        after = self._snapshot()
        said = self._said()
        for table in self.schema.tables:
            old, new = _comparable(before[table.name]), _comparable(after[table.name])
            lost, more = list((old - new).elements()), list((new - old).elements())
            assert not lost and not more, f"{table.name} after the restore: lost {lost}; not there before {more}"
            if table.side_effects and before[table.name] != after[table.name]:
                assert _bare(table) in said, (
                    f"a trigger changed rows of {table.name} on the way in, and no answer says so"
                )
        assert team.archived(self.connection, self.root) == 0, "everything is back, and the archive still holds keys"

    def _check_stays(self, gone: Snapshot) -> None:
        """What was restored stays for one age, though its clock is as old as it was."""
        self._note("another run")
        self._run()
        key = self.schema.root.keys[0].columns
        there = {tuple(row[name] for name in key) for row in self._snapshot()[self.root]}
        again = [row for row in gone[self.root] if tuple(row[name] for name in key) not in there]
        assert not again, f"the next run took again what had just been restored: {again}"

    def _release(self, ties: list[str]) -> None:
        self.script.append(f"select lull.release('{self.root}');")
        self.connection.execute("select lull.release(%s)", [self.root])
        assert self._ties() == ties, "the adoption left something in the team's schema"
        assert scalar(self.connection, "select count(*) from lull.targets where not builtin") == 0

    # Looking

    def _said(self) -> str:
        """Return everything that was answered, as one text without escapes."""
        return json.dumps(self.answers, ensure_ascii=False).replace('\\"', '"')

    def _snapshot(self) -> Snapshot:
        return snapshot(self.connection, *(table.name for table in self.schema.tables))

    def _texts(self) -> list[dict[str, Any]]:
        return self.connection.execute(f'select one_row::text as "the row" from {self.root} one_row').fetchall()

    def _ties(self) -> list[str]:
        ours = ("newcomer",)
        return sorted(
            row["line"] for row in self.connection.execute(TIES) if not any(name in row["line"] for name in ours)
        )

    def _sources(self) -> int:
        return int(scalar(self.connection, "select max(id) / 30 from public.search_index"))


def _sql(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return "'" + text.replace("'", "''") + "'"


def _bare(table: Table) -> str:
    return table.name.split(".", 1)[1].strip('"')


def _short(report: dict[str, Any]) -> str:
    return json.dumps([line for line in report["policies"] if line.get("outcome") != "completed" or line["did"]])


def _comparable(rows: list[dict[str, str | None]]) -> Counter[tuple[tuple[str, str | None], ...]]:
    """Return rows as a multiset, whatever the order of columns, without what triggers set."""
    return Counter(
        tuple(sorted((name, value) for name, value in row.items() if name not in (*SET_BY_TRIGGERS, "the row")))
        for row in rows
    )


def _without(rows: list[dict[str, str | None]], left: list[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """Return the rows that are not left, duplicates counted."""
    remaining = Counter(row["the row"] for row in left)
    gone = []
    for row in rows:
        if remaining[row["the row"]]:
            remaining[row["the row"]] -= 1
        else:
            gone.append(row)
    return gone


def repeat(journey: Journey, error: BaseException) -> str:
    """Say how a failed journey is repeated: by its number, or by hand with the SQL."""
    version = journey.connection.info.server_version // 10000
    text = "\n".join(journey.script)
    return (
        f"{error}\n\nSchema {journey.number} on Postgres {version}; alone: OWN_TABLES_FIRST={journey.number} OWN_TABLES=1 "
        f"python -m pytest tests/sql/own_tables/test_generated.py -k postgres{version}\n\n{text}"
    )


def travel(database: Database, number: int) -> Counter[str]:
    """Go through one schema; a failure says how to repeat it."""
    journey = Journey(database, number)
    try:
        return journey.travel()
    except (AssertionError, psycopg.Error, KeyError) as error:
        raise AssertionError(repeat(journey, error)) from error
