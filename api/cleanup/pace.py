"""How fast a run may go: alone it works in two lanes, beside others in one, and waits between its batches."""

from dataclasses import dataclass

# Of what was measured before; the rest is the newest batch. Two lanes often miss who is there, as short
# requests come between their looks: so somebody is learnt at once, and forgotten only after tens of batches.
_MEMORY_OF_LESS = 0.7
_MEMORY_OF_MORE = 0.95
_ALONE = 0.1  # others at work, on average, up to which the database counts as idle
_WORTHWHILE_ROWS = 1500  # deleted in full batches, before a second lane is worth its while
_BATCH_MS = 125
_BATCH_BESIDE_OTHERS_MS = 25  # who comes back to a session that is just going waits as long
_WAL_BESIDE_OTHERS = 1_000_000  # bytes in such a batch: whoever commits meanwhile waits for their writing
_FEW_ROWS = 25  # that many a batch may have whatever WAL it writes; much of it may be that of others


@dataclass
class Pace:
    """Follows what the batches measure: whether other clients of the database were at work meanwhile.

    `others` is the share of batches in which somebody was, of late. Nobody to be seen: no pause. Else a pause
    as long as the batch was.
    """

    others: float | None = None
    rows: int = 0

    def measured(self, others: float, *, rows: int) -> None:
        """Learn from a batch: the others at work, and its rows when it found as many as it asked for."""
        others = min(1, others)
        if self.others is None:
            self.others = others
        memory = _MEMORY_OF_LESS if others > self.others else _MEMORY_OF_MORE
        self.others = memory * self.others + (1 - memory) * others
        self.rows += rows

    @property
    def is_alone(self) -> bool:
        """Whether the database was idle but for this run; not before that was looked for."""
        return self.others is not None and self.others <= _ALONE

    @property
    def batch_milliseconds(self) -> float:
        """How long a batch is to take."""
        return _BATCH_MS if self.is_alone else _BATCH_BESIDE_OTHERS_MS

    def weight_milliseconds(self, rows: int, batch_milliseconds: float, wal_bytes: int) -> float:
        """How long a batch was; beside others one that wrote much WAL counts as longer."""
        if self.is_alone or rows <= _FEW_ROWS:
            return batch_milliseconds
        return max(batch_milliseconds, wal_bytes / _WAL_BESIDE_OTHERS * self.batch_milliseconds)

    @property
    def allows_second_lane(self) -> bool:
        """Whether two batches at once would be in nobody's way, and there is work for both."""
        return self.rows >= _WORTHWHILE_ROWS and self.is_alone

    def pause_seconds(self, batch_milliseconds: float) -> float:
        """Seconds to wait after a batch that took so long."""
        return 0 if self.is_alone else batch_milliseconds / 1000
