"""Single questions: what a dry run costs, what a run does to memory, and whether a batch reads ever more."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
from psycopg.types.json import Jsonb

from api.cleanup.policies import load_policies
from api.settings import Settings
from tests.bench.bases import Copy
from tests.bench.contender import LULL_ARCHIVE
from tests.bench.context import Context
from tests.bench.dataset import Connection
from tests.bench.sections.purge import measure
from tests.bench.servers import hours_since

POLICY = "abandoned-drafts"
# The same numbers by hand: rows, participants and files below them, and the oldest.
_BY_HAND = """
with stale as materialized (
  select s.id, s.last_activity_at from lull.sessions s
  where s.kind = 'chat' and s.status = 'draft' and s.first_message_at is null and not s.hold
    and s.companion_of is null and s.last_activity_at < %(cutoff)s
    and not exists (
      select from lull.session_participants p
      where p.session_id = s.id and (p.last_seen_at < %(cutoff)s) is not true)
)
select (select count(*) from stale), (select min(last_activity_at) from stale),
  (select count(*) from stale s join lull.session_participants p on p.session_id = s.id),
  (select count(*) from stale s join lull.session_files f on f.session_id = s.id)
"""
_COUNT = """
select count(*) from lull.sessions
where kind = 'chat' and status = 'draft' and first_message_at is null and not hold and last_activity_at < %s
"""
_TIMES = 7
_BATCH = 2000
_SHARE = 0.1  # of the batches: the first, and the last


def dry_run(context: Context) -> None:
    """Compare a dry run with the same numbers counted by hand, over HTTP and as the SQL function alone."""
    base = context.size.dry_run
    context.bases.warm(base.name)
    cutoff = context.bases.cutoff(base)
    with (
        context.servers.project(base.name) as project,
        context.servers.api(project, SESSION_CLEANUP_THRESHOLD_HOURS=hours_since(cutoff)) as api,
        httpx.Client(base_url=api.url, headers=api.admin, timeout=120, trust_env=False) as http,
        project.connect() as connection,
    ):
        ours = policy()

        def over_http() -> None:
            answer = http.get("/api/admin/cleanup-sessions")
            if answer.status_code != 200 or answer.json()["wouldDelete"] != base.stale:
                raise RuntimeError(f"the dry run answered {answer.text}")

        ways: dict[str, Callable[[], object]] = {
            "count": lambda: connection.execute(_COUNT, (cutoff,)),
            "by-hand": lambda: connection.execute(_BY_HAND, {"cutoff": cutoff}),
            "function": lambda: connection.execute(
                "select public.lull_preview_cleanup(%s, %s, %s)",
                (Jsonb([ours | {"age_seconds": 86400}]), cutoff + timedelta(days=1), POLICY),
            ),
            "http": over_http,
        }
        for work in ways.values():
            work()
        for turn in range(1, context.size.rounds + 1):
            for name, work in ways.items():
                context.results.add("dry-run", name, turn, ms=1000 * _median_seconds(work))
    for name in ways:
        print(f"  {name}: {context.results.median('dry-run', name, 'ms'):.1f} ms")


def memory(context: Context) -> None:
    """Purge few rows and very many, each with an API of its own, and compare the most memory it had."""
    for base in context.size.memory:
        with context.said(f"{base.stale:,} stale rows") as words, context.bases.copy(base) as copy:
            measured = measure(context.servers, copy, LULL_ARCHIVE, {})
            context.results.add("memory", str(base.stale), 1, **measured)
            words += [f"{measured['peak_memory_mb']:.1f} MB", f"{measured['rows_per_second']:.0f}/s"]


def buffers(context: Context) -> None:
    """Purge beside a transaction that stays open, and compare what the last batches read with the first ones.

    Dead rows can not be removed then: a batch that does not resume behind the one before reads them all again.
    """
    base = context.size.memory[-1] if context.size.memory else context.size.lull
    with (
        context.said("pinned") as words,
        context.bases.copy(base) as copy,
        context.servers.connect(copy.database) as pin,
        context.servers.connect(copy.database) as connection,
    ):
        pin.execute("begin isolation level repeatable read")
        pin.execute("select count(*) from lull.cleanup_runs")  # takes the snapshot
        per_row = _buffers_per_row(connection, copy, context.size.pinned_rows)
        share = max(1, round(_SHARE * len(per_row)))
        first, last = statistics.mean(per_row[:share]), statistics.mean(per_row[-share:])
        context.results.add("buffers", "lull-archive", 1, batches=len(per_row), first_per_row=first, last_per_row=last)
        words += [f"{first:.2f} buffers a row in the first batches, {last:.2f} in the last"]


def _buffers_per_row(connection: Connection, copy: Copy, rows: int) -> list[float]:
    """Run batches of one size in one lane; return the buffers that each has touched, per row."""
    stale = policy() | {"age_seconds": 3600 * float(hours_since(copy.cutoff))}
    begun = call(connection, "lull_begin_cleanup(%s, 'bench', 900, %s, %s)", Jsonb([stale]), POLICY, copy.base.stale)
    lease = (begun["run_id"], begun["token"])
    opened = call(connection, "lull_open_policy(%s, %s, %s)", *lease, POLICY)
    if opened["outcome"] != "open":
        raise RuntimeError(f"the policy did not open: {opened}")
    measured = []
    for _ in range(rows // _BATCH):
        plan = connection.execute(
            "explain (analyze, buffers, costs off, timing off, format json)"
            " select public.lull_cleanup_lane(%s, %s, %s, %s, 1)",
            (*lease, POLICY, _BATCH),
        ).fetchone()
        assert plan is not None
        touched = plan[0][0]["Plan"]
        measured.append((touched["Shared Hit Blocks"] + touched["Shared Read Blocks"]) / _BATCH)
    return measured


def policy() -> dict[str, Any]:
    """The policy of abandoned drafts, as a run sends it."""
    policies = load_policies(Settings.model_construct())
    return next(each.arguments() for each in policies if each.name == POLICY)


def call(connection: Connection, operation: str, *values: object) -> dict[str, Any]:
    """Call an operation of Lull's, given with its placeholders, and return its answer."""
    row = connection.execute(f"select public.{operation}", values).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0] if isinstance(row[0], dict) else json.loads(row[0])
    return answer


def _median_seconds(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
