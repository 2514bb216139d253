"""A cleanup run: begin, each policy in batches, files, finish. The SQL decides; this file paces."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from api.cleanup.batches import BatchSize
from api.cleanup.files import FilesReport, remove_files
from api.cleanup.policies import Policy
from api.database import Database
from api.errors import DatabaseTimeout, DatabaseUnavailable, Problem
from api.file_storage import FileStorage

log = logging.getLogger("lull.cleanup")

_ROWS_SHARE = 0.8  # of the time budget; the rest is for files
_BATCH_TIMEOUT_SECONDS = 12  # the functions' own statement time-out is 10
_OPEN_TIMEOUT_SECONDS = 32  # that of opening a policy is 30
_FINISH_RESERVE_SECONDS = 4  # beyond the budget, to store the report of a run that used it up
_PAUSES_BEFORE_RETRIES = (0.2, 1.0)

TOO_MANY_TO_COUNT = (
    "counting its rows took longer than 30 s: narrow the policy (a greater age, more in `equals`), "
    "let it run, and widen it step by step"
)

Answer = dict[str, Any]


@dataclass(frozen=True)
class Cleanup:
    """What a cleanup works with: the doors, the policies and its limits.

    `after_run` is what else is done once a run has its report; it is told the seconds that are left.
    `is_stopping` says that the process is about to end: a run then ends after its current batch.
    """

    database: Database
    storage: FileStorage
    policies: Sequence[Policy]
    time_budget_seconds: float = 50
    lease_seconds: int = 45
    clock: Callable[[], float] = time.monotonic
    after_run: Callable[[float], object] = lambda _seconds: None
    is_stopping: Callable[[], bool] = lambda: False


def run_cleanup(
    cleanup: Cleanup, *, caller: str, only: str | None = None, max_rows: int | None = None
) -> Answer:
    """Run all policies, or `only` one, which may take up to `max_rows` this once.

    Returns the answer of `lull_finish_cleanup`, or of `lull_begin_cleanup` when another run holds the lease.
    Raises Problem when the run could not begin, lost its lease or could not be finished.
    """
    started = cleanup.clock()
    arguments = {
        "p_policies": [policy.arguments() for policy in cleanup.policies],
        "p_caller": caller,
        "p_lease_seconds": cleanup.lease_seconds,
        "p_only": only,
        "p_max_rows": max_rows,
    }
    timeout = min(_BATCH_TIMEOUT_SECONDS, cleanup.time_budget_seconds)
    begun = cleanup.database.call("lull_begin_cleanup", arguments, timeout_seconds=timeout)
    if not begun["started"]:
        log.info("cleanup skipped", extra={"fields": {"caller": caller, "reason": begun["reason"]}})
        return begun
    try:
        report = _Run(cleanup, started, begun).work()
    except Problem as problem:
        problem.members["runId"] = begun["run_id"]
        raise
    lines = {line["policy"]: [line["outcome"], line["would"], line["did"]] for line in report["policies"]}
    fields = {"caller": caller, "run": begun["run_id"], "status": report["status"], "policies": lines}
    log.info("cleanup run", extra={"fields": {**fields, "ms": report["duration_ms"]}})
    _after_run(cleanup, started)
    return report


def _after_run(cleanup: Cleanup, started: float) -> None:
    """Do what else is due, in what is left of the time. Whatever happens there, the report stands."""
    if cleanup.is_stopping():
        return
    try:
        cleanup.after_run(started + cleanup.time_budget_seconds - cleanup.clock())
    except Problem as problem:
        log.warning("after the run", extra={"fields": {"error": problem.detail}})
    except Exception:
        log.exception("after the run")


class _Run:
    """One run that holds the lease."""

    def __init__(self, cleanup: Cleanup, started: float, begun: Answer) -> None:
        self.cleanup = cleanup
        self.started = started
        self.names: list[str] = begun["policies"]
        self.lease = {"p_run": begun["run_id"], "p_token": begun["token"]}
        self.longest_batch = 0.0
        self.is_cut_off = False
        self.failures: dict[str, str] = {}

    def work(self) -> Answer:
        """Work the policies, isolated from each other's failures; then files; then always finish.

        Without a database nothing more is tried but to finish, once.
        """
        for name in self.names:
            if self.is_cut_off or not self._may_go_on():
                break
            failure = self._isolated(name, partial(self._work_policy, name))
            if failure is not None:
                self.failures[name] = failure
        files = FilesReport()
        if not self.is_cut_off:
            files.error = self._isolated("files", lambda: self._work_files(files)) or files.error
        arguments = {**self.lease, "p_failures": self.failures, "p_files": files.arguments()}
        return self._patiently("lull_finish_cleanup", arguments, reserve=_FINISH_RESERVE_SECONDS)

    def _isolated(self, what: str, work: Callable[[], None]) -> str | None:
        """Do a part of the run; return a sentence when it failed. Only a lost lease ends the whole run."""
        try:
            work()
        except Problem as problem:
            if problem.slug == "lease-lost":
                raise
            return problem.detail
        except Exception:
            log.exception("cleanup part failed", extra={"fields": {"part": what, "run": self.lease["p_run"]}})
            return "An unforeseen fault; the log has the details."
        return None

    def _work_policy(self, name: str) -> None:
        """Open a policy and delete its rows in batches, until none is left or the time for rows is up."""
        arguments = {**self.lease, "p_policy": name}
        try:
            opened = self._patiently("lull_open_policy", arguments, timeout_seconds=_OPEN_TIMEOUT_SECONDS)
        except DatabaseTimeout:
            self._renew_lease()
            raise Problem(503, "database-timeout", TOO_MANY_TO_COUNT) from None
        if opened["outcome"] != "open":
            return
        size = BatchSize()
        while self._may_go_on():
            if self._batch(arguments, size):
                return

    def _batch(self, arguments: dict[str, Any], size: BatchSize) -> bool:
        """Delete one batch; return whether it was the policy's last."""
        rows = size.next()
        began = self.cleanup.clock()
        try:
            answer = self._patiently("lull_cleanup_batch", {**arguments, "p_size": rows})
        except DatabaseTimeout:
            self._renew_lease()  # what timed out was rolled back, its renewal as well
            if rows > 1:
                size.failed(rows, timed_out=True)
                return False
            # not repeated after a lost answer: that would step over the row behind it, too
            skip = {**arguments, "p_reason": "it took longer than a batch may take"}
            answer = self.cleanup.database.call("lull_skip_row", skip, timeout_seconds=self._capped())
        else:
            self.longest_batch = max(self.longest_batch, self.cleanup.clock() - began)
        if answer["skipped"] is not None:
            size.skipped()
        elif answer["failed"] is not None:
            size.failed(answer["failed"]["size"])
            return False
        else:
            size.succeeded(rows, answer["locked"], answer["ms"])
        return bool(answer["done"])

    def _renew_lease(self) -> None:
        self._patiently("lull_renew_lease", self.lease)

    def _work_files(self, report: FilesReport) -> None:
        cleanup = self.cleanup

        def time_left() -> float:
            return 0 if cleanup.is_stopping() else self._time_left(1)

        remove_files(cleanup.database, cleanup.storage, self.lease, time_left, report)

    def _patiently(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        timeout_seconds: float = _BATCH_TIMEOUT_SECONDS,
        reserve: float = 0,
    ) -> Answer:
        """Call, and call again after a lost connection: cursor, counts and decisions live in the database.

        No wait goes beyond the time budget and `reserve`. Who gets no answer at all is cut off.
        """
        pauses = iter(() if self.is_cut_off else _PAUSES_BEFORE_RETRIES)
        while True:
            try:
                return self.cleanup.database.call(
                    function, arguments, timeout_seconds=self._capped(timeout_seconds, reserve)
                )
            except DatabaseUnavailable:
                pause = next(pauses, None)
                if pause is None or self._time_left(1) + reserve <= pause:
                    self.is_cut_off = True
                    raise
                time.sleep(pause)

    def _may_go_on(self) -> bool:
        """Whether there is time for another batch."""
        return not self.cleanup.is_stopping() and self._time_left(_ROWS_SHARE) > self.longest_batch

    def _capped(self, seconds: float = _BATCH_TIMEOUT_SECONDS, reserve: float = 0) -> float:
        """A call's own time-out, or what is left of the budget."""
        return min(seconds, max(1, self._time_left(1) + reserve))

    def _time_left(self, share: float) -> float:
        """Seconds until this share of the time budget is used up."""
        return self.started + share * self.cleanup.time_budget_seconds - self.cleanup.clock()
