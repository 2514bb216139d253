"""How fast a run may go: alone it works in two lanes, beside others in one, and waits between its batches."""

from dataclasses import dataclass

_MEMORY = 0.7  # of what was measured before; the rest is the newest batch
_ALONE = 0.1  # others at work, on average, up to which the database counts as idle
_WORTHWHILE_ROWS = 1500  # deleted in full batches, before a second lane is worth its while
_BATCH_MS = 125
_BATCH_BESIDE_OTHERS_MS = 25  # who comes back to a session that is just going waits as long


@dataclass
class Pace:
    """Follows what the batches measure: how many other clients of the database were at work meanwhile.

    Nobody to be seen: no pause. Somebody half of the time or more: a pause as long as the batch was.
    """

    others: float = 0
    rows: int = 0

    def measured(self, others: float, *, rows: int) -> None:
        """Learn from a batch: the others at work, and its rows when it found as many as it asked for."""
        self.others = _MEMORY * self.others + (1 - _MEMORY) * others
        self.rows += rows

    @property
    def is_alone(self) -> bool:
        """Whether the database was idle but for this run."""
        return self.others <= _ALONE

    @property
    def batch_milliseconds(self) -> float:
        """How long a batch is to take."""
        return _BATCH_MS if self.is_alone else _BATCH_BESIDE_OTHERS_MS

    @property
    def allows_second_lane(self) -> bool:
        """Whether two batches at once would be in nobody's way, and there is work for both."""
        return self.rows >= _WORTHWHILE_ROWS and self.is_alone

    def pause_seconds(self, batch_milliseconds: float) -> float:
        """Seconds to wait after a batch that took so long."""
        return 0 if self.is_alone else min(1, 2 * self.others) * batch_milliseconds / 1000
