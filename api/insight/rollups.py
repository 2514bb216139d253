"""Roll-ups: the events of the log are counted by day after each run, in steps of whole transactions."""

import logging
import time

from pydantic import BaseModel

from api.database import Database
from api.errors import Problem

log = logging.getLogger("lull.statistics")

_TIMEOUT_SECONDS = 32.0  # the function's own statement time-out is 30
_LEAST_SECONDS = 2.0  # of the run's time budget that must be left for a further step


class _Step(BaseModel):
    """`lull_roll_up`."""

    events: int
    more: bool
    lag_seconds: float


def roll_up(database: Database, zone: str, seconds_left: float) -> None:
    """Count events until none is left or the time is up: the next run goes on. A failure is only logged."""
    ends = time.monotonic() + seconds_left
    counted, lag, more = 0, 0.0, True
    try:
        while more and (left := ends - time.monotonic()) > _LEAST_SECONDS:
            answer = database.call("lull_roll_up", {"p_zone": zone}, timeout_seconds=min(_TIMEOUT_SECONDS, left))
            step = _Step.model_validate(answer)
            counted, lag, more = counted + step.events, step.lag_seconds, step.more
    except Problem as problem:
        log.warning("events were not counted", extra={"fields": {"n": counted, "error": problem.detail}})
        return
    log.info("events counted", extra={"fields": {"n": counted, "lag_seconds": round(lag), "more": more}})
