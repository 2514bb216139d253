"""The check of the Storage bucket: it exists, is private, and accepts every file that Lull registers."""

from api.doctor.check_result import CheckResult, fail, ok, warn
from api.errors import Problem
from api.http.sentences import some
from api.settings import Settings
from api.storage import Bucket, FileStorage, StorageKeyRefused, StorageRefused

_TIMEOUT_SECONDS = 5


def check_bucket(settings: Settings, storage: FileStorage) -> list[CheckResult]:
    """Ask Storage about STORAGE_BUCKET."""
    name = settings.storage_bucket
    try:
        bucket = storage.find_bucket(name, timeout_seconds=_TIMEOUT_SECONDS)
    except StorageRefused as refusal:
        fix = f'create a private bucket "{name}": Supabase > Storage > New bucket (or set STORAGE_BUCKET)'
        return [fail("bucket", f"Storage says: {refusal}.", fix)]
    except StorageKeyRefused:
        message = "Storage refuses this key: SUPABASE_SECRET_KEY is wrong, of another project, or one for browsers."
        return [fail("bucket", message, "copy the secret key: Supabase > Settings > API Keys")]
    except Problem:
        return [fail("bucket", "Storage does not answer.", "check SUPABASE_URL, and status.supabase.com")]
    if bucket.public:
        message = f'The bucket "{name}" is public: its files can be read without a key by their paths.'
        return [fail("bucket", message, "make it private: Supabase > Storage > Edit bucket")]
    found = _missing_limits(settings, bucket)
    if bucket.largest_file is not None and bucket.largest_file < settings.max_file_bytes:
        message = (
            f'The bucket "{name}" takes {bucket.largest_file} bytes, MAX_FILE_BYTES promises '
            f"{settings.max_file_bytes}: uploads in between fail."
        )
        found.append(warn("bucket", message, f"set MAX_FILE_BYTES={bucket.largest_file}, or raise the limit"))
    refused = [kind for kind in settings.allowed_file_types if not _takes(bucket.types, kind)]
    if refused:
        message = f'The bucket "{name}" refuses types that ALLOWED_FILE_TYPES has: {some(refused)}.'
        found.append(warn("bucket", message, "give both the same types"))
    return found or [ok("bucket", f'"{name}" is there, private, with limits of its own')]


def _missing_limits(settings: Settings, bucket: Bucket) -> list[CheckResult]:
    """The bucket's own limits are the only ones that Storage knows when bytes come in by an upload URL."""
    name, types = settings.storage_bucket, settings.allowed_file_types
    fix = "Supabase > Storage > Edit bucket, or: update storage.buckets set {change} where id = '{name}'"
    found = []
    if bucket.largest_file is None:
        message = f'The bucket "{name}" takes files of any size: an upload URL can fill it.'
        change = f"file_size_limit = {settings.max_file_bytes}"
        found.append(fail("bucket", message, fix.format(change=change, name=name)))
    if not bucket.types and "*/*" not in types:
        message = f'The bucket "{name}" takes files of any type, ALLOWED_FILE_TYPES has {len(types)}.'
        change = f"allowed_mime_types = '{{{','.join(types)}}}'"
        found.append(fail("bucket", message, fix.format(change=change, name=name)))
    return found


def _takes(types: tuple[str, ...] | None, kind: str) -> bool:
    if not types:
        return True
    family = kind.partition("/")[0]
    return bool({kind, f"{family}/*", "*/*"} & set(types))
