"""The upload of a request: the one file of a form, or the body itself."""

import json

from starlette.requests import Request

from infra.local import multipart
from infra.local.objects import Upload
from infra.local.storage_errors import RefusalError


def read_upload(request: Request, body: bytes) -> Upload:
    """Return the bytes of an upload with the metadata in its headers and fields."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    if not content_type.startswith("multipart/form-data"):
        return Upload(body, content_type, request.headers.get("cache-control", "no-cache"))
    parts = multipart.parse(content_type, body)
    fields = {part.name: part.body.decode(errors="replace") for part in parts if part.filename is None}
    files = [part for part in parts if part.filename is not None]
    if not files:
        raise RefusalError(400, "InvalidRequest", "No content provided")
    cache = f"max-age={fields['cacheControl']}" if fields.get("cacheControl") else "no-cache"
    metadata = json.loads(fields["metadata"]) if fields.get("metadata") else None
    return Upload(files[0].body, files[0].content_type, cache, metadata)
