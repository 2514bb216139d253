"""Cursors: the position of the next page of a list, opaque to the caller."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from api.errors import invalid_request


class Position(Protocol):
    """The end of a page: the creation time and id of its last session."""

    created_at: str
    id: UUID


def cursor_after(position: Position | None) -> str | None:
    """The cursor of the page after this position; None without a position."""
    return None if position is None else _encoded([position.created_at, str(position.id)])


def position_of(cursor: str | None) -> dict[str, str] | None:
    """The {"created_at", "id"} in a cursor. Raises 422 for any other text."""
    if cursor is None:
        return None
    try:
        created_at, session = _decoded(cursor)
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
        return {"created_at": moment.isoformat(), "id": str(UUID(session))}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise invalid_request(("cursor", "must be the nextCursor of another page")) from None


def cursor_of(place: object) -> str | None:
    """The cursor of a place that a SQL function returned; None without one."""
    return None if place is None else _encoded(place)


def place_of(cursor: str | None, types: dict[str, type]) -> dict[str, Any] | None:
    """The place in a cursor, with these fields of these types. Raises 422 for any other text."""
    if cursor is None:
        return None
    try:
        place = _decoded(cursor)
        if isinstance(place, dict) and all(type(value) is types.get(name) for name, value in place.items()):
            texts = [value for value in place.values() if isinstance(value, str)]
            if not any("\0" in text for text in texts) and all(text.encode() for text in texts):
                return place
    except (ValueError, TypeError, RecursionError, binascii.Error):
        pass
    raise invalid_request(("cursor", "must be the nextCursor of another page"))


def _encoded(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(cursor: str) -> Any:
    return json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
