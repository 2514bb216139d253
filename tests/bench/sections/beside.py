"""A purge beside live traffic: how long activations take, and whether one that was told "activated" is still there."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.environment import ROOT
from tests.bench.bases import Copy
from tests.bench.contender import CRON_STEPS, LULL_ARCHIVE, LULL_PLAIN, ONE_SHOT, SQLALCHEMY, SUPABASE_JS, Contender
from tests.bench.context import Context
from tests.bench.measures import Watch, quantile
from tests.bench.servers import Servers, quiet

SECTION = "beside"
EVERY_ROUND = (ONE_SHOT, LULL_PLAIN, LULL_ARCHIVE)
FIRST_ROUND = (SUPABASE_JS, CRON_STEPS, SQLALCHEMY)  # they take up to half a minute each
_BIN = 0.25  # seconds, of the picture


@dataclass(frozen=True)
class Activation:
    """An answer of the live traffic; times in seconds."""

    due: float
    latency: float
    draft: str
    answer: str
    session: str


def beside(context: Context) -> None:
    """Measure activations while nothing else happens, then while a contender purges."""
    bases = {"plain": context.size.plain, "lull": context.size.lull}
    for turn in range(1, context.size.rounds + 1):
        for contender in EVERY_ROUND + (FIRST_ROUND if turn == 1 else ()):
            with context.said(f"round {turn}, {contender.title}") as words, context.bases.copy(bases[contender.shape]) as copy:
                measured = _measure(context, copy, contender, turn)
                context.results.add(SECTION, contender.name, turn, **measured)
                words += [
                    f"p99 {measured['p99_idle_ms']:.1f} ms idle, {measured['p99_during_ms']:.1f} ms during",
                    f"{measured['lost']:.0f} lost of {measured['activated']:.0f}",
                ]


def _measure(context: Context, copy: Copy, contender: Contender, turn: int) -> dict[str, float]:
    servers, activations = context.servers, list[Activation]()
    with (
        contender.start(servers, copy, contender.variables) as started,
        _traffic(servers, copy, activations),
        Watch(servers, copy.database, started.pid, waits=True) as watch,
    ):
        time.sleep(context.size.idle_seconds)
        began = time.monotonic()
        seconds = started.work()
        ended = time.monotonic()
    told = [each.session for each in activations if each.answer in ("activated", "restored")]
    idle = [1000 * each.latency for each in activations if began - context.size.idle_seconds + 1 <= each.due < began]
    during = [each for each in activations if began <= each.due < ended]
    latencies = [1000 * each.latency for each in during]
    if turn == 1:
        _keep_for_the_picture(context, contender, activations, began, ended)
    return {
        "seconds": seconds,
        "p50_idle_ms": quantile(idle, 0.5),
        "p99_idle_ms": quantile(idle, 0.99),
        "p50_during_ms": quantile(latencies, 0.5),
        "p99_during_ms": quantile(latencies, 0.99),
        "p99_during_fresh_ms": quantile([1000 * each.latency for each in during if each.draft == "fresh"], 0.99),
        "longest_ms": max(latencies),
        "longest_lock_wait_ms": 1000 * watch.longest_wait,
        "activations_during": len(during),
        "restored": sum(each.answer == "restored" for each in activations),
        "gone": sum(each.answer == "gone" for each in activations),
        "failed": sum(each.answer == "failed" for each in activations),
        "activated": len(told),
        "lost": _lost(servers, copy, told),
    }


def _lost(servers: Servers, copy: Copy, told: list[str]) -> int:
    """How many of the sessions whose owners were told "activated" are not there."""
    table = copy.base.tables.sessions
    with servers.connect(copy.database) as connection:
        found = connection.execute(
            f"select count(*) from unnest(%s::uuid[]) id where not exists (select from {table} s where s.id = id.id)",
            (told,),
        ).fetchone()
    return int(found[0]) if found else 0


@contextmanager
def _traffic(servers: Servers, copy: Copy, activations: list[Activation]) -> Iterator[None]:
    """Send live traffic within the block; what became of it is added to the list at its end."""
    file = servers.home / "traffic.csv"
    environ = {
        **quiet(os.environ),
        "DATABASE_URL": servers.postgres.url(copy.database),
        "SESSIONS": copy.base.tables.sessions,
        "CUTOFF": copy.cutoff.isoformat(),
    }
    command = [sys.executable, "-m", "tests.bench.traffic", str(file)]
    with subprocess.Popen(
        command, env=environ, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the live traffic did not start")
            print("go", file=process.stdin, flush=True)
            yield
            process.stdin.close()
            if process.stdout.readline() != "written\n":
                raise RuntimeError("the live traffic was not written")
        finally:
            process.kill()
    activations += _read(file)


def _read(file: Path) -> Iterator[Activation]:
    with file.open(newline="") as lines:
        for due, latency, draft, answer, session in csv.reader(lines):
            yield Activation(float(due), float(latency), draft, answer, session)


def _keep_for_the_picture(
    context: Context, contender: Contender, activations: list[Activation], began: float, ended: float
) -> None:
    """The slowest activation of each quarter of a second, from some seconds before the purge to one after it."""
    bins: dict[int, float] = {}
    for each in activations:
        if began - 3 <= each.due <= ended + 1:
            place = int((each.due - began) // _BIN)
            bins[place] = max(bins.get(place, 0.0), 1000 * each.latency)
    for place, latency in sorted(bins.items()):
        context.results.add("latency", contender.name, place, slowest_ms=latency)
