"""Tokens of anonymous sessions, derived from the session's id, so that a replay can repeat them."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from uuid import UUID

from api.errors import not_configured
from api.settings import Settings


def session_token(settings: Settings, session: UUID, rotation: int = 0) -> str:
    """The token of a session: HMAC-SHA256 of its id and rotation number, under a key derived for this purpose."""
    key = settings.derived_key(b"lull session token")
    if key is None:
        raise not_configured("SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.")
    digest = hmac.digest(key, f"{session}:{rotation}".encode(), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")


def token_hash(token: str) -> str:
    """The hash of a token as the database stores it: SHA-256 in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()
