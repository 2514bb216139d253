"""The targets: what must hold, what is aimed at, and how it is computed from a run's numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.results import Results
from tests.bench.sections.activations import NODE, POSTGREST
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


def _buffers(results: Results) -> float | None:
    first, last = (results.median("buffers", "lull-archive", name) for name in ("first_per_row", "last_per_row"))
    return last / first if first and last else None


def _activations(section: str, measure: str, case: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(section, measure, case, NODE)


TARGETS = (
    Target("purge without archive / one-shot", "≥", 0.65, 1.0, _purge("lull-plain", "one-shot-plain")),
    Target("purge with archive and events / one-shot", "≥", 0.40, 0.6, _purge("lull-archive", "one-shot-lull")),
    Target("purge with archive / supabase-js way, the same tables", "≥", 2, 4, _purge("lull-plain-archive", "supabase-js")),
    Target("p99 of live activations during the purge / idle", "≤", 4, 2, _p99),
    Target("lost activations", "=", 0, 0, _lost),
    Target("buffers per row, last 10 % of batches / first 10 %, pinned transaction", "≤", 1.25, 1.05, _buffers),
    Target("rate at 10 million rows / at 1 million, as a share of the one-shot's own ratio", "≥", 0.9, 1.2, _grown),
    Target("dry run on 5 million rows, 100,000 stale / a bare `select count(*)` of them", "≤", 8, 4,
           lambda results: results.ratio("dry-run", "ms", "function", "count")),
    Target("cold start of an activation / Node + supabase-js", "≤", 3, 1,
           _activations("cold", "first_answer_ms", POSTGREST)),
    Target("warm activations at 16 clients / Node + supabase-js, PostgREST transport", "≥", 0.5, 1,
           _activations("warm", "requests_per_second", POSTGREST)),
    Target("warm activations at 16 clients / Node + supabase-js, direct transport", "≥", 1.2, 2,
           _activations("warm", "requests_per_second", "lull-direct")),
    Target("memory of a run over 1,000,000 stale rows / over 1,000", "≤", 1.2, 1.05, _memory),
)
