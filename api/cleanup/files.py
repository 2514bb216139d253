"""The files phase of a run: bytes whose archive rows were purged are removed through the Storage API."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from api.database import Database
from api.errors import StorageUnavailable
from api.file_storage import BucketMissing, FileStorage

_CLAIM = 500
_TIMEOUT_SECONDS = 10


@dataclass
class FilesReport:
    """What became of the files of a run."""

    removed: int = 0
    failed: int = 0
    error: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The report as `lull_finish_cleanup` takes it."""
        return asdict(self)


def remove_files(
    database: Database,
    storage: FileStorage,
    lease: dict[str, Any],
    time_left: Callable[[], float],
    report: FilesReport,
) -> None:
    """Work through the outbox until it is empty, the time is up, or Storage fails; count in `report`.

    What Storage gave no answer about stays queued and costs no attempt.
    """
    while time_left() > 0 and report.error is None:
        arguments = {**lease, "p_limit": _CLAIM}
        claim = database.call("lull_claim_file_removals", arguments, timeout_seconds=_TIMEOUT_SECONDS)
        if not claim["removals"] and not claim["cancelled"]:
            break
        done: list[int] = []
        failed: list[dict[str, Any]] = []
        try:
            for removal, error in _answers(storage, claim["removals"], time_left):
                if error is None:
                    done.append(removal)
                else:
                    failed.append({"id": removal, "error": error})
        except StorageUnavailable as problem:
            report.error = problem.detail
        if done or failed:
            arguments = {**lease, "p_done": done, "p_failed": failed}
            database.call("lull_settle_file_removals", arguments, timeout_seconds=_TIMEOUT_SECONDS)
        report.removed += len(done)
        report.failed += len(failed)


def _answers(
    storage: FileStorage, removals: list[dict[str, Any]], time_left: Callable[[], float]
) -> Iterator[tuple[int, str | None]]:
    """Remove files bucket by bucket; yield each removal's id, with why its bytes are still there or None."""
    buckets: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for removal in removals:
        buckets[removal["bucket"]][removal["path"]] = removal["id"]
    for bucket, ids in buckets.items():
        removed = storage.remove(bucket, list(ids))
        for path in removed & ids.keys():
            yield ids[path], None
        for path in ids.keys() - removed:
            if time_left() <= 0:
                return
            yield ids[path], _why_still_there(storage, bucket, path)


def _why_still_there(storage: FileStorage, bucket: str, path: str) -> str | None:
    """None when Storage positively says that the file does not exist."""
    try:
        return None if storage.is_absent(bucket, path) else "Storage kept the file and gave no reason"
    except BucketMissing as error:
        return str(error)
