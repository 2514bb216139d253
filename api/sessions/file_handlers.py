"""The routes under /api/sessions/{id}/files."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from api.auth import CALLER_SECURITY, Caller, Callers
from api.errors import documented
from api.sessions.file_models import FileList, FileWithDownload, NewFile, OneFile, RegisteredFile
from api.sessions.files import SessionFiles
from api.sessions.models import Id
from api.sessions.requests import BODY, READS, asked_by, body_of, no_body, no_query
from api.winged import wing_router
from api.wire import parse_body

PATH = "/api/sessions/{id}/files"

SessionId = Annotated[Id, Path(alias="id")]
FileId = Annotated[Id, Path(alias="fileId")]

_LOCATION = {"Location": {"description": "The file's address.", "schema": {"type": "string"}}}
_WRITES: dict[str, Any] = {
    "responses": documented(400, 401, 404, 409, 410, 422, 500, 503),
    "openapi_extra": CALLER_SECURITY,
}
_REGISTERS: dict[str, Any] = {
    "responses": {201: {"headers": _LOCATION}, **_WRITES["responses"]},
    "openapi_extra": body_of(NewFile, required=True),
}


def file_routes(files: SessionFiles, callers: Callers) -> APIRouter:
    """The routes of a session's files, over these parts."""
    router = wing_router(prefix=PATH, tags=["files"])
    plain = asked_by(callers, no_query)
    empty = asked_by(callers, no_query, no_body)

    @router.post("", status_code=201, **_REGISTERS)
    def register_file(
        response: Response, session: SessionId, caller: Caller = plain, body: bytes = BODY
    ) -> RegisteredFile:
        """Register a file, before the first message too, and get the URL at which to upload it."""
        registered = files.register(session, caller, parse_body(body, NewFile))
        response.headers["Location"] = f"/api/sessions/{session}/files/{registered.file['id']}"
        upload = {"url": registered.upload_url, "expires_at": registered.upload_expires_at.isoformat()}
        return RegisteredFile.model_validate({"file": registered.file, "upload": upload})

    @router.post("/{fileId}/complete", **_WRITES)
    def complete_file(session: SessionId, file: FileId, caller: Caller = empty) -> OneFile:
        """Say that the bytes are uploaded; 409 until Storage has them. Again is fine."""
        return OneFile.model_validate(files.complete(session, caller, file))

    @router.get("", **READS)
    def list_files(session: SessionId, caller: Caller = plain) -> FileList:
        """List a session's files, oldest first."""
        return FileList.model_validate(files.list(session, caller))

    @router.get("/{fileId}", **READS)
    def get_file(session: SessionId, file: FileId, caller: Caller = plain) -> FileWithDownload:
        """Show a file, with a URL for its bytes that is good for ten minutes."""
        return FileWithDownload.model_validate(files.read(session, caller, file))

    @router.delete("/{fileId}", status_code=204, **_WRITES)
    def delete_file(session: SessionId, file: FileId, caller: Caller = empty) -> None:
        """Delete a file; its bytes go with a later cleanup."""
        files.delete(session, caller, file)

    return router
