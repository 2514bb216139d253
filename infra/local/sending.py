"""How Storage sends an object: whole, in part, or not at all when the caller has it already."""

import re
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime

from starlette.requests import Request
from starlette.responses import Response

from infra.local.objects import Record
from infra.local.storage_errors import RefusalError


def send(request: Request, record: Record, body: bytes) -> Response:
    """Answer with an object's bytes; 206 for one range of them, 304 when the caller's copy is the same.

    HTML is sent as plain text: it must not run as a page of Storage's origin.
    """
    facts = record["metadata"]
    kind = str(facts["mimetype"])
    modified = datetime.fromisoformat(record["updated_at"]).replace(microsecond=0)
    headers = {
        "accept-ranges": "bytes",
        "cache-control": str(facts["cacheControl"]),
        "content-type": "text/plain" if "text/html" in kind.lower() else kind,
        "etag": str(facts["eTag"]),
        "last-modified": format_datetime(modified, usegmt=True),
        "x-robots-tag": "none",
    }
    if _is_known(request, headers["etag"], modified):
        return Response(status_code=304, headers=headers)
    start, end = _range(request.headers.get("range", ""), len(body))
    if (start, end) == (0, len(body)):
        return Response(body, headers=headers)
    headers["content-range"] = f"bytes {start}-{end - 1}/{len(body)}"
    return Response(body[start:end], 206, headers=headers)


def _is_known(request: Request, etag: str, modified: datetime) -> bool:
    if given := request.headers.get("if-none-match"):
        return etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]
    since = request.headers.get("if-modified-since")
    try:
        return since is not None and modified <= parsedate_to_datetime(since)
    except (ValueError, TypeError):
        return False


def _range(header: str, size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last; a header that is no single range of bytes asks for all."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if found is None or not (found[1] or found[2]):
        return 0, size
    first, last = found[1], found[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise RefusalError(416, "InvalidRange", "The requested range is not satisfiable")
    return start, end
