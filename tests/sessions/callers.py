"""Callers of the API in tests: users with access tokens, holders of session tokens, the service."""

import time
from typing import Any
from uuid import uuid4

import jwt

SESSIONS = "/api/sessions"


def access_token(environment: dict[str, str], user: str | None = None, **claims: Any) -> str:
    """An access token as Supabase signs it with the project's legacy secret; `claims` replace or add."""
    now = int(time.time())
    standard = {
        "iss": f"{environment['SUPABASE_URL']}/auth/v1",
        "aud": "authenticated",
        "role": "authenticated",
        "sub": user or str(uuid4()),
        "iat": now,
        "exp": now + 3600,
    }
    return jwt.encode(standard | claims, environment["SUPABASE_JWT_SECRET"], algorithm="HS256")


def as_user(environment: dict[str, str], user: str | None = None) -> dict[str, str]:
    """The headers of a signed-in user."""
    return {"Authorization": f"Bearer {access_token(environment, user)}"}


def as_holder(token: str) -> dict[str, str]:
    """The headers of somebody without an account who holds a session's token."""
    return {"X-Session-Token": token}


def as_service(environment: dict[str, str]) -> dict[str, str]:
    """The headers of the project's own servers."""
    return {"Authorization": f"Bearer {environment['SERVICE_SECRET']}"}
