"""The same purge in tables of 10^5, 10^6 and 10^7 rows: what a row costs must not depend on all the others."""

from __future__ import annotations

from contextlib import ExitStack

from tests.bench.contender import LULL_PLAIN, ONE_SHOT
from tests.bench.context import Context
from tests.bench.sections.purge import measure

SECTION = "grown"


def grown(context: Context) -> None:
    """Measure in tables that are read into memory before.

    They are copied once: each purge takes the stale drafts of one mode and leaves the others to the next.
    Nothing is vacuumed in between, so that the tables keep their size.
    """
    with ExitStack() as copies:
        opened = [copies.enter_context(context.bases.copy(base)) for base in context.size.grown]
        turns = [(turn, contender) for turn in range(1, context.size.rounds + 1) for contender in (ONE_SHOT, LULL_PLAIN)]
        for mode, (turn, contender) in enumerate(turns):
            for copy in opened:
                with context.said(f"round {turn}, {contender.title}, {copy.base.rows:,} rows") as words:
                    context.bases.warm(copy.database)
                    measured = measure(context.servers, copy, contender, {"MODE": f"m{mode}"})
                    context.results.add(SECTION, case_of(contender.name, copy.base.rows), turn, **measured)
                    words += [f"{measured['rows']:.0f} rows", f"{measured['rows_per_second']:.0f}/s"]


def case_of(contender: str, rows: int) -> str:
    """How a contender in a table of so many rows is called."""
    return f"{contender}-{rows}"
