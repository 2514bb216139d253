"""Cursors: where the next page of sessions begins, opaque to the caller."""

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.errors import invalid_request


def cursor_after(position: dict[str, Any] | None) -> str | None:
    """The cursor of the page behind this {"created_at", "id"}; None when there is none."""
    if position is None:
        return None
    text = json.dumps([position["created_at"], position["id"]], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position_of(cursor: str | None) -> dict[str, str] | None:
    """The {"created_at", "id"} in a cursor; 422 for any text that is not one."""
    if cursor is None:
        return None
    try:
        created_at, session = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        moment = datetime.fromisoformat(created_at).astimezone(UTC)
        return {"created_at": moment.isoformat(), "id": str(UUID(session))}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise invalid_request(("cursor", "must be the nextCursor of another page")) from None
