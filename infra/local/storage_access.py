"""Access to objects of the Storage stand-in: checking keys, finding an object, sending its bytes."""

import json
from typing import Any

import jwt
from starlette.requests import Request
from starlette.responses import Response

from infra.local.objects import ObjectStore, Record
from infra.local.sending import send
from infra.local.storage_errors import RefusalError, invalid, no_bucket, no_object


class Access:
    """Checks keys, and finds the object of a request."""

    def __init__(self, store: ObjectStore, jwt_secret: str) -> None:
        self._store = store
        self._jwt_secret = jwt_secret

    def may(self, request: Request) -> bool:
        """Return whether the request has the service's key; raise RefusalError for an invalid key."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given if scheme.lower() == "bearer" else request.headers.get("apikey", "")
        if not token:
            raise invalid("headers must have required property 'authorization'")
        try:
            claims = jwt.decode(token, self._jwt_secret, algorithms=["HS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError as error:
            raise RefusalError(403, "Unauthorized", str(error)) from None
        return claims.get("role") == "service_role"

    def find(self, request: Request) -> Record:
        """Return the object that the path names. Raises RefusalError when it is absent or not visible to the caller."""
        bucket = request.path_params["bucket"]
        if not self.may(request):
            raise no_object()
        if self._store.bucket(bucket) is None:
            raise no_bucket()
        record = self._store.object(bucket, request.path_params["name"])
        if record is None:
            raise no_object()
        return record

    def send(self, request: Request, record: Record) -> Response:
        """Answer with the bytes of an object, or the part that was asked for."""
        try:
            body = self._store.body(record["bucket_id"], record["name"])
        except FileNotFoundError:  # removed since it was found
            raise no_object() from None
        return send(request, record, body)


def read_json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; an empty body is an empty object."""
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        raise invalid("Body is not valid JSON") from None
    return value if isinstance(value, dict) else {}
