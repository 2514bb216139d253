"""Throttle of a run: two lanes on an idle database; one lane with pauses beside other clients.

How many rows a batch takes, and whether the database is idle, is decided in SQL (cleanup/pace.sql) and is part of each
batch's answer.
"""

from dataclasses import dataclass

_ROWS_FOR_SECOND_LANE = 1500  # rows deleted in full batches before a second lane starts
_ACTIVE = 1  # so many others at work at a moment: the database is left alone for as long as a batch takes
_LEAST, _MOST = 0.5, 4.0  # of a batch's duration, whatever the others are


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

    def pause_seconds(self, batch_seconds: float, away_seconds: float, active: float) -> float:
        """Seconds to wait after a batch: 0 on an idle database, else half to four times as long as the batch was.

        The more other clients are `active` at one moment, the longer: few short requests are seldom seen, and many at
        once wait for the processor. `away_seconds`, what the call took beside the batch, counts.
        """
        if self.is_alone:
            return 0
        return max(0, batch_seconds * min(_MOST, max(_LEAST, active / _ACTIVE)) - away_seconds)
