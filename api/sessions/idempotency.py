"""Idempotency-Key: the same key and the same request get the same answer for 24 hours."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

from api.auth import Caller
from api.errors import invalid_request
from api.sessions.models import NewSession

LIFETIME = timedelta(hours=24)
PATTERN = r"^[!-~]([ -~]{0,253}[!-~])?$"


def idempotency_argument(key: str | None, caller: Caller, request: NewSession) -> dict[str, str] | None:
    """The `p_idempotency` of lull_create_session; None without a key.

    All anonymous callers share one scope, so their keys must be UUIDs: nobody meets, or guesses, another's.
    """
    if key is None:
        return None
    if caller.service:
        scope = "service"
    elif caller.user_id:
        scope = f"user:{caller.user_id}"
    else:
        scope, key = "anonymous", _uuid(key)
    body = json.dumps(request.model_dump(), sort_keys=True, separators=(",", ":"))
    return {"scope": scope, "key": key, "request_hash": hashlib.sha256(body.encode()).hexdigest()}


def seconds_left(created_at: str) -> int:
    """For how long the key of a session created then is remembered, by this machine's clock."""
    left = datetime.fromisoformat(created_at) + LIFETIME - datetime.now(UTC)
    return max(0, min(int(left.total_seconds()), int(LIFETIME.total_seconds())))


def _uuid(key: str) -> str:
    try:
        return str(UUID(key))
    except ValueError:
        raise invalid_request(("Idempotency-Key", "must be a UUID for a caller without an account")) from None
