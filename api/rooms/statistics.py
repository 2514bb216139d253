"""The statistics of rooms as a line of the log after each cleanup run."""

import logging

from api.database import Database
from api.errors import Problem
from api.rooms.schemas import RoomsReport

log = logging.getLogger("lull.rooms")

_CALL_SECONDS = 5


def log_statistics(database: Database) -> None:
    """Log how many rooms are open, in use and not. A database that does not answer is a warning: the run has ended."""
    try:
        answer = database.call("lull_report_rooms", {"p_limit": 0}, timeout_seconds=_CALL_SECONDS)
    except Problem as problem:
        log.warning("statistics of rooms", extra={"fields": {"error": problem.detail}})
        return
    counts = RoomsReport.model_validate(answer).model_dump(by_alias=True, exclude={"rooms"})
    log.info("cleanup.statistics", extra={"fields": counts})
