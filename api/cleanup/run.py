"""A cleanup run: begin, each policy in batches, files, finish. The SQL functions decide; this module schedules them."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from api import telemetry
from api.cleanup.answers import Batch, Begun, FinishedRun, Opened
from api.cleanup.files import FilesReport, remove_files
from api.cleanup.lanes import Lanes
from api.cleanup.policies import Policy, load_policies
from api.cleanup.run_client import BATCH_TIMEOUT_SECONDS, Arguments, RunClient
from api.cleanup.signals import Signals
from api.database import Database
from api.errors import DatabaseTimeout, Problem
from api.http.parts import Parts
from api.storage import FileStorage

log = logging.getLogger("lull.cleanup")

_OPEN_TIMEOUT_SECONDS = 32  # the function's own statement time-out is 30
_FINISH_RESERVE_SECONDS = 4  # beyond the budget, to store the report of a run that used it up

TOO_MANY_TO_COUNT = (
    "counting its rows took longer than 30 s: narrow the policy (a greater age, more in `equals`), "
    "let it run, and widen it step by step"
)


@dataclass(frozen=True)
class Cleanup:
    """The dependencies of a cleanup run: database, Storage, policies and time limits.

    `after_run` is called once a run's report is stored, with the remaining seconds. When `is_stopping` returns
    True the process is about to end, and a run ends after its current batch. `shadow` means that each run only
    counts, and stores what it would have done. `signals` tells people and monitors; None: no one is told.
    """

    database: Database
    storage: FileStorage
    policies: Sequence[Policy]
    time_budget_seconds: float = 50
    lease_seconds: int = 45
    clock: Callable[[], float] = time.monotonic
    after_run: Callable[[float], object] = lambda _seconds: None
    prune: Callable[[bool], dict[str, Any] | None] = lambda _dry_run: None
    is_stopping: Callable[[], bool] = lambda: False
    shadow: bool = False
    signals: Signals | None = None


def cleanup_of(parts: Parts) -> Cleanup:
    """The cleanup of an application. Connects to nothing; raises PolicyError."""
    settings = parts.settings
    return Cleanup(
        database=parts.database,
        storage=parts.storage,
        policies=load_policies(settings),
        time_budget_seconds=settings.cleanup_time_budget_seconds,
        lease_seconds=settings.cleanup_lease_seconds,
        after_run=parts.after_run,
        prune=parts.prune,
        is_stopping=parts.is_stopping,
        shadow=settings.cleanup_mode == "shadow",
        signals=Signals(
            parts.database, settings.interval_minutes(), settings.cleanup_ping_url, settings.alert_webhook_url
        ),
    )


def run_cleanup(
    cleanup: Cleanup, *, caller: str, only: str | None = None, max_rows: int | None = None, key: str | None = None
) -> Begun | FinishedRun:
    """Run all policies, or `only` one with `max_rows` as its breaker's limit for this run.

    `key` lets one row of that policy through, whatever hangs below it, up to `max_rows` rows. In shadow mode the
    run is stored and deletes nothing. Only a run of all policies pings the cron monitor.

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
    begin = "lull_begin_cleanup"
    if cleanup.shadow:
        begin = "lull_begin_shadow"
        del arguments["p_max_rows"]
    elif key is not None:
        begin, arguments["p_key"] = "lull_begin_row_cleanup", key
    signals = cleanup.signals if only is None else None
    timeout = min(BATCH_TIMEOUT_SECONDS, cleanup.time_budget_seconds)
    begun = Begun.model_validate(cleanup.database.call(begin, arguments, timeout_seconds=timeout))
    if not begun.started:
        log.info("cleanup skipped", extra={"fields": {"caller": caller, "reason": begun.reason}})
        if signals is not None:
            signals.skipped(begun)
            signals.tell()
        return begun
    if signals is not None and begun.run_id is not None:
        pinged = cleanup.clock()
        signals.started(begun.run_id)
        started += cleanup.clock() - pinged
    try:
        with telemetry.span("cleanup run", lull__run_id=begun.run_id or "", lull__caller=caller):
            report = _Run(cleanup, started, begun).work()
    except Problem as problem:
        problem.members["runId"] = begun.run_id
        if signals is not None and begun.run_id is not None:
            signals.failed(begun.run_id, problem.detail)
        raise
    _log(report, caller)
    report.user_sessions = None if cleanup.is_stopping() else cleanup.prune(cleanup.shadow)
    _after_run(cleanup, started)
    if signals is not None:
        signals.finished(report)
    if cleanup.signals is not None:
        cleanup.signals.tell()
    return report


