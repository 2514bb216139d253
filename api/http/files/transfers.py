"""The bytes of files: sign an upload, take over what was uploaded, sign a download."""

from api.errors import Problem, invalid_request, not_configured
from api.http.files.names import upload_path
from api.http.files.schemas import Download, NewFile
from api.settings import Settings
from api.storage import FileStorage, SignedUpload, StorageRefused, StoredFile

DOWNLOAD_SECONDS = 600


def check_new(settings: Settings, new: NewFile) -> None:
    """Raise 422 for a size or type that the settings do not allow."""
    largest, kinds = settings.max_file_bytes, settings.allowed_file_types
    faults = []
    if new.size > largest:
        faults.append(("size", f"must be at most {largest} bytes"))
    family = new.content_type.partition("/")[0]
    if not {new.content_type, f"{family}/*", "*/*"} & set(kinds):
        faults.append(("contentType", f"must be one of {', '.join(kinds)}"))
    if faults:
        raise invalid_request(*faults)


def sign_upload(storage: FileStorage, bucket: str, path: str) -> SignedUpload:
    """Sign a URL for the upload path of this path. Raises 503 while Storage has no such bucket."""
    try:
        return storage.sign_upload(bucket, upload_path(path))
    except StorageRefused as error:
        raise not_configured(f"Storage takes no files: the bucket {bucket} must be there.") from error


def take_over(storage: FileStorage, bucket: str, path: str) -> StoredFile:
    """Move a file's bytes from its upload path to its path; describe what is there. Raises 409 for no bytes.

    They are described after the move: until then an upload could replace them. They may have been moved already, by
    a call at the same time or one that ended early.
    """
    stored = storage.describe(bucket, path)
    if stored is None:
        storage.move(bucket, upload_path(path), path)
        stored = storage.describe(bucket, path)
    if stored is None:
        raise Problem(409, "file-not-uploaded", "The bytes of this file are not there yet.")
    return stored


def sign_download(storage: FileStorage, bucket: str, path: str, name: str) -> Download | None:
    """A URL for a file's bytes that is valid for ten minutes; None when Storage has no bytes."""
    url = storage.sign_download(bucket, path, name=name, seconds=DOWNLOAD_SECONDS)
    return Download(url=url, expires_in=DOWNLOAD_SECONDS) if url else None
