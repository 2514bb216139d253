"""Idempotency-Key: the same key and the same request get the same answer for 24 hours."""

import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import Request
from pydantic import BaseModel

from api.auth.callers import Caller
from api.errors import invalid_request, not_configured
from api.http.client_address import client_hash
from api.settings import Settings

LIFETIME = timedelta(hours=24)
_HEADER = "Idempotency-Key"
_LATER = {"table", "guild_id", "state"}
PATTERN = r"^[!-~]([ -~]{0,253}[!-~])?$"


def idempotency_argument(
    settings: Settings, request: Request, caller: Caller, key: str | None, new: BaseModel, *, only_replay: bool = False
) -> dict[str, str | bool] | None:
    """The `p_idempotency` of lull_create_session; None without a key.

    With `only_replay`, a key that was not used before is refused. The key of a caller without an account is all
    that it can prove itself by, and its replay is answered with the session's token. So it must be a random UUID, only
    its keyed hash is stored, and it counts beside what else the request shows: the session token that came along,
    or else the client's address.
    """
    if key is None:
        return None
    if caller.service:
        scope = "service"
    elif caller.user_id:
        scope = f"user:{caller.user_id}"
    else:
        scope = f"anonymous:{caller.token_hash or client_hash(settings, request) or ''}"
        key = _hashed(settings, _random_uuid(key))
    # What is not named is no part of the request: keys from before there were these fields stay known.
    said = {name: value for name, value in new.model_dump().items() if name not in _LATER or value is not None}
    body = json.dumps(said, sort_keys=True, separators=(",", ":"))
    request_hash = hashlib.sha256(body.encode()).hexdigest()
    return {"scope": scope, "key": key, "request_hash": request_hash, "only_replay": only_replay}


def seconds_left(created_at: str) -> int:
    """The seconds for which the key of a session created then is still stored, by this machine's clock."""
    left = datetime.fromisoformat(created_at) + LIFETIME - datetime.now(UTC)
    return max(0, min(int(left.total_seconds()), int(LIFETIME.total_seconds())))


def _random_uuid(key: str) -> str:
    """A UUID that a generator of random ones may have made, in its usual form.

    Version 4 or 7, at least 6 different digits, and no digit 10 times in a row: a random one has that with a
    probability below 1e-9.
    """
    try:
        uuid = UUID(key)
    except ValueError:
        raise invalid_request((_HEADER, "must be a UUID for a caller without an account")) from None
    if uuid.version not in (4, 7) or len(set(uuid.hex)) < 6 or re.search(r"(.)\1{9}", uuid.hex):
        message = "must be a random UUID for a caller without an account, as crypto.randomUUID() makes it"
        raise invalid_request((_HEADER, message))
    return str(uuid)


def _hashed(settings: Settings, key: str) -> str:
    secret = settings.derived_key(b"lull idempotency key")
    if secret is None:
        raise not_configured("SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.")
    return hmac.digest(secret, key.encode(), "sha256").hex()
