"""The database calls of a run: limited by its time budget, and retried after a lost connection."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from api.database import Database
from api.errors import DatabaseUnavailable

BATCH_TIMEOUT_SECONDS = 12  # the functions' own statement time-out is 10
_PAUSES_BEFORE_RETRIES = (0.2, 1.0)

Arguments = dict[str, Any]
Answer = TypeVar("Answer", bound=BaseModel)


class RunClient:
    """Calls functions of the database for a run that began at `started`. Safe to share between lanes."""

    def __init__(self, database: Database, clock: Callable[[], float], started: float, budget_seconds: float) -> None:
        self.clock = clock
        self.is_cut_off = False  # after a call without an answer, no further call is tried
        self._database = database
        self._ends = started + budget_seconds
        self._started = started

    def call(
        self,
        model: type[Answer],
        function: str,
        arguments: Arguments,
        *,
        timeout_seconds: float = BATCH_TIMEOUT_SECONDS,
        reserve: float = 0,
    ) -> Answer:
        """Call a function and validate its answer. Retry after a lost connection: the database has cursor and counts.

        No wait goes beyond the time budget plus `reserve` seconds. When no attempt is answered, `is_cut_off` is set.
        """
        pauses = iter(() if self.is_cut_off else _PAUSES_BEFORE_RETRIES)
        while True:
            try:
                return self._call(model, function, arguments, timeout_seconds, reserve)
            except DatabaseUnavailable:
                pause = next(pauses, None)
                if pause is None or self.time_left() + reserve <= pause:
                    self.is_cut_off = True
                    raise
                time.sleep(pause)

    def call_once(self, model: type[Answer], function: str, arguments: Arguments) -> Answer:
        """Call a function that must not be retried when its answer is lost."""
        return self._call(model, function, arguments, BATCH_TIMEOUT_SECONDS, 0)

    def time_left(self, share: float = 1) -> float:
        """The seconds until this share of the time budget is used up."""
        return self._started + share * (self._ends - self._started) - self.clock()

    def _call(
        self, model: type[Answer], function: str, arguments: Arguments, timeout_seconds: float, reserve: float
    ) -> Answer:
        most = max(1, self.time_left() + reserve)
        answer = self._database.call(function, arguments, timeout_seconds=min(timeout_seconds, most))
        return model.model_validate(answer)
