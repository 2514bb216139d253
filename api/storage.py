"""The one door to Supabase Storage."""

import logging
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import jwt
from storage3 import SyncStorageClient
from storage3.exceptions import StorageApiError
from storage3.types import ListBucketFilesOptions
from storage3.utils import StorageException

from api.errors import StorageUnavailable
from api.settings import Settings
from api.supabase_http import open_client, time_limit

log = logging.getLogger("lull.file_storage")

MOST_PATHS_PER_CALL = 1000
LONGEST_CALL_SECONDS = 10
_LISTED_PER_CALL = 100
_UPLOAD_HOURS = 2  # of a hosted project, where the token does not say

_Answer = TypeVar("_Answer")


class StorageRefused(Exception):
    """Storage answers, but not to this question; the message says why."""


class StorageKeyRefused(StorageUnavailable):
    """Storage answers, and SUPABASE_SECRET_KEY may do nothing there."""

    def __init__(self) -> None:
        super().__init__("The file storage refuses SUPABASE_SECRET_KEY: it is wrong, or not the secret one.")


@dataclass(frozen=True)
class SignedUpload:
    """Where a browser can put one file, once and without a key, until when."""

    url: str
    expires_at: datetime


@dataclass(frozen=True)
class Bucket:
    """What Storage says about a bucket; None is no limit."""

    public: bool
    largest_file: int | None
    types: tuple[str, ...] | None


@dataclass(frozen=True)
class StoredFile:
    """What Storage has: `content_type` as the upload said it, without parameters."""

    size: int
    content_type: str


