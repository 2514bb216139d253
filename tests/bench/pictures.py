"""The pictures of a run, as SVG: throughput by contender, live traffic during a purge, cost against table size."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot

from tests.bench.contender import CONTENDERS, TITLES
from tests.bench.results import Results

_LULL, _LIMIT, _OTHERS = "#1f6f8b", "#8a8a8a", "#d98e4a"
_COLOURS = {"one-shot-plain": _LIMIT, "lull-plain": _LULL, "lull-archive": "#0b3c5d", "supabase-js": _OTHERS,
            "sqlalchemy": "#b2453c"}


def draw(run: Results, folder: Path) -> None:
    """Draw what the run has measured."""
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "lull", "svg.fonttype": "none", "font.size": 10, "axes.spines.top": False,
                                "axes.spines.right": False, "figure.constrained_layout.use": True})
    for picture in (_throughput, _latency, _cost):
        figure = picture(run)
        figure.savefig(folder / f"{picture.__name__.strip('_')}.svg", metadata={"Date": None})
        pyplot.close(figure)


def _throughput(run: Results) -> pyplot.Figure:
    """A bar for the median of each contender's ratio to one DELETE, a dot for each round."""
    shown = [each for each in CONTENDERS if each.compared_with and each.name in run.cases("purge")]
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    for place, contender in enumerate(reversed(shown)):
        these = run.values("purge", contender.name, "rows_per_second")
        those = run.values("purge", contender.compared_with or "", "rows_per_second")
        ratios = [these[turn] / those[turn] for turn in these]
        median = run.ratio("purge", "rows_per_second", contender.name, contender.compared_with) or 0
        colour = _LULL if contender.name.startswith("lull") else _LIMIT if median == 1 else _OTHERS
        axes.barh(place, median, color=colour, height=0.65)
        axes.plot(ratios, [place] * len(ratios), "o", color="black", markersize=3)
        axes.annotate(f"{median:.2f}", (max([median, *ratios]), place), (6, -3), textcoords="offset points")
    axes.set_yticks(range(len(shown)), [contender.title for contender in reversed(shown)])
    axes.set_xlabel("rows a second, as a share of one DELETE on the same tables (dots: rounds)")
    return figure


def _latency(run: Results) -> pyplot.Figure:
    """The slowest activation of each quarter of a second, before, during and after a purge."""
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for case in run.cases("latency"):
        bins = run.values("latency", case, "slowest_ms")
        axes.plot([place / 4 for place in bins], [*bins.values()], label=TITLES[case], color=_COLOURS.get(case),
                  linewidth=1.4)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("seconds since the purge began")
    axes.set_ylabel("slowest activation in 0.25 s, ms")
    axes.legend(frameon=False, fontsize=9, ncols=2)
    return figure


def _cost(run: Results) -> pyplot.Figure:
    """What a purged row costs in ever larger tables."""
    figure, axes = pyplot.subplots(figsize=(8, 3.6))
    for name in ("one-shot-plain", "lull-plain"):
        sizes = sorted(int(case.rpartition("-")[2]) for case in run.cases("grown") if case.startswith(name))
        points = {size: run.values("grown", f"{name}-{size}", "rows_per_second") for size in sizes}
        medians = [run.median("grown", f"{name}-{size}", "rows_per_second") or 1 for size in sizes]
        axes.plot(sizes, [1e6 / median for median in medians], "-", color=_COLOURS[name], label=TITLES[name])
        for size, values in points.items():
            axes.plot([size] * len(values), [1e6 / value for value in values.values()], "o", color=_COLOURS[name],
                      markersize=4)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sessions in the table")
    axes.set_ylabel("µs per purged row")
    axes.legend(frameon=False)
    return figure
