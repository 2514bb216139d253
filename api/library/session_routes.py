"""The routes of /api/sessions/{id}/items: which items of the library a session used."""

from typing import Any

from fastapi import Request

from api.auth.callers import Caller
from api.http.bodies import parse_body
from api.http.dependencies import BODY, CALLER_OF_SESSION, Place
from api.http.openapi import READS, body_of, documented
from api.http.parts import parts_of
from api.http.routers import feature_router
from api.http.schemas import SessionId, Table
from api.library.schemas import OneSessionItem, SessionItemList, UsedItem

_NOTES: dict[str, Any] = {
    "responses": documented(400, 401, 404, 409, 410, 415, 422, 500, 503),
    "openapi_extra": body_of(UsedItem, required=True),
}

router = feature_router(prefix="/api/sessions/{id}/items", tags=["library"])


@router.post("", **_NOTES)
def use_item(
    request: Request,
    session: SessionId,
    table: Table = None,
    caller: Caller = CALLER_OF_SESSION,
    body: bytes = BODY,
) -> OneSessionItem:
    """Note that the session used a version of an item. Counts as activity; again is fine."""
    used = parse_body(body, UsedItem)
    arguments = {"p_namespace": used.namespace, "p_key": used.key, "p_version": used.version}
    return parts_of(request).call(
        OneSessionItem, "lull_use_item", **Place(session, table).arguments(caller), **arguments
    )


@router.get("", **READS)
def list_session_items(
    request: Request, session: SessionId, table: Table = None, caller: Caller = CALLER_OF_SESSION
) -> SessionItemList:
    """List what the session used, in the order of use."""
    return parts_of(request).call(
        SessionItemList, "lull_list_session_items", **Place(session, table).arguments(caller)
    )
