"""Request bodies: one JSON object of at most 64 KiB, with strict numbers and text that Postgres can store.

A route that takes more says so: `body_of_at_most`.
"""

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.errors import Problem, invalid_request, validation_problem

LONGEST_BODY = 64 * 1024
DEEPEST = 64
LONGEST_NUMBER = 1000
JSON_TYPES = {"application/json", "application/merge-patch+json"}  # no form and no page sends them by itself

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request) -> bytes:
    """The raw body, as application/json.

    Raises 415 for a body of another type, which a page of another site could send without a preflight request.
    Raises 422 as soon as more than 64 KiB were received.
    """
    return await _read(request, LONGEST_BODY, JSON_TYPES)


def body_of_at_most(longest: int, *types: str) -> Callable[[Request], Awaitable[bytes]]:
    """As `read_body`, for a body of at most this many bytes and of one of these types (default: JSON)."""

    async def read(request: Request) -> bytes:
        return await _read(request, longest, set(types) or JSON_TYPES)

    return read


async def read_any_body(request: Request, longest: int = LONGEST_BODY) -> bytes:
    """The raw body of any type. Raises 422 as soon as more than `longest` bytes were received."""
    chunks, length = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        length += len(chunk)
        if length > longest:
            raise invalid_request(("body", f"must be at most {longest} bytes"))
    return b"".join(chunks)


async def _read(request: Request, longest: int, types: set[str]) -> bytes:
    body = await read_any_body(request, longest)
    if body.strip():
        _check_type(request.headers.getlist("content-type"), types)
    return body


def _check_type(given: list[str], types: set[str]) -> None:
    if len(given) != 1 or given[0].partition(";")[0].strip().lower() not in types:
        kind, named = ("JSON", "application/json") if types == JSON_TYPES else (min(types), min(types))
        detail = f"The body must be {kind}: send it with Content-Type: {named}."
        raise Problem(415, "unsupported-media-type", detail)


def parse_body(body: bytes, model: type[Body], *, optional: bool = False) -> Body:
    """The JSON object in a body, as this model. With `optional`, a missing body is an empty object.

    Raises 400 for a body that is not JSON. Raises 422 that names the field for duplicate names, text with NUL or
    an unpaired surrogate, numbers that are too long, and nesting that is too deep.
    """
    if optional and not body.strip():
        return model()
    try:
        return model.model_validate(parse_object(body))
    except ValidationError as error:
        raise validation_problem(error.errors()) from None


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises 400 for what is not JSON, 422 for JSON that Postgres cannot store."""
    if not body.strip():
        raise invalid_request(("body", "must be a JSON object, and is empty"))
    try:
        value = json.loads(body.decode(), parse_constant=_no_number, parse_int=_integer, object_pairs_hook=_object)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Problem(400, "undecodable-body", f"The body is not JSON in UTF-8: {error}.") from error
    except RecursionError:
        raise invalid_request(("body", f"must not nest deeper than {DEEPEST} levels")) from None
    except ValueError as error:
        raise invalid_request(("body", str(error))) from error
    if not isinstance(value, dict):
        raise invalid_request(("body", "must be a JSON object"))
    faults = [(name, fault) for name in value if (fault := next(_faults({name: value[name]}), None))]
    if faults:
        raise invalid_request(*((_shown(name), fault) for name, fault in faults))
    return value


def _no_number(name: str) -> object:
    raise json.JSONDecodeError(f"{name} is no JSON", name, 0)


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"holds a number of more than {LONGEST_NUMBER} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("names something twice")
    return value


def _faults(value: object, depth: int = 0) -> Iterator[str]:
    """The parts of a JSON value that Postgres cannot store."""
    if depth > DEEPEST:
        yield f"must not nest deeper than {DEEPEST} levels"
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _faults(name, depth)
            yield from _faults(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _faults(item, depth + 1)
    elif isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
        yield "must not contain NUL or unpaired surrogates"
    elif isinstance(value, float) and not math.isfinite(value):
        yield "holds a number that is too large"


def _shown(name: str) -> str:
    return name.encode("ascii", "backslashreplace").decode().replace("\0", "\\0")
