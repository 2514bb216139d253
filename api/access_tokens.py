"""Supabase access tokens: whose they are, by the project's published keys or its legacy secret."""

import logging
from uuid import UUID

import jwt

from api.errors import not_configured
from api.json_web_keys import KeySet
from api.settings import Settings

log = logging.getLogger("lull.auth")

LEEWAY_SECONDS = 10
LONGEST_TOKEN = 8192
SHORTEST_JWT_SECRET = 32


class InvalidToken(Exception):
    """No access token of a signed-in user of this project, now. The caller is not told why."""


class AccessTokens:
    """Verifies the access tokens of one Supabase project. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.supabase_url.rstrip("/") if settings.supabase_url else None
        secret = settings.supabase_jwt_secret.get_secret_value() if settings.supabase_jwt_secret else ""
        self._secret = secret if len(secret.encode()) >= SHORTEST_JWT_SECRET else None
        self._keys = KeySet(f"{self._url}/auth/v1/.well-known/jwks.json")

    def user_of(self, token: str) -> UUID:
        """The id of the user whose token this is. Raises InvalidToken, or 503 when nobody can tell."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            raise InvalidToken
        if self._url is None:
            raise not_configured("SUPABASE_URL is not set.")
        try:
            return self._verified(token)
        # PyJWT lets some of what a stranger may write into a header pass through it
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
            issuer=f"{self._url}/auth/v1",
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
        if claims.get("role") != "authenticated":
            raise InvalidToken
        return UUID(claims["sub"])

    def _key(self, algorithm: object, key_id: object) -> jwt.PyJWK | str:
        """The key that a token of this header must be signed with: the key decides the algorithm."""
        if algorithm == "HS256":
            key: jwt.PyJWK | str | None = self._secret
        elif isinstance(key_id, str):
            key = self._keys.find(key_id)
        else:
            key = None
        if key is None or (isinstance(key, jwt.PyJWK) and key.algorithm_name != algorithm):
            raise InvalidToken
        return key
