"""The files phase of a run: remove objects of purged archive rows through the Storage API."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from api.cleanup.answers import FileClaim, FileRemoval
from api.cleanup.run_client import Arguments
from api.database import Database
from api.errors import StorageUnavailable
from api.storage import LONGEST_CALL_SECONDS, FileStorage, StorageRefused

_CLAIM = 500
_REMOVED_PER_CALL = 100
_ASKED_AT_ONCE = 8
_SETTLE_AFTER_SECONDS = 5
_TIMEOUT_SECONDS = 12  # the functions' own statement time-outs are 10

_Answers = dict[int, str | None]
"""By removal id: the reason why the object still exists; None when it was removed."""


@dataclass
class FilesReport:
    """The counts of a run's files phase."""

    removed: int = 0
    failed: int = 0
    error: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The report as `lull_finish_cleanup` takes it."""
        return asdict(self)


def remove_files(
    database: Database,
    storage: FileStorage,
    lease: Arguments,
    time_left: Callable[[], float],
    report: FilesReport,
) -> None:
    """Process the queue of removals until it is empty, the time is up, or Storage fails; count in `report`.

    Results are stored every few seconds, which renews the lease. A refusal by Storage counts as an attempt of
    that removal. A removal without an answer stays queued, and no attempt is counted.
    """
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
        removal = _Removal(storage, threads, time_left)
        while time_left() > 0 and report.error is None:
            arguments = {**lease, "p_limit": _CLAIM}
            answer = database.call("lull_claim_file_removals", arguments, timeout_seconds=_capped(time_left))
            claim = FileClaim.model_validate(answer)
            if not claim.removals and not claim.cancelled:
                break
            answers: _Answers = {}
            settled = time_left()
            try:
                for some in removal.answers(claim.removals):
                    answers |= some
                    if settled - time_left() >= _SETTLE_AFTER_SECONDS:
                        _settle(database, lease, answers, time_left, report)
                        answers, settled = {}, time_left()
            except StorageUnavailable as problem:
                report.error = problem.detail
            _settle(database, lease, answers, time_left, report)


def _settle(
    database: Database,
    lease: Arguments,
    answers: _Answers,
    time_left: Callable[[], float],
    report: FilesReport,
) -> None:
    if not answers:
        return
    done = [removal for removal, error in answers.items() if error is None]
    failed = [{"id": removal, "error": error} for removal, error in answers.items() if error is not None]
    arguments = {**lease, "p_done": done, "p_failed": failed}
    database.call("lull_settle_file_removals", arguments, timeout_seconds=_capped(time_left))
    report.removed += len(done)
    report.failed += len(failed)


def _capped(time_left: Callable[[], float], most: float = _TIMEOUT_SECONDS) -> float:
    """The time-out of a call: `most` seconds, or the remaining time if that is less."""
    return min(most, max(1, time_left()))


@dataclass(frozen=True)
class _Removal:
    """Removes objects in small portions, so that each call to Storage is short."""

    storage: FileStorage
    threads: ThreadPoolExecutor
    time_left: Callable[[], float]

    def answers(self, removals: list[FileRemoval]) -> Iterator[_Answers]:
        """Remove objects, one bucket after the other, until the time is up."""
        buckets: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for removal in removals:
            buckets[removal.bucket][removal.path] = removal.id
        for bucket, ids in buckets.items():
            if self.time_left() <= 0:
                return
            try:
                self.storage.find_bucket(bucket, timeout_seconds=self._timeout())
            except StorageRefused as refusal:
                yield dict.fromkeys(ids.values(), str(refusal))
                continue
            for paths in _portions(list(ids), _REMOVED_PER_CALL):
                for answers in self._remove(bucket, paths):
                    yield {ids[path]: error for path, error in answers.items()}

    def _remove(self, bucket: str, paths: list[str]) -> Iterator[dict[str, str | None]]:
        """Remove paths. A portion that Storage refuses is divided in half until the refused path is alone."""
        if self.time_left() <= 0:
            return
        try:
            removed = self.storage.remove(bucket, paths, timeout_seconds=self._timeout())
        except StorageRefused as refusal:
            if len(paths) == 1:
                yield {paths[0]: str(refusal)}
                return
            for half in _portions(paths, (len(paths) + 1) // 2):
                yield from self._remove(bucket, half)
            return
        yield dict.fromkeys(removed.intersection(paths))
        for some in _portions([path for path in paths if path not in removed], _ASKED_AT_ONCE):
            if self.time_left() <= 0:
                return
            ask = partial(self._why_still_there, bucket, self._timeout())
            yield dict(zip(some, self.threads.map(ask, some), strict=True))

    def _why_still_there(self, bucket: str, timeout_seconds: float, path: str) -> str | None:
        """None when Storage confirms that the file does not exist; else the reason."""
        try:
            absent = self.storage.is_absent(bucket, path, timeout_seconds=timeout_seconds)
        except StorageRefused as refusal:
            return str(refusal)
        return None if absent else "Storage kept the file and gave no reason"

    def _timeout(self) -> float:
        return _capped(self.time_left, LONGEST_CALL_SECONDS)


def _portions(paths: list[str], size: int) -> Iterator[list[str]]:
    for first in range(0, len(paths), size):
        yield paths[first : first + size]
