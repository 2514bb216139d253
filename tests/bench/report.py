"""What a run says: in the terminal, and in docs/performance.md with its CSV files and pictures."""

from __future__ import annotations

from pathlib import Path

from infra.local.environment import ROOT
from tests.bench import tables
from tests.bench.results import Results
from tests.bench.tables import Table

PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"
TEMPLATE = Path(__file__).with_name("performance.template.md")
_KEPT = 3  # runs


def summary(run: Results) -> str:
    """The tables of what was measured."""
    shown = [table(run) for table in tables.ALL]
    # what a part of a run did not measure has no numbers
    parts = [table.text() for table in shown if any(cell not in ("–", "0") for line in table.lines for cell in line[1:3])]
    return "\n" + "\n\n".join([*parts, tables.targets([run]).text()])


def record(run: Results) -> None:
    """Keep a run beside the two before it, and write the page."""
    runs = [*_recorded(), run][-_KEPT:]
    for number, each in enumerate(runs, 1):
        each.write(FOLDER / f"run-{number}.csv")
    write_page()


def write_page() -> None:
    """Write docs/performance.md and its pictures from the recorded runs and the template."""
    from tests.bench.pictures import draw  # matplotlib is not needed for a quick run

    runs = _recorded()
    if not runs:
        raise FileNotFoundError("no run was recorded yet: make bench")
    newest = runs[-1]
    draw(newest, FOLDER)
    links = ", ".join(f"[run {number}](performance/run-{number}.csv)" for number in range(1, len(runs) + 1))
    page = TEMPLATE.read_text().replace("{{runs}}", links)
    shown = {
        "targets": tables.targets(runs),
        "machine": _machine(runs),
        **{table.__name__: table(newest) for table in tables.ALL},
    }
    for name, table in shown.items():
        page = page.replace(f"{{{{{name}}}}}", table.markdown())
    PAGE.write_text(page)
    print(f"written: {PAGE.relative_to(ROOT)}, from {len(runs)} recorded runs")


def _recorded() -> list[Results]:
    return [Results.read(path) for path in sorted(FOLDER.glob("run-*.csv"))]


def _machine(runs: list[Results]) -> Table:
    """What each run ran on."""
    names = list(dict.fromkeys(name for run in runs for name in run.about))
    lines = [[name, *(run.about.get(name, "–") for run in runs)] for name in names]
    return Table(["", *(f"run {number}" for number in range(1, len(runs) + 1))], lines)
