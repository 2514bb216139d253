"""What a bucket takes: its size limit and its types, on every way in."""

import re
from typing import Any

from infra.local.storage_errors import RefusalError

_UNITS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}


def parse_size(given: object) -> int | None:
    """Return a limit in bytes; it may be given as a number or as `50MB`. None is no limit."""
    if given in (None, "", 0):
        return None
    found = re.fullmatch(r"(\d+)\s*([KMG]?B?)", str(given).upper())
    if found is None or found[2] not in _UNITS:
        raise RefusalError(422, "invalid_file_size_limit", "The requested file_size_limit is not valid")
    return int(found[1]) * _UNITS[found[2]]


def check_limits(bucket: dict[str, Any], *, size: int, content_type: str) -> None:
    """Refuse what the bucket does not take, as every route of Storage does."""
    limit, types = bucket.get("file_size_limit"), bucket.get("allowed_mime_types")
    kind = content_type.partition(";")[0].strip().lower()
    if types and not {kind, f"{kind.partition('/')[0]}/*", "*/*"} & set(types):
        raise RefusalError(415, "invalid_mime_type", f"mime type {kind} is not supported")
    if limit is not None and size > int(limit):
        raise RefusalError(413, "Payload too large", "The object exceeded the maximum allowed size")
