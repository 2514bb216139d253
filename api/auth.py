"""Who is calling. So far only the admin: whoever holds CRON_SECRET."""

import hmac

from fastapi import Request
from pydantic import SecretStr

from api.errors import Problem, not_configured
from api.settings import Settings

SHORTEST_SECRET = 16


def require_admin(request: Request, settings: Settings) -> None:
    """Let only `Authorization: Bearer $CRON_SECRET` pass; CRON_SECRET_PREVIOUS passes during a rotation.

    Raises 503 for every caller while CRON_SECRET is missing or too short, and otherwise 401, the same for
    every reason. Compares bytes in constant time.
    """
    secrets = [_usable(settings.cron_secret), _usable(settings.cron_secret_previous)]
    if secrets[0] is None:
        raise not_configured(f"CRON_SECRET is not set, or shorter than {SHORTEST_SECRET} characters.")
    given = _bearer_token(request)
    matches = [hmac.compare_digest(given, secret) for secret in secrets if secret is not None]
    if not any(matches):
        detail = "This needs the admin secret: Authorization: Bearer <CRON_SECRET>."
        raise Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _usable(secret: SecretStr | None) -> bytes | None:
    value = secret.get_secret_value().strip() if secret else ""
    return value.encode() if len(value) >= SHORTEST_SECRET else None


def _bearer_token(request: Request) -> bytes:
    """The token as the bytes that were sent; empty unless there is exactly one Authorization header."""
    headers = [value for name, value in request.scope["headers"] if name == b"authorization"]
    scheme, _, token = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
    return bytes(token) if scheme.lower() == b"bearer" else b""
