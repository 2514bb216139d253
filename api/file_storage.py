"""The one door to Supabase Storage."""

import logging
import weakref
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from storage3.exceptions import StorageApiError
from supabase import Client

from api.database import supabase_client
from api.errors import StorageUnavailable
from api.settings import Settings

log = logging.getLogger("lull.file_storage")

MOST_PATHS_PER_CALL = 1000
_TIMEOUT_SECONDS = 10

_Answer = TypeVar("_Answer")


class BucketMissing(Exception):
    """The bucket does not exist: nothing can be said about its files."""


class FileStorage:
    """Removes files from the buckets of one Supabase project. Safe to share between threads.

    Every method raises StorageUnavailable when Storage does not answer or refuses the caller.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._lock = Lock()

    def remove(self, bucket: str, paths: Sequence[str]) -> set[str]:
        """Remove up to 1000 files and return the paths that Storage says it removed.

        A path that is missing from the answer may be gone already, or may not be removable: ask `is_absent`.
        """
        if not 1 <= len(paths) <= MOST_PATHS_PER_CALL:
            raise ValueError(f"remove takes 1 to {MOST_PATHS_PER_CALL} paths, not {len(paths)}")
        files = self._connected().storage.from_(bucket)
        answer = self._ask(lambda: files.remove(list(paths)))
        return {item["name"] for item in answer}

    def is_absent(self, bucket: str, path: str) -> bool:
        """Whether Storage positively says that a file does not exist, in a bucket that does.

        Raises BucketMissing when the bucket does not exist either.
        """
        storage = self._connected().storage
        if self._not_found(lambda: storage.get_bucket(bucket), "Bucket not found"):
            raise BucketMissing(f'the bucket "{bucket}" does not exist')
        # the client unquotes a path before it sends it: without quote(), "100%41" would ask for "100A"
        return self._not_found(lambda: storage.from_(bucket).info(quote(path)), "not_found")

    def _not_found(self, question: Callable[[], Any], code: str) -> bool:
        """True when Storage answers its own 404; a 404 of somebody else, such as a proxy, is no answer."""
        try:
            self._ask(question)
        except StorageUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, StorageApiError) and str(cause.status) == "404" and cause.code == code:
                return True
            raise
        return False

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        try:
            return question()
        except (StorageApiError, httpx.HTTPError, ValueError) as error:
            # ValueError: an HTML page with status 200
            log.info("storage refused", extra={"fields": {"error": repr(error)}})
            raise StorageUnavailable from error

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                http = httpx.Client(timeout=_TIMEOUT_SECONDS)
                self._client = supabase_client(self._settings, http)
                weakref.finalize(self, http.close)
            return self._client
