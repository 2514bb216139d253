"""A run's numbers as tables: medians over the rounds, ratios pair by pair within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.contender import CONTENDERS, TITLES
from tests.bench.results import Results
from tests.bench.sections.activations import NODE, POSTGREST
from tests.bench.targets import TARGETS

_SERVED = {
    NODE: "Node + supabase-js",
    POSTGREST: "Lull, PostgREST transport",
    "lull-direct": "Lull, direct transport",
    "postgrest": "PostgREST by itself",
}


@dataclass(frozen=True)
class Table:
    """A table; all but the first column, and remarks, are numbers."""

    headings: Sequence[str]
    lines: list[list[str]]

    def text(self) -> str:
        """For a terminal."""
        rows = [[*self.headings], *self.lines]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.headings))]
        rows.insert(1, ["-" * width for width in widths])
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i == 0 or heading == "" else cell.rjust(width)
                for i, (cell, width, heading) in enumerate(zip(row, widths, self.headings, strict=True))
            ).rstrip()
            for row in rows
        )

    def markdown(self) -> str:
        """For the page."""
        rules = ["---" if i == 0 or heading == "" else "---:" for i, heading in enumerate(self.headings)]
        rows = [[*self.headings], rules, *self.lines]
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def targets(runs: Sequence[Results]) -> Table:
    """What must hold, what is aimed at, and what each run measured."""
    lines = []
    for target in TARGETS:
        must, aim = (f"{target.sign} {value:g}" for value in (target.must, target.aim))
        lines.append([target.title, must, aim, *(target.verdict(run) for run in runs)])
    names = ["measured"] if len(runs) == 1 else [f"run {number}" for number in range(1, len(runs) + 1)]
    return Table(["target", "must", "aim", *names], lines)


def purge(run: Results) -> Table:
    """Each contender alone."""
    lines = []
    for contender in CONTENDERS:
        number = _numbers(run, "purge", contender.name)
        lines.append([
            contender.title,
            number("rows", "{:,.0f}"),
            number("rows_per_second", "{:,.0f}"),
            _said(run.ratio("purge", "rows_per_second", contender.name, contender.compared_with), "{:.2f}"),
            number("longest_statement_ms", "{:,.0f}"),
            number("longest_transaction_ms", "{:,.0f}"),
            number("wal_bytes_per_row", "{:,.0f}"),
            number("peak_memory_mb", "{:.0f}"),
            contender.remark,
        ])
    headings = ["purge", "rows", "rows/s", "of one DELETE", "longest statement, ms", "longest transaction, ms"]
    return Table([*headings, "WAL, bytes/row", "client, MB", ""], lines)


def traffic(run: Results) -> Table:
    """Each contender beside live activations."""
    lines = []
    for case in run.cases("beside"):
        number = _numbers(run, "beside", case)
        idle, during = (run.values("beside", case, f"p99_{when}_ms") for when in ("idle", "during"))
        ratio = statistics.median(during[turn] / idle[turn] for turn in idle)
        lines.append([
            TITLES[case],
            number("p99_idle_ms", "{:.1f}"),
            number("p99_during_ms", "{:,.1f}"),
            f"{ratio:,.1f} ×",
            number("longest_ms", "{:,.0f}"),
            number("longest_lock_wait_ms", "{:,.0f}"),
            number("seconds", "{:.1f}"),
            number("activated", "{:,.0f}"),
            number("restored", "{:,.0f}"),
            _said(sum(run.values("beside", case, "failed").values()), "{:.0f}"),
            _said(sum(run.values("beside", case, "lost").values()), "{:.0f}"),
        ])
    headings = ["purge beside activations", "p99 idle, ms", "p99 during, ms", "ratio", "longest, ms"]
    more = ["longest lock wait, ms", "purge, s", "activated", "of them restored", "failed", "lost, all rounds"]
    return Table([*headings, *more], lines)


def activations(run: Results) -> Table:
    """Servers that activate: warm, and from their start."""
    lines = []
    for case in dict.fromkeys([*run.cases("warm"), *run.cases("cold")]):
        warm, cold = _numbers(run, "warm", case), _numbers(run, "cold", case)
        lines.append([
            _SERVED[case],
            warm("requests_per_second", "{:,.0f}"),
            _said(run.ratio("warm", "requests_per_second", case, NODE), "{:.2f}"),
            warm("p50_ms", "{:.1f}"),
            warm("p99_ms", "{:.1f}"),
            cold("first_answer_ms", "{:.0f}"),
            _said(run.ratio("cold", "first_answer_ms", case, NODE), "{:.2f}"),
        ])
    headings = ["activations", "requests/s, 16 clients", "of Node's", "p50, ms", "p99, ms", "first answer, ms"]
    return Table([*headings, "of Node's first"], lines)


def grown(run: Results) -> Table:
    """The same purge in larger tables."""
    lines = []
    for size in sorted({int(case.rpartition("-")[2]) for case in run.cases("grown")}):
        one_shot, lull = (f"{name}-{size}" for name in ("one-shot-plain", "lull-plain"))
        lines.append([
            f"{size:,}",
            _numbers(run, "grown", lull)("rows", "{:,.0f}"),
            _numbers(run, "grown", one_shot)("rows_per_second", "{:,.0f}"),
            _numbers(run, "grown", lull)("rows_per_second", "{:,.0f}"),
            _said(run.ratio("grown", "rows_per_second", lull, one_shot), "{:.2f}"),
        ])
    return Table(["rows in the table", "purged", "one DELETE, rows/s", "Lull, rows/s", "ratio"], lines)


def single(run: Results) -> Table:
    """The numbers of single questions."""
    ways = {"count": "`select count(*)` of the stale rows", "by-hand": "the dry run's numbers, counted by hand", "function": "dry run of the policy: one call of the SQL function",
            "http": "dry run of all policies: `GET /api/admin/cleanup-sessions`, a call for each"}
    lines = [
        [f"{title}, ms", _said(run.median("dry-run", way, "ms"), "{:.1f}")]
        for way, title in ways.items()
        if way in run.cases("dry-run")
    ]
    for case, title in (("purge", "purge with archive, rows/s"), ("restore", "restore of it with 1 % in the way, rows/s")):
        lines.append([title, _said(run.median("archive", case, "rows_per_second"), "{:,.0f}")])
    for measure, title in (("archived_bytes_per_row", "archive, bytes a row"), ("wal_bytes_per_row", "WAL of it, bytes a row")):
        lines.append([title, _said(run.median("archive", "purge", measure), "{:,.0f}")])
    for case, title in (("one-row", "batch of one row without its commit, ms"), ("empty-run", "empty run of all policies, ms")):
        lines.append([title, _said(run.median("fixed", case, "ms"), "{:.2f}")])
    for case in run.cases("buffers"):
        number = _numbers(run, "buffers", case)
        lines.append(["buffers per row, first batches", number("first_per_row", "{:.2f}")])
        lines.append([f"buffers per row, last of {number('batches', '{:.0f}')} batches", number("last_per_row", "{:.2f}")])
    for case in run.cases("memory"):
        number = _numbers(run, "memory", case)
        lines.append([f"API's memory, run over {int(case):,} stale rows, MB", number("peak_memory_mb", "{:.1f}")])
    for case in run.cases("user-sessions-memory"):
        number = _numbers(run, "user-sessions-memory", case)
        title = f"memory of pruning {int(case):,} user sessions on Redis, MB"
        lines.append([title, number("peak_memory_mb", "{:.1f}")])
    lines += [
        [f"100,000 rooms in use: {case}, s", _numbers(run, "rooms", case)("seconds", "{:.2f}")] for case in run.cases("rooms")
    ]
    return Table(["single questions", "measured"], lines)


def heartbeats(run: Results) -> Table:
    """Heartbeats from sixteen clients."""
    lines = []
    for case in run.cases("heartbeats"):
        number = _numbers(run, "heartbeats", case)
        lines.append([case, number("requests_per_second", "{:,.0f}"), number("p50_ms", "{:.1f}"), number("p99_ms", "{:.1f}")])
    return Table(["heartbeats, 16 clients", "a second", "p50, ms", "p99, ms"], lines)


_STORES = {
    "lull-get": "Lull, get",
    "bare-get": "redis-py, HMGET",
    "starsessions-get": "starsessions, get",
    "lull-update": "Lull, update",
    "bare-update": "redis-py, HMGET and EVALSHA",
    "watch-multi": "redis-py, WATCH and MULTI",
    "starsessions-update": "starsessions, get and set, compares nothing",
    "lull-set": "Lull, set",
    "connect-pg-simple-get": "connect-pg-simple, get",
    "connect-pg-simple-set": "connect-pg-simple, set, compares nothing",
}
_BESIDE = {
    "redis": {"bare-get": "lull-get", "starsessions-get": "lull-get"}
    | dict.fromkeys(("bare-update", "watch-multi", "starsessions-update"), "lull-update"),
    "postgres": {"connect-pg-simple-get": "lull-get", "connect-pg-simple-set": "lull-set"},
}


def sessions(run: Results) -> Table:
    """Stores of user sessions at sixteen clients."""
    lines = []
    for store, beside in _BESIDE.items():
        section = f"user-sessions-{store}"
        for case in run.cases(section):
            ratio = run.ratio(section, "per_second", beside[case], case) if case in beside else None
            number = _numbers(run, section, case)
            lines.append([f"{store.title()}: {_STORES[case]}", number("per_second", "{:,.0f}"), _said(ratio, "{:.2f}")])
    return Table(["user sessions, 16 clients", "a second", "Lull's, as a share of it"], lines)


_PRUNED = {
    "lull-redis": "Lull, Redis",
    "lull-postgres": "Lull, Postgres",
    "connect-pg-simple": "connect-pg-simple, one DELETE",
}


def pruned(run: Results) -> Table:
    """Pruning a tenth of the user sessions beside sixteen readers."""
    lines = []
    for case in run.cases("user-sessions-prune"):
        number = _numbers(run, "user-sessions-prune", case)
        measures = ("rows_per_second", "reads_idle", "reads_beside")
        lines.append([_PRUNED[case], *(number(measure, "{:,.0f}") for measure in measures)])
    return Table(["pruning user sessions", "rows/s", "reads/s before", "reads/s meanwhile"], lines)


def _numbers(run: Results, section: str, case: str) -> Callable[[str, str], str]:
    return lambda measure, form: _said(run.median(section, case, measure), form)


def _said(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


ALL = (purge, traffic, activations, heartbeats, grown, single, sessions, pruned)
