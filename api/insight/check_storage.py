"""The check of the Storage bucket: present, private, and no narrower than what Lull lets users register."""

from api.errors import Problem
from api.file_storage import FileStorage, StorageRefused
from api.insight.verdict import Verdict, fail, ok, some, warn
from api.settings import Settings

_TIMEOUT_SECONDS = 5


def check_bucket(settings: Settings, storage: FileStorage) -> list[Verdict]:
    """Ask Storage about STORAGE_BUCKET."""
    name = settings.storage_bucket
    try:
        bucket = storage.find_bucket(name, timeout_seconds=_TIMEOUT_SECONDS)
    except StorageRefused as refusal:
        mend = f'create a private bucket "{name}": Supabase > Storage > New bucket (or set STORAGE_BUCKET)'
        return [fail("bucket", f"Storage says: {refusal}.", mend)]
    except Problem:
        mend = "check SUPABASE_URL and SUPABASE_SECRET_KEY, and status.supabase.com"
        return [fail("bucket", "Storage does not answer, or not to this key.", mend)]
    if bucket.public:
        message = f'The bucket "{name}" is public: whoever guesses a path reads the file.'
        return [fail("bucket", message, "make it private: Supabase > Storage > Edit bucket")]
    found = []
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
    limits = "with limits of its own" if bucket.largest_file else "without limits of its own"
    return found or [ok("bucket", f'"{name}" is there, private, {limits}')]


def _takes(types: tuple[str, ...] | None, kind: str) -> bool:
    if not types:
        return True
    family = kind.partition("/")[0]
    return bool({kind, f"{family}/*", "*/*"} & set(types))
