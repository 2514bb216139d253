"""The targets: what must hold, what is aimed at, and how it is computed from a run's numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.results import Results
from tests.bench.sections import heartbeats
from tests.bench.sections.activations import NODE, POSTGREST
from tests.bench.sections.commands import BARE, COMMAND
from tests.bench.sections.grown import case_of

_HOLDS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le, "=": operator.eq}


@dataclass(frozen=True)
class Target:
    """A number that Lull has to reach (≥), or not to exceed (≤)."""

    title: str
    sign: str
    must: float
    aim: float
    measured: Callable[[Results], float | None]

    def verdict(self, results: Results) -> str:
        """The number, and whether it is what must be, or what is aimed at."""
        value = self.measured(results)
        if value is None:
            return "–"
        said = f"{value:.0f}" if self.sign == "=" else f"{value:.2f}"
        if not _HOLDS[self.sign](round(value, 2), self.must):
            return f"**{said} ✗**"
        return f"{said} ★" if self.sign != "=" and _HOLDS[self.sign](round(value, 2), self.aim) else said


def _purge(case: str, to: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio("purge", "rows_per_second", case, to)


def _p99(results: Results) -> float | None:
    """The worse of the two purges: in each the median over the rounds."""
    worst = None
    for case in ("lull-plain", "lull-archive"):
        idle, during = (results.values("beside", case, f"p99_{when}_ms") for when in ("idle", "during"))
        ratios = sorted(during[turn] / idle[turn] for turn in idle)
        if ratios:
            worst = max(worst or 0, ratios[len(ratios) // 2])
    return worst


def _lost(results: Results) -> float | None:
    lost = [results.values("beside", case, "lost") for case in ("lull-plain", "lull-archive")]
    return sum(sum(values.values()) for values in lost) if all(lost) else None


def _grown(results: Results) -> float | None:
    """How much slower Lull is with ten times the rows, in shares of how much slower one DELETE is."""
    lull, one_shot = (
        results.ratio("grown", "rows_per_second", case_of(name, 10_000_000), case_of(name, 1_000_000))
        for name in ("lull-plain", "one-shot-plain")
    )
    return lull / one_shot if lull and one_shot else None


def _memory(results: Results) -> float | None:
    few, many = (results.median("memory", case, "peak_memory_mb") for case in ("1000", "1000000"))
    return many / few if few and many else None


def _session_memory(results: Results) -> float | None:
    few, many = (results.median("user-sessions-memory", case, "peak_memory_mb") for case in ("1000", "1000000"))
    return many / few if few and many else None


def _sessions(store: str, case: str, to: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(f"user-sessions-{store}", "per_second", case, to)


def _buffers(results: Results) -> float | None:
    first, last = (results.median("buffers", "lull-archive", name) for name in ("first_per_row", "last_per_row"))
    return last / first if first and last else None


def _beside(measure: str, case: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio("beside", measure, case, "supabase-js")


def _restore(results: Results) -> float | None:
    restored, purged = (results.values("archive", case, "rows_per_second") for case in ("restore", "purge"))
    ratios = sorted(restored[turn] / purged[turn] for turn in restored.keys() & purged.keys())
    return ratios[len(ratios) // 2] if ratios else None


def _share(results: Results, measure: str, before: float) -> float | None:
    """A measure of the purge in shares of what it was: commit 4cf40ff, 30,000 rows with the same titles."""
    now = results.median("archive", "purge", measure)
    return now / before if now else None


def _activations(section: str, measure: str, case: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(section, measure, case, NODE)


TARGETS = (
    Target("purge without archive / one-shot", "≥", 0.65, 1.0, _purge("lull-plain", "one-shot-plain")),
    Target("purge with archive and events / one-shot", "≥", 0.55, 0.7, _purge("lull-archive", "one-shot-lull")),
    Target("purge with archive / supabase-js way, the same tables", "≥", 2, 4, _purge("lull-plain-archive", "supabase-js")),
    Target("p99 of live activations during the purge / idle", "≤", 4, 2, _p99),
    Target("lost activations", "=", 0, 0, _lost),
    Target("buffers per row, last 10 % of batches / first 10 %, pinned transaction", "≤", 1.25, 1.05, _buffers),
    Target("rate at 10 million rows / at 1 million, as a share of the one-shot's own ratio", "≥", 0.9, 1.2, _grown),
    Target("p99 of live activations beside Lull / beside supabase-js' loop", "≤", 1.4, 1, _beside("p99_during_ms", "lull-plain")),
    Target("time of that purge / that of supabase-js' loop", "≤", 1.5, 1, _beside("seconds", "lull-plain")),
    Target("p99 of live activations beside pg_cron's steps / beside supabase-js' loop", "≤", 1.4, 1,
           _beside("p99_during_ms", "cron-steps")),
    Target("time of the steps / that of supabase-js' loop", "≤", 1.5, 1, _beside("seconds", "cron-steps")),
    Target("restore with 1 % that cannot come back / purge with archive, rows a second", "≥", 0.5, 1, _restore),
    Target("archived bytes a row / 1,670, before the archive had pages", "≤", 0.4, 0.3,
           lambda results: _share(results, "archived_bytes_per_row", 1_670)),
    Target("WAL a row of a purge with archive / 2,650, before the archive had pages", "≤", 0.75, 0.6,
           lambda results: _share(results, "wal_bytes_per_row", 2_650)),
    Target("batch of one row without its commit, ms", "≤", 1.5, 1, lambda results: results.median("fixed", "one-row", "ms")),
    Target("empty run of all policies, ms", "≤", 80, 40, lambda results: results.median("fixed", "empty-run", "ms")),
    Target("dry run on 5 million rows, 100,000 stale / the same numbers counted by hand", "≤", 1.5, 1,
           lambda results: results.ratio("dry-run", "ms", "function", "by-hand")),
    Target("cold start of an activation / Node + supabase-js", "≤", 3.3, 1,
           _activations("cold", "first_answer_ms", POSTGREST)),
    Target("warm activations at 16 clients / Node + supabase-js, PostgREST transport", "≥", 0.5, 1,
           _activations("warm", "requests_per_second", POSTGREST)),
    Target("warm activations at 16 clients / Node + supabase-js, direct transport", "≥", 1.5, 2,
           _activations("warm", "requests_per_second", "lull-direct")),
    Target("a compare-and-set a second / commands a second, PostgREST transport", "≤", 1.5, 1.2,
           lambda results: results.ratio("commands", "requests_per_second", BARE, COMMAND)),
    Target("a bare update a second / heartbeats a second that write", "≤", 1.6, 1.3,
           lambda results: results.ratio("heartbeats", "requests_per_second", heartbeats.BARE, heartbeats.WRITES)),
    Target("a bare update a second / heartbeats a second, every second one writes", "≤", 1.3, 1.1,
           lambda results: results.ratio("heartbeats", "requests_per_second", heartbeats.BARE, heartbeats.HALF)),
    Target("p99 of heartbeats beside a purge / without", "≤", 2, 1.5,
           lambda results: results.ratio("heartbeats", "p99_ms", "beside a purge", "idle")),
    Target("sweep of 100,000 rooms in use / a bare update of their clocks", "≤", 3, 1.5,
           lambda results: results.ratio("rooms", "seconds", heartbeats.SWEEP, heartbeats.UPDATE)),
    Target("the next sweep / that sweep", "≤", 0.05, 0.02,
           lambda results: results.ratio("rooms", "seconds", heartbeats.NEXT_SWEEP, heartbeats.SWEEP)),
    Target("memory of a run over 1,000,000 stale rows / over 1,000", "≤", 1.2, 1.05, _memory),
    Target("user sessions on Redis, get / bare redis-py", "≥", 0.8, 1, _sessions("redis", "lull-get", "bare-get")),
    Target("user sessions on Redis, update / bare redis-py, the same commands", "≥", 0.75, 0.9,
           _sessions("redis", "lull-update", "bare-update")),
    Target("user sessions on Redis, update / WATCH and MULTI", "≥", 1.1, 1.5,
           _sessions("redis", "lull-update", "watch-multi")),
    Target("user sessions on Postgres, get / connect-pg-simple", "≥", 0.6, 1,
           _sessions("postgres", "lull-get", "connect-pg-simple-get")),
    Target("user sessions on Postgres, set / connect-pg-simple", "≥", 0.6, 1,
           _sessions("postgres", "lull-set", "connect-pg-simple-set")),
    Target("memory of pruning 1,000,000 user sessions on Redis / 1,000", "≤", 1.1, 1.02, _session_memory),
)
