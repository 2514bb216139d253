"""The routes under /api/sessions/{id}/files."""

from typing import Any

from fastapi import Request, Response

from api.auth.callers import Caller
from api.http.bodies import parse_body
from api.http.dependencies import BODY, CALLER_OF_SESSION, CALLER_OF_SESSION_NO_BODY, Place
from api.http.files.schemas import NewFile
from api.http.openapi import CALLER_SECURITY, READS, body_of, documented, location_of
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.http.schemas import SessionId, Table
from api.sessions.files import operations
from api.sessions.files.schemas import FileId, FileList, FileWithDownload, OneFile, RegisteredFile

_WRITES: dict[str, Any] = {
    "responses": documented(400, 401, 404, 409, 410, 415, 422, 500, 503),
    "openapi_extra": CALLER_SECURITY,
}
_REGISTERS: dict[str, Any] = {
    "responses": {201: {"headers": location_of("file")}, **_WRITES["responses"]},
    "openapi_extra": body_of(NewFile, required=True),
}

router = feature_router(prefix="/api/sessions/{id}/files", tags=["files"])


@router.post("", status_code=201, **_REGISTERS)
def register_file(
    request: Request,
    response: Response,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
    body: bytes = BODY,
) -> RegisteredFile:
    """Register a file and get its upload URL. Possible before the first message too."""
    registered = operations.register(parts_of(request), Place(session, table), caller, parse_body(body, NewFile))
    response.headers["Location"] = f"/api/sessions/{session}/files/{registered.file.id}"
    return registered


@router.post("/{fileId}/complete", **_WRITES)
def complete_file(
    request: Request,
    session: SessionId,
    file: FileId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> OneFile:
    """Mark a file as uploaded. 409 until Storage has the bytes; idempotent."""
    return operations.complete(parts_of(request), Place(session, table), caller, file)


@router.get("", **READS)
def list_files(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_OF_SESSION
) -> FileList:
    """List a session's files, oldest first."""
    return operations.list_all(parts_of(request), Place(session, table), caller)


@router.get("/{fileId}", **READS)
def get_file(
    request: Request,
    session: SessionId,
    file: FileId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
) -> FileWithDownload:
    """Show a file, with a URL for its bytes that is valid for ten minutes."""
    return operations.read(parts_of(request), Place(session, table), caller, file)


@router.delete("/{fileId}", status_code=204, **_WRITES)
def delete_file(
    request: Request,
    session: SessionId,
    file: FileId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION_NO_BODY,
) -> None:
    """Delete a file. A later cleanup removes its bytes."""
    operations.delete(parts_of(request), Place(session, table), caller, file)
