"""A restore over HTTP: steps of about a second, each one transaction, until a time budget is used up.

Only counts are kept between the steps, so that the memory does not grow with what is restored.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from api.cleanup.undo.schemas import MissingRow, RestoreReport
from api.database import Database

log = logging.getLogger("lull.cleanup")

_STEP_SECONDS = 1.0
_STEP_TIMEOUT_SECONDS = 62  # the function's own statement time-out is 60
_REST_TIMEOUT_SECONDS = 12  # the function's own statement time-out is 10
_RESERVE_SECONDS = 1.0  # for reading what is left
_MOST_NOTES = 20


class _Step(BaseModel):
    """`lull_restore_step`."""

    restored: int
    children: int
    busy: int
    reasons: list[str]
    after: int
    upto: int
    done: bool


class _Rest(BaseModel):
    """`lull_restore_rest`."""

    remaining: int
    missing: list[MissingRow]
    missing_total: int


def restore(
    database: Database, scope: dict[str, Any], budget_seconds: float, clock: Callable[[], float] = time.monotonic
) -> RestoreReport:
    """Bring back what the scope names. Raises Problem: 404, 410, or what made the first step fail.

    No step begins when the longest one so far would end beyond the time budget.
    """
    restoring = _Restore(database, scope, clock() + budget_seconds - _RESERVE_SECONDS, clock)
    began_at = restoring.work(again=False)
    rest = restoring.rest(began_at)
    if rest.missing and restoring.restored and restoring.has_time():
        restoring.work(again=True)  # later batches may have brought what these rows refer to
        rest = restoring.rest(began_at)
    reasons = {part for row in rest.missing for part in row.reason.split("; ")}
    report = RestoreReport(
        restored=restoring.restored,
        children=restoring.children,
        missing=rest.missing,
        missing_total=rest.missing_total,
        notes=sorted(note for note in restoring.notes if note not in reasons)[:_MOST_NOTES],
        busy=restoring.busy,
        remaining=rest.remaining,
        has_more=rest.remaining > 0,
    )
    counts = report.model_dump(include={"restored", "children", "missing_total", "busy", "remaining"})
    log.log(
        logging.WARNING if report.missing_total else logging.INFO,
        "restore",
        extra={"fields": {"run_id": scope.get("run"), "policy": scope.get("policy"), **counts}},
    )
    return report


class _Restore:
    """The steps of one call, and their counts."""

    def __init__(
        self, database: Database, scope: dict[str, Any], ends: float, clock: Callable[[], float]
    ) -> None:
        self._database, self._scope, self._ends, self._clock = database, scope, ends, clock
        self._longest = 0.0
        self.restored = self.children = self.busy = 0
        self.notes: set[str] = set()

    def has_time(self) -> bool:
        """Whether another step would end within the time budget."""
        return self._clock() + self._longest < self._ends

    def work(self, *, again: bool) -> int:
        """Go through the scope's batches once; `again` means its remainders. Returns the newest page at first."""
        step = self._step(0, None, again)
        while not step.done and self.has_time():
            step = self._step(step.after, step.upto, again)
        return step.upto

    def rest(self, since: int) -> _Rest:
        """What is left, and what became a remainder after the page `since`."""
        arguments = {"p_scope": self._scope, "p_since": since}
        answer = self._database.call("lull_restore_rest", arguments, timeout_seconds=_REST_TIMEOUT_SECONDS)
        return _Rest.model_validate(answer)

    def _step(self, after: int, upto: int | None, again: bool) -> _Step:
        began = self._clock()
        arguments = {"p_scope": self._scope, "p_after": after, "p_upto": upto, "p_again": again}
        arguments["p_seconds"] = min(_STEP_SECONDS, max(0.0, self._ends - began))
        answer = self._database.call("lull_restore_step", arguments, timeout_seconds=_STEP_TIMEOUT_SECONDS)
        step = _Step.model_validate(answer)
        self._longest = max(self._longest, self._clock() - began)
        self.restored += step.restored
        self.children += step.children
        self.busy += step.busy
        if len(self.notes) < 10 * _MOST_NOTES:
            self.notes.update(step.reasons)
        return step
