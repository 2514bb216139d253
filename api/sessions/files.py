"""Files of a session: the database has the rows, Storage the bytes, and browsers move them by signed URLs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from api.auth import Caller
from api.database import Database
from api.errors import Problem, invalid_request, not_configured
from api.file_storage import FileStorage, StorageRefused
from api.sessions.creation import TIMEOUT_SECONDS
from api.sessions.file_models import NewFile
from api.sessions.file_names import storage_path
from api.settings import Settings

DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Registered:
    """A file that has no bytes yet, and where they go."""

    file: dict[str, Any]
    upload_url: str
    upload_expires_at: datetime


@dataclass(frozen=True)
class SessionFiles:
    """What a session's files take.

    Every method raises 404 for whoever is not the session's owner, and 410 when the session is gone.
    """

    settings: Settings
    database: Database
    storage: FileStorage
    new_id: Callable[[], UUID] = uuid4

    def register(self, session: UUID, caller: Caller, request: NewFile) -> Registered:
        """Sign an upload URL and remember the file that is to come.

        Raises 422 for a size or type that the settings do not allow, 409 when the session has ended or has
        as many files as it may. The URL is signed first: without a row nobody ever gets to see it.
        """
        self._check(request)
        self._call("lull_get_session", session, caller)
        file, bucket = self.new_id(), self.settings.storage_bucket
        path = storage_path(session, file, request.name)
        try:
            signed = self.storage.sign_upload(bucket, path)
        except StorageRefused as error:
            raise not_configured(f"Storage takes no files: the bucket {bucket} must be there.") from error
        answer = self._call(
            "lull_register_file",
            session,
            caller,
            p_file=str(file),
            p_name=request.name,
            p_content_type=request.content_type,
            p_size=request.size,
            p_bucket=bucket,
            p_path=path,
            p_upload_expires_at=signed.expires_at.isoformat(),
            p_most_files=self.settings.max_files_per_session,
        )
        return Registered(answer["file"], signed.url, signed.expires_at)

    def complete(self, session: UUID, caller: Caller, file: UUID) -> dict[str, Any]:
        """Say that a file is uploaded, after Storage said that it has the bytes. Again is fine.

        Raises 409 when the bytes are not there yet, or not those that were registered.
        """
        known = self._call("lull_get_file", session, caller, p_file=str(file))
        if known["file"]["state"] == "uploaded":
            return known
        stored = self.storage.describe(known["bucket"], known["path"])
        if stored is None:
            raise Problem(409, "file-not-uploaded", "The bytes of this file are not there yet.")
        return self._call(
            "lull_complete_file",
            session,
            caller,
            p_file=str(file),
            p_size=stored.size,
            p_content_type=stored.content_type,
        )

    def read(self, session: UUID, caller: Caller, file: UUID) -> dict[str, Any]:
        """A file, with a URL for its bytes where it has any."""
        known = self._call("lull_get_file", session, caller, p_file=str(file))
        if known["file"]["state"] != "uploaded":
            return {"file": known["file"], "download": None}
        url = self.storage.sign_download(
            known["bucket"], known["path"], name=known["file"]["name"], seconds=DOWNLOAD_SECONDS
        )
        download = {"url": url, "expires_in": DOWNLOAD_SECONDS} if url else None
        return {"file": known["file"], "download": download}

    def list(self, session: UUID, caller: Caller) -> dict[str, Any]:
        """Every file of a session, oldest first."""
        return self._call("lull_list_files", session, caller)

    def delete(self, session: UUID, caller: Caller, file: UUID) -> None:
        """Delete a file. Its bytes go with the first cleanup after its upload URL has expired."""
        self._call("lull_delete_file", session, caller, p_file=str(file))

    def _call(self, function: str, session: UUID, caller: Caller, **arguments: Any) -> dict[str, Any]:
        common = {"p_session": str(session), "p_caller": caller.argument()}
        return self.database.call(function, common | arguments, timeout_seconds=TIMEOUT_SECONDS)

    def _check(self, request: NewFile) -> None:
        largest, kinds = self.settings.max_file_bytes, self.settings.allowed_file_types
        faults = []
        if request.size > largest:
            faults.append(("size", f"must be at most {largest} bytes"))
        family = request.content_type.partition("/")[0]
        if not {request.content_type, f"{family}/*", "*/*"} & set(kinds):
            faults.append(("contentType", f"must be one of {', '.join(kinds)}"))
        if faults:
            raise invalid_request(*faults)
