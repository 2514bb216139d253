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
_BATCH_TIMEOUT_SECONDS = 12  # the batch's own statement time-out is 10
_PAUSES_BEFORE_RETRIES = (0.2, 1.0)

Answer = dict[str, Any]


@dataclass(frozen=True)
class Cleanup:
    """What a cleanup works with: the doors, the policies and its limits.

    `after_run` is what else is done once a run has its report; it is told the seconds that are left.
    """

    database: Database
    storage: FileStorage
    policies: Sequence[Policy]
    time_budget_seconds: float = 50
    lease_seconds: int = 45
    clock: Callable[[], float] = time.monotonic
    after_run: Callable[[float], object] = lambda _seconds: None


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
    begun = cleanup.database.call("lull_begin_cleanup", arguments, timeout_seconds=12)
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
        self.failures: dict[str, str] = {}

    def work(self) -> Answer:
        """Work the policies, isolated from each other's failures; then files; then always finish."""
        for name in self.names:
            if self._time_left(_ROWS_SHARE) <= self.longest_batch:
                break
            failure = self._isolated(name, partial(self._work_policy, name))
            if failure is not None:
                self.failures[name] = failure
        files = FilesReport()
        files.error = self._isolated("files", lambda: self._work_files(files)) or files.error
        arguments = {**self.lease, "p_failures": self.failures, "p_files": files.arguments()}
        return self._patiently("lull_finish_cleanup", arguments, timeout_seconds=8)

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
        timeout = max(5, self._time_left(_ROWS_SHARE))
        opened = self._patiently("lull_open_policy", arguments, timeout_seconds=timeout)
        if opened["outcome"] != "open":
            return
        size = BatchSize()
        while self._time_left(_ROWS_SHARE) > self.longest_batch:
            began = self.cleanup.clock()
            done = self._batch(arguments, size)
            self.longest_batch = max(self.longest_batch, self.cleanup.clock() - began)
            if done:
                return

    def _batch(self, arguments: dict[str, Any], size: BatchSize) -> bool:
        """Delete one batch; return whether it was the policy's last."""
        rows = size.next()
        try:
            answer = self._patiently("lull_cleanup_batch", {**arguments, "p_size": rows})
        except DatabaseTimeout:
            if rows > 1:
                size.failed(rows, timed_out=True)
                return False
            # not repeated after a lost answer: that would step over the row behind it, too
            skip = {**arguments, "p_reason": "it took longer than a batch may take"}
            answer = self.cleanup.database.call("lull_skip_row", skip, timeout_seconds=_BATCH_TIMEOUT_SECONDS)
        if answer["skipped"] is not None:
            size.skipped()
        elif answer["failed"] is not None:
            size.failed(answer["failed"]["size"])
            return False
        else:
            size.succeeded(rows, answer["locked"], answer["ms"])
        return bool(answer["done"])

    def _work_files(self, report: FilesReport) -> None:
        cleanup = self.cleanup
        remove_files(cleanup.database, cleanup.storage, self.lease, lambda: self._time_left(1), report)

    def _patiently(
        self, function: str, arguments: dict[str, Any], *, timeout_seconds: float = _BATCH_TIMEOUT_SECONDS
    ) -> Answer:
        """Call, and call again after a lost connection: cursor, counts and decisions live in the database."""
        for pause in _PAUSES_BEFORE_RETRIES:
            try:
                return self.cleanup.database.call(function, arguments, timeout_seconds=timeout_seconds)
            except DatabaseUnavailable:
                if self._time_left(1) <= pause:
                    raise
                time.sleep(pause)
        return self.cleanup.database.call(function, arguments, timeout_seconds=timeout_seconds)

    def _time_left(self, share: float) -> float:
        """Seconds until this share of the time budget is used up."""
        return self.started + share * self.cleanup.time_budget_seconds - self.cleanup.clock()
