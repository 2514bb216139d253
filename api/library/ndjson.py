"""The library as NDJSON: a line of JSON per item, out and in."""

import json
from typing import Any

from pydantic import ValidationError

from api.errors import Problem, invalid_request, validation_problem
from api.http.bodies import parse_object
from api.library.access import Shelf
from api.library.schemas import (
    EXPORT_BYTES,
    MOST_LINES,
    ExportedItems,
    Imported,
    Item,
    ItemQuery,
    Line,
    LineAnswer,
)

MEDIA_TYPE = "application/x-ndjson"


def export_lines(shelf: Shelf, query: ItemQuery) -> tuple[bytes, str | None]:
    """A page of a namespace as lines, and the key after which the next page begins; None after the last page."""
    page = shelf.read(
        ExportedItems, "lull_export_items", p_after=query.cursor, p_limit=query.limit, p_bytes=EXPORT_BYTES
    )
    return b"".join(_line(_exported(item)) for item in page.items), page.next


def import_lines(shelf: Shelf, body: bytes, *, replace: bool) -> bytes:
    """Write the lines of a body; answer each with a line.

    Raises 422 for more than 500 lines, 429 over the hourly limit: then nothing is written.
    """
    lines = [(number, text) for number, text in enumerate(body.split(b"\n"), 1) if text.strip()]
    if len(lines) > MOST_LINES:
        raise invalid_request(("body", f"must be at most {MOST_LINES} lines"))
    valid: dict[str, dict[str, Any]] = {}
    answers = []
    for number, text in lines:
        try:
            line = _parsed(text)
            if line.key in valid:
                raise invalid_request(("key", f"stands in line {valid[line.key]['line']} already"))
        except Problem as problem:
            answers.append(LineAnswer(line=number, key=None, outcome="invalid", detail=problem.detail))
        else:
            content = {"document": line.document} if line.file is None else {"file": {"sha256": line.file.sha256}}
            valid[line.key] = {"line": number, "key": line.key, **content}
    written = shelf.write(Imported, "lull_import_items", p_lines=list(valid.values()), p_replace=replace)
    answers += written.lines
    return b"".join(
        _line(answer.model_dump(by_alias=True, exclude_none=True)) for answer in sorted(answers, key=lambda a: a.line)
    )


def _parsed(text: bytes) -> Line:
    """A line of an import. Raises Problem."""
    try:
        line = Line.model_validate(parse_object(text))
    except ValidationError as error:
        raise validation_problem(error.errors()) from None
    if (line.document is None) == (line.file is None):
        raise invalid_request(("document", "must be an object, unless the line describes a file"))
    return line


def _exported(item: Item) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": item.key, "version": item.version, "writtenAt": item.written_at}
    if item.file is None:
        return {**shown, "document": item.document}
    file = {"name": item.file.name, "contentType": item.file.content_type, "size": item.size}
    return {**shown, "file": {**file, "sha256": item.file.sha256}}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
