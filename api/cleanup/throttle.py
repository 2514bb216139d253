"""Throttle of a run: two lanes on an idle database; one lane with pauses beside other clients.

How many rows a batch takes, and whether the database is idle, is decided in SQL (cleanup/pace.sql) and is part of each
batch's answer.
"""

from dataclasses import dataclass

_ROWS_FOR_SECOND_LANE = 1500  # rows deleted in full batches before a second lane starts


@dataclass
class Throttle:
    """Decides lanes and pauses by what the newest batch said. `rows` counts the rows of full batches."""

    is_alone: bool = False
    rows: int = 0

    def measured(self, *, is_alone: bool, rows: int) -> None:
        """Record a batch: whether the database is idle, and its rows if it found as many as it asked for (else 0)."""
        self.is_alone = is_alone
        self.rows += rows

    @property
    def allows_second_lane(self) -> bool:
        """Whether two batches may be in flight: the database is idle, and there are rows for both."""
        return self.rows >= _ROWS_FOR_SECOND_LANE and self.is_alone

    def pause_seconds(self, batch_milliseconds: float) -> float:
        """Seconds to wait after a batch of this duration: as long as the batch, or 0 on an idle database."""
        return 0 if self.is_alone else batch_milliseconds / 1000