def _log(report: FinishedRun, caller: str) -> None:
    """A line for the run, what it removed, and a line for each policy; failures at level error, with their reason."""
    level = logging.INFO if report.status in {"completed", "partial"} else logging.ERROR
    fields: dict[str, Any] = {"run_id": report.run_id, "caller": caller, "mode": report.mode, "status": report.status}
    did, would = sum(line.did for line in report.policies), sum(line.would or 0 for line in report.policies)
    log.log(level, "cleanup run", extra={"fields": {**fields, "did": did, "would": would, "ms": report.duration_ms}})
    log.info("cleanup.removed", extra={"fields": {"run_id": report.run_id, "n": did}})
    if level == logging.ERROR:
        log.error("cleanup.failed", extra={"fields": {"run_id": report.run_id, "status": report.status}})
    telemetry.count("lull.runs", 1, status=report.status, mode=report.mode)
    for line in report.policies:
        telemetry.count("lull.deleted_rows", line.did, policy=line.policy)
        fields = {"run_id": report.run_id, "policy": line.policy, "outcome": line.outcome}
        fields |= {"did": line.did, "would": line.would, "ms": round(line.ms)}
        if line.outcome in {"failed", "stopped"}:
            fields |= {"error": line.stop_reason if line.outcome == "stopped" else line.error}
            log.error("cleanup policy", extra={"fields": {**fields, "rows": line.skipped_rows}})
            telemetry.report_error(f"cleanup policy {line.outcome}", policy=line.policy, run_id=report.run_id)
        else:
            log.info("cleanup policy", extra={"fields": fields})


def _after_run(cleanup: Cleanup, started: float) -> None:
    """Call `after_run` with the remaining seconds. Its errors are logged; the run's report stays as it is."""
    if cleanup.is_stopping():
        return
    try:
        cleanup.after_run(started + cleanup.time_budget_seconds - cleanup.clock())
    except Problem as problem:
        log.warning("after the run", extra={"fields": {"error": problem.detail}})
    except Exception:
        log.exception("after the run")


class _Run:
    """A run that holds the lease."""

    def __init__(self, cleanup: Cleanup, started: float, begun: Begun) -> None:
        self.cleanup = cleanup
        self.names = begun.policies
        self.lease: Arguments = {"p_run": begun.run_id, "p_token": begun.token}
        self.calls = RunClient(cleanup.database, cleanup.clock, started, cleanup.time_budget_seconds)
        self.lanes = Lanes(self.calls, self.lease, cleanup.is_stopping)
        self.failures: dict[str, str] = {}

    def work(self) -> FinishedRun:
        """Process each policy, then the files, then always finish. An error in one policy does not stop the others.

        When the database does not answer, the rest is skipped and finishing is tried once.
        """
        for name in self.names:
            if self.calls.is_cut_off or not self.lanes.has_time():
                break
            with telemetry.span("cleanup policy", lull__policy=name):
                failure = self._isolated(name, partial(self._work_policy, name))
            if failure is not None:
                self.failures[name] = failure
        files = FilesReport()
        if not (self.calls.is_cut_off or self.cleanup.shadow):
            files.error = self._isolated("files", lambda: self._work_files(files)) or files.error
        arguments = {**self.lease, "p_failures": self.failures, "p_files": files.arguments()}
        return self.calls.call(FinishedRun, "lull_finish_cleanup", arguments, reserve=_FINISH_RESERVE_SECONDS)

    def _isolated(self, what: str, work: Callable[[], None]) -> str | None:
        """Do a part of the run. Returns a sentence when the part failed; only a lost lease ends the whole run."""
        try:
            work()
        except Problem as problem:
            if problem.slug == "lease-lost":
                raise
            return problem.detail
        except Exception as error:
            telemetry.report_error(error, part=what)
            log.exception("cleanup part failed", extra={"fields": {"part": what, "run": self.lease["p_run"]}})
            return "An unexpected error; the log has the details."
        return None

    def _work_policy(self, name: str) -> None:
        """Open a policy and, unless the breaker stops it, delete its rows."""
        arguments = {**self.lease, "p_policy": name}
        try:
            opened = self.calls.call(Opened, "lull_open_policy", arguments, timeout_seconds=_OPEN_TIMEOUT_SECONDS)
        except DatabaseTimeout:
            self.calls.call(Batch, "lull_renew_lease", self.lease)
            raise Problem(503, "database-timeout", TOO_MANY_TO_COUNT) from None
        if opened.outcome == "open":
            self.lanes.work(name)

    def _work_files(self, report: FilesReport) -> None:
        cleanup = self.cleanup

        def time_left() -> float:
            return 0 if cleanup.is_stopping() else self.calls.time_left()

        remove_files(cleanup.database, cleanup.storage, self.lease, time_left, report)
