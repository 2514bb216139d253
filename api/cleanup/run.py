"""A cleanup run: begin, each policy in batches, files, finish. The SQL decides; this file paces."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from api.cleanup.files import FilesReport, remove_files
from api.cleanup.lanes import Lanes
from api.cleanup.patience import BATCH_TIMEOUT_SECONDS, Answer, Patience
from api.cleanup.policies import Policy
from api.database import Database
from api.errors import DatabaseTimeout, Problem
from api.file_storage import FileStorage

log = logging.getLogger("lull.cleanup")

_OPEN_TIMEOUT_SECONDS = 32  # that of opening a policy is 30
_FINISH_RESERVE_SECONDS = 4  # beyond the budget, to store the report of a run that used it up

TOO_MANY_TO_COUNT = (
    "counting its rows took longer than 30 s: narrow the policy (a greater age, more in `equals`), "
    "let it run, and widen it step by step"
)


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
    timeout = min(BATCH_TIMEOUT_SECONDS, cleanup.time_budget_seconds)
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
        self.names: list[str] = begun["policies"]
        self.lease = {"p_run": begun["run_id"], "p_token": begun["token"]}
        self.calls = Patience(cleanup.database, cleanup.clock, started, cleanup.time_budget_seconds)
        self.lanes = Lanes(self.calls, self.lease, cleanup.is_stopping)
        self.failures: dict[str, str] = {}

    def work(self) -> Answer:
        """Work the policies, isolated from each other's failures; then files; then always finish.

        Without a database nothing more is tried but to finish, once.
        """
        for name in self.names:
            if self.calls.is_cut_off or not self.lanes.has_time():
                break
            failure = self._isolated(name, partial(self._work_policy, name))
            if failure is not None:
                self.failures[name] = failure
        files = FilesReport()
        if not self.calls.is_cut_off:
            files.error = self._isolated("files", lambda: self._work_files(files)) or files.error
        arguments = {**self.lease, "p_failures": self.failures, "p_files": files.arguments()}
        return self.calls.call("lull_finish_cleanup", arguments, reserve=_FINISH_RESERVE_SECONDS)

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
        """Open a policy and, unless the breaker stops it, delete its rows."""
        arguments = {**self.lease, "p_policy": name}
        try:
            opened = self.calls.call("lull_open_policy", arguments, timeout_seconds=_OPEN_TIMEOUT_SECONDS)
        except DatabaseTimeout:
            self.calls.call("lull_renew_lease", self.lease)
            raise Problem(503, "database-timeout", TOO_MANY_TO_COUNT) from None
        if opened["outcome"] == "open":
            self.lanes.work(name)

    def _work_files(self, report: FilesReport) -> None:
        cleanup = self.cleanup

        def time_left() -> float:
            return 0 if cleanup.is_stopping() else self.calls.time_left()

        remove_files(cleanup.database, cleanup.storage, self.lease, time_left, report)
