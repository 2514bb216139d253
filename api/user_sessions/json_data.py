"""The data of a record: JSON that every store keeps alike, decided before any store sees it."""

import json
import math
import re
from decimal import Decimal
from typing import Any

from api.user_sessions.provider import Data, InvalidData

LARGEST_BYTES = 64 * 1024
DEEPEST = 32
LARGEST_INTEGER = 2**53 - 1

# bytes that Postgres writes for a character of Python's JSON: 5e-324 has 326 there, and nothing grows more
_MOST_GROWTH = 55

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def checked(data: object) -> Data:
    """The data with whole floats as integers (JSON has one kind of number). Raises InvalidData."""
    if not isinstance(data, dict):
        raise InvalidData("must be a JSON object")
    normal: Data = _normal(data, 1)
    if len(json.dumps(normal)) * _MOST_GROWTH > LARGEST_BYTES and stored_bytes(normal) > LARGEST_BYTES:
        raise InvalidData(f"must be at most {LARGEST_BYTES} bytes as Postgres writes JSON")
    return normal


def dumps(data: Data) -> str:
    """One text for one value: equal data has equal texts."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def loads(text: str | bytes) -> Data:
    """The data in such a text, or in what Postgres writes: a number too long for an integer is a float."""
    value: Data = json.loads(text, parse_int=_integer)
    return value


def from_postgres(data: Data) -> Data:
    """The data of a jsonb that a client has parsed already."""
    value: Data = _narrowed(data)
    return value


def merged(data: Data, patch: object) -> Data:
    """The data after a JSON Merge Patch (RFC 7396). Raises InvalidData for a patch that is no object."""
    if not isinstance(patch, dict):
        raise InvalidData("must be a JSON object")
    result: Data = _merge(data, patch)
    return result


def stored_bytes(value: object) -> int:
    """How many bytes of UTF-8 Postgres writes for a jsonb: 1e308 has 309 digits there."""
    if isinstance(value, bool) or value is None:
        return len(json.dumps(value))
    if isinstance(value, str):
        return len(json.dumps(value, ensure_ascii=False).encode())
    if isinstance(value, int):
        return len(str(value))
    if isinstance(value, float):
        return len(format(Decimal(repr(value)), "f"))
    if isinstance(value, dict):
        return 2 + sum(stored_bytes(key) + 2 + stored_bytes(each) for key, each in value.items()) + _commas(value)
    if isinstance(value, list):
        return 2 + sum(map(stored_bytes, value)) + _commas(value)
    raise InvalidData(f"holds a {type(value).__name__}, which is no JSON")


def _commas(value: dict[str, Any] | list[Any]) -> int:
    return 2 * max(0, len(value) - 1)


def _normal(value: object, depth: int) -> Any:
    if isinstance(value, dict):
        if depth > DEEPEST:
            raise InvalidData(f"must not nest deeper than {DEEPEST} levels")
        return {_key(key): _normal(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        if depth > DEEPEST:
            raise InvalidData(f"must not nest deeper than {DEEPEST} levels")
        return [_normal(each, depth + 1) for each in value]
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise InvalidData(f"holds an integer beyond {LARGEST_INTEGER}")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidData("holds NaN or an infinite number")
        return int(value) if value.is_integer() and abs(value) <= LARGEST_INTEGER else value
    raise InvalidData(f"holds a {type(value).__name__}, which is no JSON")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidData("has a key that is no text")
    return _text(key)


def _text(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise InvalidData("must not contain NUL or unpaired surrogates")
    return text


def _integer(digits: str) -> int | float:
    value = int(digits) if len(digits) < 20 else float(digits)
    return float(value) if abs(value) > LARGEST_INTEGER else value


def _narrowed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _narrowed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_narrowed(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_INTEGER:
        return float(value)
    return value


def _merge(target: object, patch: object) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(result.get(key), value)
    return result
