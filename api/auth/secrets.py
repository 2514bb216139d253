"""Secrets in the Authorization header, compared as bytes in constant time."""

import hmac

from fastapi import Request
from pydantic import SecretStr

from api.errors import Problem, not_configured
from api.settings import Settings, secret_bytes

SHORTEST_SECRET = 16


def require_admin(request: Request, settings: Settings) -> None:
    """Let only `Authorization: Bearer $CRON_SECRET` pass; CRON_SECRET_PREVIOUS passes during a rotation.

    Raises 503 for every caller while CRON_SECRET is missing or too short, and otherwise 401, the same for
    every reason. Compares bytes in constant time.
    """
    secrets = [usable_secret(settings.cron_secret), usable_secret(settings.cron_secret_previous)]
    if secrets[0] is None:
        raise not_configured(f"CRON_SECRET is not set, or shorter than {SHORTEST_SECRET} characters.")
    given = bearer_token(request)
    matches = [hmac.compare_digest(given, secret) for secret in secrets if secret is not None]
    if not any(matches):
        raise unauthorized("This needs the admin secret: Authorization: Bearer <CRON_SECRET>.")


def unauthorized(detail: str) -> Problem:
    """Ask for credentials."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def usable_secret(secret: SecretStr | None) -> bytes | None:
    """The secret as bytes; None when it is unset or shorter than 16 characters."""
    value = secret_bytes(secret) or b""
    return value if len(value.decode(errors="replace")) >= SHORTEST_SECRET else None


def headers_named(request: Request, name: bytes) -> list[bytes]:
    """The values of every header of this lower-case name, as the bytes that were sent."""
    return [bytes(value) for key, value in request.scope["headers"] if key == name]


def bearer_token(request: Request) -> bytes:
    """The token as the bytes that were sent, without blanks around it; empty unless there is exactly one header."""
    headers = headers_named(request, b"authorization")
    scheme, _, token = headers[0].strip().partition(b" ") if len(headers) == 1 else (b"", b"", b"")
    return token.strip() if scheme.lower() == b"bearer" else b""
