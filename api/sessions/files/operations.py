"""Files of a session: rows are in the database, bytes in Storage. Browsers transfer bytes by signed URLs.

Every function raises 404 for a caller that is not the session's owner, and 410 when the session is gone.
"""

from typing import Any
from uuid import UUID, uuid4

from api.auth.callers import Caller
from api.http.dependencies import Place
from api.http.files.names import safe_name
from api.http.files.schemas import NewFile, Upload
from api.http.files.transfers import check_new, sign_download, sign_upload, take_over
from api.http.parts import Model, Parts
from api.http.schemas import OneSession
from api.sessions.files.schemas import FileList, FileWithDownload, KnownFile, OneFile, RegisteredFile


def register(parts: Parts, place: Place, caller: Caller, new: NewFile) -> RegisteredFile:
    """Sign an upload URL and register the file.

    Raises 422 for a size or type that the settings do not allow, 409 when the session has ended or has the
    maximum number of files. The URL is signed first: a caller gets it only after the row is stored.
    """
    settings = parts.settings
    check_new(settings, new)
    _call(parts, OneSession, "lull_get_session", place, caller)
    file, bucket = uuid4(), settings.storage_bucket
    # The file's id makes the path unique and unguessable; the name makes it readable.
    path = f"sessions/{place.id}/{file}/{safe_name(new.name)}"
    signed = sign_upload(parts.storage, bucket, path)
    answer = _call(
        parts,
        OneFile,
        "lull_register_file",
        place,
        caller,
        p_file=str(file),
        p_name=new.name,
        p_content_type=new.content_type,
        p_size=new.size,
        p_bucket=bucket,
        p_path=path,
        p_upload_expires_at=signed.expires_at.isoformat(),
        p_most_files=settings.max_files_per_session,
    )
    upload = Upload(url=signed.url, expires_at=signed.expires_at.isoformat())
    return RegisteredFile(file=answer.file, upload=upload)


def complete(parts: Parts, place: Place, caller: Caller, file: UUID) -> OneFile:
    """Mark a file as uploaded, after its bytes were moved to where no upload URL leads. Idempotent.

    Raises 409 when the bytes are not there yet, or differ from what was registered.
    """
    known = _known(parts, place, caller, file)
    if known.file.state == "uploaded":
        return OneFile(file=known.file)
    stored = take_over(parts.storage, known.bucket, known.path)
    return _call(
        parts,
        OneFile,
        "lull_complete_file",
        place,
        caller,
        p_file=str(file),
        p_size=stored.size,
        p_content_type=stored.content_type,
    )


def read(parts: Parts, place: Place, caller: Caller, file: UUID) -> FileWithDownload:
    """A file, with a URL for its bytes if it has been uploaded."""
    known = _known(parts, place, caller, file)
    if known.file.state != "uploaded":
        return FileWithDownload(file=known.file, download=None)
    download = sign_download(parts.storage, known.bucket, known.path, known.file.name)
    return FileWithDownload(file=known.file, download=download)


def list_all(parts: Parts, place: Place, caller: Caller) -> FileList:
    """Every file of a session, oldest first."""
    return _call(parts, FileList, "lull_list_files", place, caller)


def delete(parts: Parts, place: Place, caller: Caller, file: UUID) -> None:
    """Delete a file. Its bytes are removed by the first cleanup after its upload URL has expired."""
    _call(parts, OneFile, "lull_delete_file", place, caller, p_file=str(file))


def _known(parts: Parts, place: Place, caller: Caller, file: UUID) -> KnownFile:
    return _call(parts, KnownFile, "lull_get_file", place, caller, p_file=str(file))


def _call(parts: Parts, model: type[Model], function: str, place: Place, caller: Caller, **arguments: Any) -> Model:
    return parts.call(model, function, **place.arguments(caller), **arguments)
