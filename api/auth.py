"""Who is calling: the admin, the service, a signed-in user, or whoever holds a session's token."""

import hashlib
import hmac
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool

from api.errors import Problem, not_configured
from api.settings import Settings

if TYPE_CHECKING:
    from api.access_tokens import AccessTokens

SHORTEST_SECRET = 16

# These only tell the OpenAPI document: who is calling is decided below. CALLER_SECURITY says of a route what
# CALLER_SCHEMES say, which declare the schemes, too; FastAPI would look at every request for them.
ADMIN_SCHEME = [Depends(HTTPBearer(auto_error=False, scheme_name="adminSecret"))]
CALLER_SCHEMES = [
    Depends(HTTPBearer(auto_error=False, scheme_name="accessTokenOrServiceSecret")),
    Depends(APIKeyHeader(name="X-Session-Token", auto_error=False, scheme_name="sessionToken")),
]
CALLER_SECURITY: dict[str, Any] = {"security": [{"accessTokenOrServiceSecret": []}, {"sessionToken": []}]}


@dataclass(frozen=True)
class Caller:
    """Who is calling, as far as they proved it: nobody may be anybody's caller, too."""

    service: bool = False
    user_id: UUID | None = None
    token_hash: str | None = None

    @property
    def known(self) -> bool:
        """Whether there is anything at all that they could own."""
        return self.service or self.user_id is not None or self.token_hash is not None

    def argument(self) -> dict[str, Any]:
        """The `p_caller` of the SQL functions."""
        if self.service:
            return {"service": True}
        return {"user_id": str(self.user_id) if self.user_id else None, "token_hash": self.token_hash}


class Callers:
    """Tells who sent a request."""

    def __init__(self, settings: Settings) -> None:
        self._service_secret = _usable(settings.service_secret)
        self._settings = settings
        self._access_tokens: AccessTokens | None = None
        self._lock = Lock()

    async def identify(self, request: Request) -> Caller:
        """The caller by `Authorization` (service secret or access token) and `X-Session-Token`.

        No credentials are fine: what such a caller may do is for the route to say. An Authorization header
        that proves nothing is a 401 whatever else was sent, and always the same one.
        """
        authorizations = _headers(request, b"authorization")
        tokens = [token for token in _headers(request, b"x-session-token") if token]
        token_hash = hashlib.sha256(b",".join(tokens)).hexdigest() if tokens else None
        if not authorizations:
            return Caller(token_hash=token_hash)
        given = _bearer_token(request)
        if self._service_secret is not None and hmac.compare_digest(given, self._service_secret):
            return Caller(service=True)
        # in a thread: it may have to fetch the project's keys
        return Caller(user_id=await run_in_threadpool(self._user_of, given), token_hash=token_hash)

    def _user_of(self, token: bytes) -> UUID:
        """Whose access token this is. The first one imports what verifies it: a cold start may do without."""
        from api.access_tokens import AccessTokens, InvalidToken

        with self._lock:
            if self._access_tokens is None:
                self._access_tokens = AccessTokens(self._settings)
        try:
            return self._access_tokens.user_of(token.decode("ascii"))
        except (InvalidToken, UnicodeDecodeError):
            raise unauthorized("The Authorization header holds no valid access token.") from None


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
        raise unauthorized("This needs the admin secret: Authorization: Bearer <CRON_SECRET>.")


def unauthorized(detail: str) -> Problem:
    """Ask for credentials."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _usable(secret: SecretStr | None) -> bytes | None:
    value = secret.get_secret_value().strip() if secret else ""
    return value.encode() if len(value) >= SHORTEST_SECRET else None


def _headers(request: Request, name: bytes) -> list[bytes]:
    return [bytes(value) for key, value in request.scope["headers"] if key == name]


def _bearer_token(request: Request) -> bytes:
    """The token as the bytes that were sent; empty unless there is exactly one Authorization header."""
    headers = _headers(request, b"authorization")
    scheme, _, token = headers[0].partition(b" ") if len(headers) == 1 else (b"", b"", b"")
    return token if scheme.lower() == b"bearer" else b""
