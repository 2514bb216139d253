"""The routes of an item's file: register its next version, complete it, download it."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import Query, Request, Response

from api.auth.callers import Caller
from api.errors import invalid_request
from api.http.bodies import parse_body
from api.http.dependencies import (
    BODY,
    CALLER,
    CALLER_NO_BODY,
    CALLER_NO_QUERY,
    expected_version,
    version_of,
)
from api.http.files.names import safe_name
from api.http.files.schemas import Upload
from api.http.files.transfers import check_new, sign_download, sign_upload, take_over
from api.http.openapi import CALLER_SECURITY, RATE_LIMITS, READS, RETRY_AFTER, TAG, body_of, documented
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.http.schemas import NotNull
from api.library.access import Shelf, tag
from api.library.schemas import (
    FileOfPath,
    IfMatch,
    IfNoneMatch,
    ItemWithDownload,
    KeyOfPath,
    KnownItemFile,
    NamespaceOfPath,
    NewItemFile,
    OneSummary,
    RegisteredItem,
    RegisteredItemFile,
    VersionNumber,
)

_LIMITED = {429: {**RETRY_AFTER, **RATE_LIMITS}}
_REGISTERS: dict[str, Any] = {
    "responses": documented(400, 401, 404, 409, 410, 412, 415, 422, 428, 429, 500, 503, headers=_LIMITED),
    "openapi_extra": body_of(NewItemFile, required=True),
}
_COMPLETES: dict[str, Any] = {
    "responses": {
        200: {"headers": TAG},
        **documented(400, 401, 404, 409, 410, 412, 415, 422, 429, 500, 503, headers=_LIMITED),
    },
    "openapi_extra": CALLER_SECURITY,
}

router = feature_router(prefix="/api/library/{namespace}/{key}/file", tags=["library"])


@router.put("", **_REGISTERS)
def register_item_file(
    request: Request,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    caller: Caller = CALLER_NO_QUERY,
    body: bytes = BODY,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> RegisteredItemFile:
    """Announce a file as the item's next version, and get its upload URL. It is the current one once it is complete."""
    parts = parts_of(request)
    shelf = Shelf(parts, caller, namespace, key)
    expected = version_of(expected_version(if_match, if_none_match))
    new = parse_body(body, NewItemFile)
    check_new(parts.settings, new)
    file, bucket = uuid4(), parts.settings.storage_bucket
    # Neither the namespace nor the key: the path outlives both, and names no one.
    path = f"library/{file}/{safe_name(new.name)}"
    signed = sign_upload(parts.storage, bucket, path)
    answer = shelf.write(
        RegisteredItem,
        "lull_register_item_file",
        p_expected=expected,
        p_file={"id": str(file), "bucket": bucket, "path": path, **new.model_dump()},
        p_upload_expires_at=signed.expires_at.isoformat(),
    )
    upload = Upload(url=signed.url, expires_at=signed.expires_at.isoformat()) if answer.registered else None
    return RegisteredItemFile(item=answer.item, upload=upload)


@router.post("/{file}/complete", **_COMPLETES)
def complete_item_file(
    request: Request,
    response: Response,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    file: FileOfPath,
    caller: Caller = CALLER_NO_BODY,
) -> OneSummary:
    """Make an uploaded file the item's current version. 409 until Storage has the bytes; idempotent."""
    parts = parts_of(request)
    shelf = Shelf(parts, caller, namespace, key)
    known = shelf.read(KnownItemFile, "lull_get_item_file", p_file=str(file))
    answer = OneSummary(item=known.item)
    if known.item.file is None or known.item.file.state == "pending":
        stored = take_over(parts.storage, known.bucket, known.path)
        answer = shelf.write(
            OneSummary,
            "lull_complete_item_file",
            p_file=str(file),
            p_size=stored.size,
            p_content_type=stored.content_type,
        )
    tag(response, answer.item.version)
    return answer


@router.get("", **READS)
def get_item_file(
    request: Request,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    version: Annotated[VersionNumber | None, NotNull(), Query(description="Default: the current one.")] = None,
    caller: Caller = CALLER,
) -> ItemWithDownload:
    """Show the file that an item is, with a URL for its bytes that is valid for ten minutes."""
    if unknown := [name for name in request.query_params if name != "version"]:
        raise invalid_request(*((name, "unknown parameter") for name in unknown))
    parts = parts_of(request)
    known = Shelf(parts, caller, namespace, key).read(KnownItemFile, "lull_get_item_file", p_version=version)
    name = known.item.file.name if known.item.file else key
    return ItemWithDownload(item=known.item, download=sign_download(parts.storage, known.bucket, known.path, name))
