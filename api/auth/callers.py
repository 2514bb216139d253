"""The caller of a request: the service, a signed-in user, or the holder of a session's token."""

import hashlib
import hmac
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import UUID

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from api.auth.secrets import bearer_token, headers_named, unauthorized, usable_secret
from api.settings import Settings

if TYPE_CHECKING:
    from api.auth.access_tokens import AccessTokens


@dataclass(frozen=True)
class Caller:
    """The authenticated caller. All fields empty means unauthenticated."""

    service: bool = False
    user_id: UUID | None = None
    token_hash: str | None = None
    participant: UUID | None = None  # by a participant's token that was made for the request's session

    @property
    def known(self) -> bool:
        """Whether the caller can own a session at all."""
        return self.service or self.user_id is not None or self.token_hash is not None

    def argument(self) -> dict[str, Any]:
        """The `p_caller` of the SQL functions."""
        proved = {"participant": str(self.participant)} if self.participant else {}
        if self.service:
            return {"service": True, **proved}
        return {"user_id": str(self.user_id) if self.user_id else None, "token_hash": self.token_hash, **proved}


class Callers:
    """Authenticates requests. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._service_secret = usable_secret(settings.service_secret)
        self._settings = settings
        self._access_tokens: AccessTokens | None = None
        self._lock = Lock()

    async def identify(self, request: Request) -> Caller:
        """The caller by `Authorization` (service secret or access token) and `X-Session-Token`.

        A request without credentials is accepted here; the route decides what such a caller may do. An invalid
        Authorization header is a 401 with one fixed text, even if a valid session token was sent too.
        """
        authorizations = headers_named(request, b"authorization")
        tokens = [token for token in headers_named(request, b"x-session-token") if token]
        token_hash = hashlib.sha256(b",".join(tokens)).hexdigest() if tokens else None
        if not authorizations:
            return Caller(token_hash=token_hash)
        given = bearer_token(request)
        if self._service_secret is not None and hmac.compare_digest(given, self._service_secret):
            return Caller(service=True)
        # in a thread: verifying may fetch the project's keys over HTTP
        return Caller(user_id=await run_in_threadpool(self._user_of, given), token_hash=token_hash)

    def _user_of(self, token: bytes) -> UUID:
        """The user id in an access token. The first call imports PyJWT: a cold start without a token does not."""
        from api.auth.access_tokens import AccessTokens, InvalidToken

        with self._lock:
            if self._access_tokens is None:
                self._access_tokens = AccessTokens(self._settings)
        try:
            return self._access_tokens.user_of(token.decode("ascii"))
        except (InvalidToken, UnicodeDecodeError):
            raise unauthorized("The Authorization header holds no valid access token.") from None
