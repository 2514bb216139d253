"""The sweep: warnings before sessions expire, and people who went away or left, within a time budget."""

import logging
import time
from collections.abc import Callable
from typing import Any

from api.database import Database
from api.rooms.joining import timing
from api.rooms.schemas import SweepPart, SweepReport
from api.settings import Settings

log = logging.getLogger("lull.rooms")

EVERY_SECONDS = 60
_SESSIONS_A_CALL = 1000
_CALL_SECONDS = 10  # the function's own statement time-out is 8


def run_sweep(
    database: Database,
    settings: Settings,
    *,
    caller: str,
    clock: Callable[[], float] = time.monotonic,
    is_stopping: Callable[[], bool] = lambda: False,
) -> SweepReport:
    """Warn and tell until nothing is due, or the time budget of the cleanup is used up. Raises Problem."""
    until = clock() + settings.cleanup_time_budget_seconds
    log.info("sweep.started", extra={"fields": {"caller": caller}})
    report = SweepReport(warned=0, told=0, moved=0, has_more=True)
    after: dict[str, Any] | None = None
    while after is None or (report.has_more and not is_stopping() and clock() + _CALL_SECONDS <= until):
        arguments = {**timing(settings), "p_limit": _SESSIONS_A_CALL, "p_after": after}
        part = SweepPart.model_validate(database.call("lull_sweep", arguments, timeout_seconds=_CALL_SECONDS))
        report.warned += part.warned
        report.told += part.told
        report.moved += part.moved
        report.has_more = part.next is not None
        after = part.next or {}
    log.info("sweep.finished", extra={"fields": {"caller": caller, "warned": report.warned, "told": report.told}})
    return report
