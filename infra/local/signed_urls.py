"""Signed URLs of the Storage stand-in: whoever has the token in the URL may do the one thing that it says.

As on the real server a token is a JWT with the object's whole name in `url`, signed with the project's
secret.
"""

import time

import jwt

from infra.local.storage_errors import RefusalError, invalid

UPLOAD_SECONDS = 2 * 60 * 60  # fixed on a hosted project


class SignedUrls:
    """Signs and verifies the tokens of one project."""

    def __init__(self, jwt_secret: str) -> None:
        self._secret = jwt_secret

    def for_upload(self, name: str, *, upsert: bool) -> str:
        """Return the address, below `/storage/v1`, at which this object can be uploaded."""
        return f"/object/upload/sign/{name}?token={self._token(name, UPLOAD_SECONDS, upsert=upsert)}"

    def for_download(self, name: str, seconds: int) -> str:
        """Return the address, below `/storage/v1`, at which this object can be downloaded."""
        return f"/object/sign/{name}?token={self._token(name, seconds)}"

    def verify(self, token: str | None, name: str) -> bool:
        """Return whether the token allows to replace; raise RefusalError when it is for another object."""
        if token is None:
            raise invalid("querystring must have required property 'token'")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.ExpiredSignatureError:
            raise RefusalError(400, "InvalidJWT", '"exp" claim timestamp check failed') from None
        except jwt.InvalidTokenError:
            raise RefusalError(400, "InvalidJWT", "signature verification failed") from None
        if claims.get("url") != name:
            raise RefusalError(400, "InvalidSignature", "Invalid signature")
        return bool(claims.get("upsert"))

    def _token(self, name: str, seconds: int, **claims: bool) -> str:
        now = int(time.time())
        return jwt.encode({"url": name, **claims, "iat": now, "exp": now + seconds}, self._secret, "HS256")
