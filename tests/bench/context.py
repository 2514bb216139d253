"""What every section works with: the servers, the kept databases, how large the run is, and the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.bases import Base, Bases
from tests.bench.results import Results
from tests.bench.servers import Servers

MODES = 6  # of stale drafts in the tables that grow: in each of three rounds, two contenders take one each


@dataclass(frozen=True)
class Size:
    """How large a run is. A section without databases is left out."""

    rounds: int
    plain: Base
    lull: Base
    peers: Base
    dry_run: Base
    grown: tuple[Base, ...]
    memory: tuple[Base, ...]  # few stale rows, many
    pinned_rows: int
    idle_seconds: float
    warm_seconds: float
    cold_starts: int
    user_sessions: int  # of which a tenth is pruned
    pruned_user_sessions: tuple[int, int]  # few, many: for the memory of a run
    user_session_rounds: int
    user_session_seconds: float

    def bases(self) -> list[Base]:
        return list(
            dict.fromkeys([self.plain, self.lull, self.peers, self.dry_run, *self.grown, *self.memory])
        )


FULL = Size(
    rounds=3,
    plain=Base("plain", "plain", 1_000_000, 100_000),
    lull=Base("lull", "lull", 1_000_000, 100_000),
    peers=Base("peers", "peers", 1_000_000, 100_000),
    dry_run=Base("dry_run", "lull", 5_000_000, 100_000),
    grown=(
        Base("grown_5", "plain", 100_000, 10_000 * MODES, MODES),
        Base("grown_6", "plain", 1_000_000, 100_000 * MODES, MODES),
        Base("grown_7", "plain", 10_000_000, 100_000 * MODES, MODES),
    ),
    memory=(Base("few", "lull", 100_000, 1_000), Base("many", "lull", 1_100_000, 1_000_000)),
    pinned_rows=300_000,
    idle_seconds=8,
    warm_seconds=5,
    cold_starts=15,
    user_sessions=1_000_000,
    pruned_user_sessions=(1_000, 1_000_000),
    user_session_rounds=11,
    user_session_seconds=1,
)
_QUICK_LULL = Base("quick_lull", "lull", 100_000, 10_000)
QUICK = Size(
    rounds=1,
    plain=Base("quick_plain", "plain", 100_000, 10_000),
    lull=_QUICK_LULL,
    peers=Base("quick_peers", "peers", 100_000, 10_000),
    dry_run=_QUICK_LULL,
    grown=(),
    memory=(),
    pinned_rows=8_000,
    idle_seconds=3,
    warm_seconds=3,
    cold_starts=3,
    user_sessions=100_000,
    pruned_user_sessions=(1_000, 20_000),
    user_session_rounds=3,
    user_session_seconds=0.5,
)


@dataclass(frozen=True)
class Context:
    """What a section works with."""

    servers: Servers
    bases: Bases
    size: Size
    results: Results

    @contextmanager
    def said(self, what: str) -> Iterator[list[str]]:
        """Say what is being done, and at its end the words that were added to the list."""
        print(f"  {what}: ", end="", flush=True)
        words: list[str] = []
        yield words
        print(", ".join(words), flush=True)
