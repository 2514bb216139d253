"""The calls of a run: within its time budget, and again after a lost connection."""

import time
from collections.abc import Callable
from typing import Any

from api.database import Database
from api.errors import DatabaseUnavailable

BATCH_TIMEOUT_SECONDS = 12  # the functions' own statement time-out is 10
_PAUSES_BEFORE_RETRIES = (0.2, 1.0)

Answer = dict[str, Any]


class Patience:
    """Calls functions of the database for a run that began at `started`. Safe to share between lanes."""

    def __init__(
        self, database: Database, clock: Callable[[], float], started: float, budget_seconds: float
    ) -> None:
        self.clock = clock
        self.is_cut_off = False  # who got no answer at all tries nothing more
        self._database = database
        self._ends = started + budget_seconds
        self._started = started

    def call(
        self,
        function: str,
        arguments: Answer,
        *,
        timeout_seconds: float = BATCH_TIMEOUT_SECONDS,
        reserve: float = 0,
    ) -> Answer:
        """Call, and call again after a lost connection: cursor, counts and decisions live in the database.

        No wait goes beyond the time budget and `reserve` seconds. Who gets no answer at all is cut off.
        """
        pauses = iter(() if self.is_cut_off else _PAUSES_BEFORE_RETRIES)
        while True:
            try:
                return self._call(function, arguments, timeout_seconds, reserve)
            except DatabaseUnavailable:
                pause = next(pauses, None)
                if pause is None or self.time_left() + reserve <= pause:
                    self.is_cut_off = True
                    raise
                time.sleep(pause)

    def call_once(self, function: str, arguments: Answer) -> Answer:
        """Call what must not be repeated when its answer is lost."""
        return self._call(function, arguments, BATCH_TIMEOUT_SECONDS, 0)

    def time_left(self, share: float = 1) -> float:
        """Seconds until this share of the time budget is used up."""
        return self._started + share * (self._ends - self._started) - self.clock()

    def _call(self, function: str, arguments: Answer, timeout_seconds: float, reserve: float) -> Answer:
        most = max(1, self.time_left() + reserve)
        return self._database.call(function, arguments, timeout_seconds=min(timeout_seconds, most))