class FileStorage:
    """Signs URLs for files of one Supabase project, and removes them. Safe to share between threads.

    Every method raises StorageUnavailable when Storage does not answer (StorageKeyRefused: not to this key), and
    StorageRefused when the trouble is with what was asked. The paths of removals come from anywhere, so they travel in
    bodies and never in addresses: one with dots in it would reach another route. The paths to sign and to
    describe are those that Lull made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: SyncStorageClient | None = None
        self._lock = Lock()

    def sign_upload(self, bucket: str, path: str) -> SignedUpload:
        """Sign a URL at which this file can be uploaded, and never replaced; Storage says for how long.

        Raises StorageRefused for a bucket that does not exist, and for a path that was used before.
        """
        files = self._connected().from_(_bucket(bucket))
        with _key_refusals():
            signed = self._ask(lambda: files.create_signed_upload_url(quote(path)), LONGEST_CALL_SECONDS)
        return SignedUpload(signed["signed_url"], _expiry(signed["token"]))

    def sign_download(self, bucket: str, path: str, *, name: str, seconds: int) -> str | None:
        """Sign a URL at which this file is downloaded under a name of its own; None when it is not there.

        The answer is an attachment: a browser saves it and never shows it as a page of Storage's origin.
        """
        files = self._connected().from_(_bucket(bucket))
        signed = self._find(lambda: files.create_signed_url(quote(path), seconds, {"download": name}))
        return str(signed["signedURL"]) if signed else None

    def describe(self, bucket: str, path: str) -> StoredFile | None:
        """What Storage has under this path; None when it says that nothing is there."""
        files = self._connected().from_(_bucket(bucket))
        return self._find(lambda: _described(files.info(quote(path))))

    def move(self, bucket: str, path: str, to: str) -> None:
        """Move a file, without replacing one. Nothing happens where there is none, or where one is there already."""
        files = self._connected().from_(_bucket(bucket))
        try:
            with _key_refusals():
                self._ask(lambda: files.move(path, to), LONGEST_CALL_SECONDS)
        except StorageRefused as refusal:
            cause = refusal.__cause__
            if not isinstance(cause, StorageApiError) or cause.code not in {"not_found", "Duplicate"}:
                raise StorageUnavailable from refusal

    def find_bucket(self, bucket: str, *, timeout_seconds: float = LONGEST_CALL_SECONDS) -> Bucket:
        """Describe the bucket; StorageRefused when there is none: nothing can be said about its files then.

        A key that sees no bucket at all is one for browsers: that is StorageKeyRefused.
        """
        storage, name = self._connected(), _bucket(bucket)
        try:
            with _key_refusals():
                found = self._ask(lambda: storage.get_bucket(name), timeout_seconds)
            types = found.allowed_mime_types
            return Bucket(found.public, found.file_size_limit, None if types is None else tuple(types))
        except StorageRefused as refusal:
            cause = refusal.__cause__
            if isinstance(cause, StorageApiError) and cause.code == "Bucket not found":
                if _is_for_browsers(self._settings.project().key):
                    raise StorageKeyRefused from cause
                raise StorageRefused(f'the bucket "{bucket}" does not exist') from cause
            raise

    def remove(self, bucket: str, paths: Sequence[str], *, timeout_seconds: float = LONGEST_CALL_SECONDS) -> set[str]:
        """Remove up to 1000 files and return the paths that Storage says it removed.

        A path that is missing from the answer may be gone already, or may not be removable: ask `is_absent`.
        """
        if not 1 <= len(paths) <= MOST_PATHS_PER_CALL:
            raise ValueError(f"remove takes 1 to {MOST_PATHS_PER_CALL} paths, not {len(paths)}")
        files = self._connected().from_(_bucket(bucket))
        return {name for name, _ in self._ask(lambda: _named(files.remove(list(paths))), timeout_seconds)}

    def is_absent(self, bucket: str, path: str, *, timeout_seconds: float = LONGEST_CALL_SECONDS) -> bool:
        """Whether its folder lists no such file. A missing bucket lists nothing: ask `find_bucket` first."""
        files = self._connected().from_(_bucket(bucket))
        *folders, name = path.split("/")
        if not all([*folders, name]) or "\\" in path:
            # Storage lists by LIKE, in which a backslash is no backslash
            raise StorageRefused("the file cannot be listed: its path has an empty part or a backslash")
        offset = 0
        while True:
            options: ListBucketFilesOptions = {"limit": _LISTED_PER_CALL, "offset": offset, "search": name}
            rows = self._ask(lambda: _named(files.list("/".join(folders), options)), timeout_seconds)  # noqa: B023
            if (name, True) in rows:
                return False
            if len(rows) < _LISTED_PER_CALL:
                return True
            offset += len(rows)

    def _find(self, question: Callable[[], _Answer]) -> _Answer | None:
        """None when Storage says that there is no such object; any other refusal is no answer."""
        try:
            with _key_refusals():
                return self._ask(question, LONGEST_CALL_SECONDS)
        except StorageRefused as refusal:
            cause = refusal.__cause__
            if isinstance(cause, StorageApiError) and cause.code == "not_found":
                return None
            raise StorageUnavailable from refusal

    def _ask(self, question: Callable[[], _Answer], timeout_seconds: float) -> _Answer:
        try:
            with time_limit(timeout_seconds):
                return question()
        except StorageApiError as error:
            log.info("storage refused", extra={"fields": {"error": repr(error)}})
            # InternalError: the client's word for a page that Storage did not write
            if error.code != "InternalError" and re.fullmatch("4(?!08|29)..", str(error.status)):
                raise StorageRefused(f"Storage refused: {error.message}"[:500]) from error
            raise StorageUnavailable from error
        except (StorageException, httpx.HTTPError, ValueError, TypeError, KeyError) as error:
            # ValueError and its like: an HTML page with status 200, or JSON of another shape
            log.info("storage unreachable", extra={"fields": {"error": repr(error)}})
            raise StorageUnavailable from error

    def _connected(self) -> SyncStorageClient:
        with self._lock:
            if self._client is None:
                from supabase import ClientOptions, create_client  # all of supabase-py: 130 ms

                project = self._settings.project()
                http = open_client(project)
                # no session of a user on the client of the secret key, and no thread that would renew one
                options = ClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
                self._client = create_client(project.url, project.key, options).storage
                weakref.finalize(self, http.close)
            return self._client


@contextmanager
def _key_refusals() -> Iterator[None]:
    """Tell a refusal of the key from one of what was asked; a removal is not asked here: one file may be protected."""
    try:
        yield
    except StorageRefused as refusal:
        cause = refusal.__cause__
        if isinstance(cause, StorageApiError) and str(cause.status) in {"401", "403"}:
            raise StorageKeyRefused from cause
        raise


def _bucket(name: str) -> str:
    """Storage's own rule for names; it also keeps one from changing the address it stands in."""
    if name in {".", ".."} or not re.fullmatch(r"[\w!.*'() &$@=;:+,?-]{1,100}", name, re.ASCII):
        raise StorageRefused(f'"{name[:100]}" can be no bucket')
    return name


def _is_for_browsers(key: str) -> bool:
    """Whether a key is a publishable one, or a token of another role than service_role: it sees no private bucket."""
    if key.startswith("sb_publishable_"):
        return True
    try:
        return bool(jwt.decode(key, options={"verify_signature": False}).get("role") != "service_role")
    except jwt.InvalidTokenError:
        return False


def _named(rows: list[dict[str, Any]]) -> set[tuple[str, bool]]:
    """Each row's name, and whether it is a file: a folder has no id."""
    return {(row["name"], row.get("id") is not None) for row in rows}


def _described(info: dict[str, Any]) -> StoredFile:
    return StoredFile(int(info["size"]), str(info["content_type"] or "").partition(";")[0].strip().lower())


def _expiry(token: str) -> datetime:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError):
        return datetime.now(UTC) + timedelta(hours=_UPLOAD_HOURS)
