"""Verify Supabase access tokens by the project's published keys or its legacy JWT secret."""

import logging
from uuid import UUID

import jwt

from api.auth.key_set import KeySet
from api.errors import not_configured
from api.settings import Settings, secret_bytes

log = logging.getLogger("lull.auth")

LEEWAY_SECONDS = 10
LONGEST_TOKEN = 8192
SHORTEST_JWT_SECRET = 32


class InvalidToken(Exception):
    """Not a valid access token of a user of this project. The caller is not told the reason."""


class AccessTokens:
    """Verifies the access tokens of one Supabase project. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.supabase_url.rstrip("/") if settings.supabase_url else None
        self._issuer = settings.supabase_jwt_issuer or f"{self._url}/auth/v1"
        secret = secret_bytes(settings.supabase_jwt_secret) or b""
        self._secret = secret if len(secret) >= SHORTEST_JWT_SECRET else None
        self._keys = KeySet(f"{self._url}/auth/v1/.well-known/jwks.json")

    def user_of(self, token: str) -> UUID:
        """The id of the user in this token. Raises InvalidToken, or Problem 503 when the keys cannot be fetched."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            raise InvalidToken
        if self._url is None:
            raise not_configured("SUPABASE_URL is not set.")
        try:
            return self._verified(token)
        # besides its own errors, PyJWT raises these for malformed token headers
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            log.info("token refused", extra={"fields": {"reason": type(error).__name__}})
            raise InvalidToken from error

    def _verified(self, token: str) -> UUID:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(
            token,
            self._key(header.get("alg"), header.get("kid")),
            algorithms=[header["alg"]],
            audience="authenticated",
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        if claims.get("role") != "authenticated":
            raise InvalidToken
        return UUID(claims["sub"])

    def _key(self, algorithm: object, key_id: object) -> jwt.PyJWK | bytes:
        """The key for a token with this header. The algorithm must be the key's own, not the header's choice."""
        if algorithm == "HS256":
            key: jwt.PyJWK | bytes | None = self._secret
        elif isinstance(key_id, str):
            key = self._keys.find(key_id)
        else:
            key = None
        if key is None or (isinstance(key, jwt.PyJWK) and key.algorithm_name != algorithm):
            raise InvalidToken
        return key
