"""Measure Lull beside what people use today: `python -m tests.bench [--quick] [section …]`, by default all sections.

A full run of all of them is recorded in docs/. `record` records the newest full measurement of each section, for a run
that was interrupted; `report` only writes the page again from what was recorded.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from infra.local.environment import home
from infra.local.errors import StackError
from tests.bench.bases import Base, Bases
from tests.bench.context import FULL, QUICK, Context, Size
from tests.bench.machine import about
from tests.bench.report import record, summary, write_page
from tests.bench.results import Results
from tests.bench.sections.activations import cold, warm
from tests.bench.sections.alone import buffers, dry_run, memory
from tests.bench.sections.archive import archive, fixed
from tests.bench.sections.beside import beside
from tests.bench.sections.commands import commands
from tests.bench.sections.grown import grown
from tests.bench.sections.heartbeats import heartbeats, rooms
from tests.bench.sections.purge import purge
from tests.bench.sections.user_sessions import user_sessions
from tests.bench.servers import Servers


def _purged(size: Size) -> list[Base]:
    return [size.plain, size.lull, size.peers]


# Each with the databases that it needs.
SECTIONS: dict[str, tuple[Callable[[Context], None], Callable[[Size], list[Base]]]] = {
    "cold": (cold, lambda size: [size.lull]),
    "warm": (warm, lambda size: [size.lull]),
    "commands": (commands, lambda size: [size.lull]),
    "heartbeats": (heartbeats, lambda size: [size.lull]),
    "rooms": (rooms, lambda size: [size.lull]),
    "dryrun": (dry_run, lambda size: [size.dry_run]),
    "purge": (purge, _purged),
    "archive": (archive, lambda size: [size.lull]),
    "fixed": (fixed, lambda size: [size.lull]),
    "traffic": (beside, lambda size: [size.plain, size.lull]),
    "scale": (grown, lambda size: [*size.grown]),
    "buffers": (buffers, lambda size: [*size.memory[-1:]] or [size.lull]),
    "memory": (memory, lambda size: [*size.memory]),
    "sessions": (user_sessions, lambda size: [size.peers]),
}
_NOT_QUICK = {"scale", "memory"}


def main() -> int:
    """Measure what was asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100,000 sessions, one round, nothing recorded")
    parser.add_argument("sections", nargs="*", choices=["record", "report", *SECTIONS, []], metavar="section")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    sections = arguments.sections or [name for name in SECTIONS if not (arguments.quick and name in _NOT_QUICK)]
    folder = home(os.environ) / "bench"
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    try:
        if sections == ["report"]:
            write_page()
            return 0
        if sections == ["record"]:
            record(_parts(folder))
            return 0
        results = _measure(size, sections, folder)
        print(summary(results))
        if arguments.quick:
            print("\nThe targets are for a full run: with so few rows, what a run costs by itself is most of it.")
        if not arguments.quick and not arguments.sections:
            record(results)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(size: Size, sections: list[str], folder: Path) -> Results:
    """Measure the sections one after the other; each is kept as a CSV file of its own, too."""
    results = Results()
    with Servers(folder) as servers:
        bases = Bases(servers)
        bases.ensure(dict.fromkeys(base for name in sections for base in SECTIONS[name][1](size)))
        results.about = about(servers)
        for name in sections:
            print(f"{name} …", flush=True)
            began = time.monotonic()
            part = Results(about=results.about)
            SECTIONS[name][0](Context(servers, bases, size, part))
            if size is FULL:
                part.write(folder / "parts" / f"{name}.csv")
            results.rows += part.rows
            print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    return results


def _parts(folder: Path) -> Results:
    """Put the sections together that were measured one by one, of one commit."""
    parts = [Results.read(folder / "parts" / f"{name}.csv") for name in SECTIONS]
    if len({part.about["commit"] for part in parts}) > 1:
        raise StackError("the sections were measured at different commits: measure the older ones again")
    return Results([row for part in parts for row in part.rows], parts[-1].about)


if __name__ == "__main__":
    sys.exit(main())
