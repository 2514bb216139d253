"""Callers of the API in tests: users with access tokens, holders of session tokens, the service."""

import time
from typing import Any
from uuid import uuid4

import httpx
import jwt

SESSIONS = "/api/sessions"

Headers = dict[str, str]


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


def as_user(environment: dict[str, str], user: str | None = None) -> Headers:
    """The headers of a signed-in user."""
    return {"Authorization": f"Bearer {access_token(environment, user)}"}


def as_holder(token: str) -> Headers:
    """The headers of somebody without an account who holds a session's token."""
    return {"X-Session-Token": token}


def as_service(environment: dict[str, str]) -> Headers:
    """The headers of the project's own servers."""
    return {"Authorization": f"Bearer {environment['SERVICE_SECRET']}"}


def start(api: httpx.Client, headers: Headers | None = None, **fields: Any) -> tuple[str, Headers]:
    """Create a chat, or what `fields` say; return its address and its owner's headers."""
    answer = api.post(SESSIONS, json={"kind": "chat", **fields}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["location"], headers or as_holder(answer.json()["sessionToken"])


def events_of(api: httpx.Client, address: str, headers: Headers) -> list[str]:
    """The names of a session's events, in order."""
    return [event["event"] for event in api.get(f"{address}/events", headers=headers).json()["events"]]


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the type of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()["type"].removeprefix("urn:lull:problem:")
