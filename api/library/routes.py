"""The routes under /api/library: documents by namespace and key, their versions, export and import."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from api.auth.callers import Caller
from api.errors import invalid_request
from api.http.bodies import body_of_at_most, parse_object
from api.http.dependencies import CALLER, CALLER_NO_BODY, CALLER_NO_QUERY, expected_version, version_of
from api.http.openapi import CALLER_SECURITY, RATE_LIMITS, READS, RETRY_AFTER, TAG, documented, location_of
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.library.access import Shelf, tag
from api.library.ndjson import MEDIA_TYPE, export_lines, import_lines
from api.library.schemas import (
    LARGEST_DOCUMENT,
    LARGEST_IMPORT,
    Existing,
    IfMatch,
    IfNoneMatch,
    ItemPage,
    ItemQuery,
    KeyOfPath,
    ListedItems,
    NamespaceOfPath,
    OneItem,
    OneSummary,
    VersionList,
    VersionOfPath,
    Written,
)

DOCUMENT = Depends(body_of_at_most(LARGEST_DOCUMENT))
LINES = Depends(body_of_at_most(LARGEST_IMPORT, MEDIA_TYPE))

_OBJECT = {"application/json": {"schema": {"type": "object", "additionalProperties": True}}}
_NDJSON = {MEDIA_TYPE: {"schema": {"type": "string"}}}
_LIMITED = {429: {**RETRY_AFTER, **RATE_LIMITS}}
_PUTS: dict[str, Any] = {
    "responses": {
        200: {"headers": TAG},
        201: {"headers": {**location_of("item"), **TAG}, "model": OneItem, "description": "The item was created."},
        **documented(400, 401, 404, 409, 410, 412, 415, 422, 428, 429, 500, 503, headers=_LIMITED),
    },
    "openapi_extra": {"requestBody": {"required": True, "content": _OBJECT}, **CALLER_SECURITY},
}
_CHANGES: dict[str, Any] = {
    "responses": documented(400, 401, 404, 409, 410, 412, 415, 422, 429, 500, 503, headers=_LIMITED),
    "openapi_extra": CALLER_SECURITY,
}
_TAGGED: dict[str, Any] = {**_CHANGES, "responses": {200: {"headers": TAG}, **_CHANGES["responses"]}}
_SHOWS: dict[str, Any] = {**READS, "responses": {200: {"headers": TAG}, **READS["responses"]}}
_NEXT = {"Link": {"description": 'As NDJSON: the next page, `rel="next"`.', "schema": {"type": "string"}}}
_LISTS: dict[str, Any] = {**READS, "responses": {200: {"headers": _NEXT, "content": _NDJSON}, **READS["responses"]}}
_IMPORTS: dict[str, Any] = {
    "responses": {
        200: {"content": _NDJSON, "description": "A line for each line: `line`, `key`, `outcome`, `version`."},
        **documented(401, 404, 415, 422, 429, 500, 503, headers=_LIMITED),
    },
    "openapi_extra": {"requestBody": {"required": False, "content": _NDJSON}, **CALLER_SECURITY},
}

router = feature_router(prefix="/api/library/{namespace}", tags=["library"])


@router.get("", response_model=ItemPage, **_LISTS)
def list_items(
    request: Request, namespace: NamespaceOfPath, query: Annotated[ItemQuery, Query()], caller: Caller = CALLER
) -> ItemPage | Response:
    """List the items of a namespace by key, without their documents.

    With `Accept: application/x-ndjson` it is an export: a line per item, with its document, at most 500 lines or 4 MB.
    """
    shelf = Shelf(parts_of(request), caller, namespace)
    if MEDIA_TYPE not in request.headers.get("accept", ""):
        page = shelf.read(
            ListedItems, "lull_list_items", p_deleted=query.deleted, p_after=query.cursor, p_limit=query.limit
        )
        return ItemPage(items=page.items, next_cursor=page.next)
    if query.deleted:
        raise invalid_request(("deleted", "deleted items are not exported"))
    content, following = export_lines(shelf, query)
    headers = {"Cache-Control": "no-store"}
    if following is not None:
        more = urlencode({"limit": query.limit, "cursor": following})
        headers["Link"] = f'<{shelf.address}?{more}>; rel="next"'
    return Response(content, media_type=MEDIA_TYPE, headers=headers)


@router.post("", response_class=Response, **_IMPORTS)
def import_items(
    request: Request,
    namespace: NamespaceOfPath,
    existing: Existing = "keep",
    caller: Caller = CALLER,
    body: bytes = LINES,
) -> Response:
    """Write the lines of an export (NDJSON, at most 500 lines or 4 MiB). Can be repeated; a line's fault is its answer.

    The caller may send other lines than exported ones: `{"key": …, "document": {…}}`.
    """
    if unknown := [name for name in request.query_params if name != "existing"]:
        raise invalid_request(*((name, "unknown parameter") for name in unknown))
    content = import_lines(Shelf(parts_of(request), caller, namespace), body, replace=existing == "replace")
    return Response(content, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.put("/{key}", **_PUTS)
def put_item(
    request: Request,
    response: Response,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    caller: Caller = CALLER_NO_QUERY,
    body: bytes = DOCUMENT,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> OneItem:
    """Write a document as a new version, or create it (`If-None-Match: *`). An equal one writes nothing."""
    shelf = Shelf(parts_of(request), caller, namespace, key)
    expected = version_of(expected_version(if_match, if_none_match))
    written = shelf.write(Written, "lull_put_item", p_document=parse_object(body), p_expected=expected)
    if written.created:
        response.status_code = 201
        response.headers["Location"] = shelf.address
    tag(response, written.item.version)
    return OneItem(item=written.item)


@router.get("/{key}", **_SHOWS)
def get_item(
    request: Request,
    response: Response,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    caller: Caller = CALLER_NO_QUERY,
) -> OneItem:
    """Show an item in its current version."""
    answer = Shelf(parts_of(request), caller, namespace, key).read(OneItem, "lull_get_item")
    tag(response, answer.item.version)
    return answer


@router.delete("/{key}", status_code=204, **_CHANGES)
def delete_item(
    request: Request,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    caller: Caller = CALLER_NO_BODY,
    if_match: IfMatch = None,
) -> None:
    """Delete an item with its versions. It can be undeleted for seven days."""
    shelf = Shelf(parts_of(request), caller, namespace, key)
    shelf.write(OneSummary, "lull_delete_item", p_expected=version_of(if_match))


@router.post("/{key}/undelete", **_TAGGED)
def undelete_item(
    request: Request,
    response: Response,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    caller: Caller = CALLER_NO_BODY,
) -> OneSummary:
    """Bring a deleted item back as it was. One that is there stays as it is."""
    answer = Shelf(parts_of(request), caller, namespace, key).write(OneSummary, "lull_undelete_item")
    tag(response, answer.item.version)
    return answer


@router.get("/{key}/versions", **READS)
def list_versions(
    request: Request, namespace: NamespaceOfPath, key: KeyOfPath, caller: Caller = CALLER_NO_QUERY
) -> VersionList:
    """List the versions of an item that are kept, the last 20, newest first."""
    return Shelf(parts_of(request), caller, namespace, key).read(VersionList, "lull_list_versions")


@router.get("/{key}/versions/{version}", **READS)
def get_version(
    request: Request,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    version: VersionOfPath,
    caller: Caller = CALLER_NO_QUERY,
) -> OneItem:
    """Show an item in an old version. 410 for one that is not kept any more."""
    return Shelf(parts_of(request), caller, namespace, key).read(OneItem, "lull_get_item", p_version=version)


@router.post("/{key}/versions/{version}/restore", **_TAGGED)
def restore_version(
    request: Request,
    response: Response,
    namespace: NamespaceOfPath,
    key: KeyOfPath,
    version: VersionOfPath,
    caller: Caller = CALLER_NO_BODY,
    if_match: IfMatch = None,
) -> OneItem:
    """Bring an old version back: its content becomes a new version."""
    answer = Shelf(parts_of(request), caller, namespace, key).write(
        OneItem, "lull_restore_version", p_version=version, p_expected=version_of(if_match)
    )
    tag(response, answer.item.version)
    return answer
