"""Resumable uploads of the Storage stand-in (TUS 1.0.0: creation, then PATCH until all bytes are there).

By a signed upload URL's token in `x-signature`, or with the service's key. As on the real server a finished upload
replaces an object that exists, whatever the token says about replacing. An upload that is not finished is kept in
memory, and lost when the stand-in stops.
"""

import base64
import binascii
import uuid
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from infra.local.limits import check_limits
from infra.local.objects import ObjectStore, Upload
from infra.local.signed_urls import UPLOAD, SignedUrls
from infra.local.storage_access import Access
from infra.local.storage_errors import RefusalError, invalid, no_bucket, no_right

VERSION = "1.0.0"
_HEADERS = {"tus-resumable": VERSION, "access-control-expose-headers": "Location, Upload-Offset, Upload-Length"}


@dataclass
class _Started:
    bucket: str
    name: str
    length: int
    content_type: str
    cache_control: str
    body: bytearray = field(default_factory=bytearray)


class ResumableRoutes:
    """One method per route, each with the key and with a signature."""

    def __init__(self, store: ObjectStore, access: Access, signed: SignedUrls) -> None:
        self._store = store
        self._access = access
        self._signed = signed
        self._started: dict[str, _Started] = {}

    def create(self, request: Request, body: bytes) -> Response:
        """Begin an upload; bytes may come along (creation-with-upload)."""
        said = _metadata(request.headers.get("upload-metadata", ""))
        upload = _Started(
            bucket=said.get("bucketName", ""),
            name=said.get("objectName", ""),
            length=_number(request, "upload-length"),
            content_type=said.get("contentType", "application/octet-stream"),
            cache_control=f"max-age={said['cacheControl']}" if "cacheControl" in said else "no-cache",
        )
        self._admit(request, upload)
        bucket = self._store.bucket(upload.bucket)
        if bucket is None:
            raise no_bucket()
        check_limits(bucket, size=upload.length, content_type=upload.content_type)
        key = uuid.uuid4().hex
        self._started[key] = upload
        self._append(upload, body)
        location = f"{str(request.url).partition('?')[0].rstrip('/')}/{key}"
        return Response(status_code=201, headers=_HEADERS | {"location": location, "upload-offset": str(len(body))})

    def append(self, request: Request, body: bytes) -> Response:
        """Take the next bytes; the last ones make the object."""
        upload = self._find(request)
        if _number(request, "upload-offset") != len(upload.body):
            return Response("Upload-Offset conflict", 409, headers=_HEADERS)
        self._append(upload, body)
        return Response(status_code=204, headers=_HEADERS | {"upload-offset": str(len(upload.body))})

    def show(self, request: Request, _: bytes) -> Response:
        """Say how far an upload is."""
        upload = self._find(request)
        progress = {"upload-offset": str(len(upload.body)), "upload-length": str(upload.length)}
        return Response(status_code=200, headers=_HEADERS | {"cache-control": "no-store"} | progress)

    def options(self, _: Request, __: bytes) -> Response:
        """Say what of TUS is here."""
        return Response(status_code=204, headers=_HEADERS | {"tus-version": VERSION, "tus-extension": "creation"})

    def _find(self, request: Request) -> _Started:
        upload = self._started.get(request.path_params["key"])
        if upload is None:
            raise RefusalError(404, "not_found", "Upload not found", http=404)
        self._admit(request, upload)
        return upload

    def _admit(self, request: Request, upload: _Started) -> None:
        if "/resumable/sign" in request.url.path:
            token = request.headers.get("x-signature")
            if not token:
                raise RefusalError(400, "InvalidSignature", "Missing x-signature header")
            self._signed.verify(token, f"{upload.bucket}/{upload.name}", UPLOAD)
        elif not self._access.may(request):
            raise no_right()

    def _append(self, upload: _Started, body: bytes) -> None:
        if len(upload.body) + len(body) > upload.length:
            raise RefusalError(413, "Payload too large", "Upload exceeded its length", http=413)
        upload.body += body
        if len(upload.body) == upload.length:
            whole = Upload(bytes(upload.body), upload.content_type, upload.cache_control)
            self._store.put(upload.bucket, upload.name, whole, replace=True)


def _number(request: Request, header: str) -> int:
    given = request.headers.get(header, "")
    if not given.isdecimal():
        raise invalid(f"headers must have required property '{header}'")
    return int(given)


def _metadata(header: str) -> dict[str, str]:
    """Return `key base64, key base64` as text by key."""
    pairs = (pair.strip().partition(" ") for pair in header.split(",") if pair.strip())
    try:
        return {key: base64.b64decode(value).decode() for key, _, value in pairs}
    except (binascii.Error, UnicodeDecodeError):
        raise invalid("Upload-Metadata is not valid") from None
