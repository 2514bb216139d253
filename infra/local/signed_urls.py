"""Signed URLs of the Storage stand-in: the token in the URL permits one operation on one object.

As on the real server a token is a JWT with the object's whole name in `url`, signed with the project's
secret.
"""

import time

import jwt

from infra.local.storage_errors import RefusalError, invalid

UPLOAD_SECONDS = 2 * 60 * 60  # fixed on a hosted project
UPLOAD, DOWNLOAD = "upload", "download"


class SignedUrls:
    """Signs and verifies the tokens of one project."""

    def __init__(self, jwt_secret: str) -> None:
        self._secret = jwt_secret

    def for_upload(self, name: str, *, upsert: bool) -> str:
        """Return the address, below `/storage/v1`, at which this object can be uploaded."""
        return f"/object/upload/sign/{name}?token={self._token(name, UPLOAD_SECONDS, UPLOAD, upsert=upsert)}"

    def for_download(self, name: str, seconds: int) -> str:
        """Return the address, below `/storage/v1`, at which this object can be downloaded."""
        return f"/object/sign/{name}?token={self._token(name, seconds, DOWNLOAD)}"

    def verify(self, token: str | None, name: str, scope: str) -> bool:
        """Return whether the token allows to replace; raise RefusalError when it is for another object or action.

        A token without a scope is one of an older server: `upsert` tells what it is for.
        """
        if token is None:
            raise invalid("querystring must have required property 'token'")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.ExpiredSignatureError:
            raise RefusalError(400, "InvalidJWT", '"exp" claim timestamp check failed') from None
        except jwt.InvalidTokenError:
            raise RefusalError(400, "InvalidJWT", "signature verification failed") from None
        legacy = UPLOAD if "upsert" in claims else DOWNLOAD
        if claims.get("url") != name or claims.get("scope", legacy) != scope:
            raise RefusalError(400, "InvalidSignature", "Invalid signature")
        return bool(claims.get("upsert"))

    def _token(self, name: str, seconds: int, scope: str, **claims: bool) -> str:
        now = int(time.time())
        facts = {"url": name, "scope": scope, **claims, "iat": now, "exp": now + seconds}
        return jwt.encode(facts, self._secret, "HS256")
