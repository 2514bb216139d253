"""How values travel: camelCase and UTC times in JSON, plain digits in queries, bodies of one object."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from api.errors import Problem, invalid_request, validation_problem

LONGEST_BODY = 64 * 1024
DEEPEST = 64
LONGEST_NUMBER = 1000

Body = TypeVar("Body", bound=BaseModel)


class NotNull:
    """Says in the document what None means where nobody can send a null: that it was not sent."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        shown = handler(schema)
        return next(each for each in shown["anyOf"] if each != {"type": "null"})


def utc(value: object) -> object:
    """A time as RFC 3339 in UTC; a text that is no time of this calendar (infinity, BC) as it is."""
    try:
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return value
    return moment.isoformat().replace("+00:00", "Z")


def digits(value: object) -> object:
    """Only plain digits: no 1e3, no 1_000, no sign."""
    if not re.fullmatch(r"[0-9]{1,18}", str(value)):
        raise ValueError("must be a whole number")
    return value


Time = Annotated[str, BeforeValidator(utc), Field(json_schema_extra={"format": "date-time"})]
PlainDigits = BeforeValidator(digits)  # behind the limits: before it, they would be missing in the document


class Answer(BaseModel):
    """Validated from a SQL function's snake_case, dumped in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Question(BaseModel):
    """A body or a query in camelCase; unknown names are refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


async def refuse_repetition(request: Request) -> None:
    """Refuse a parameter, or a header that changes what is done, that was given twice: which one is meant?"""
    names = [name for name, _ in request.query_params.multi_items()]
    names += [name for name in request.headers if name in {"if-match", "idempotency-key"}]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise invalid_request(*((name, "given more than once") for name in repeated))


async def read_body(request: Request) -> bytes:
    """The body as it was sent; 422 as soon as it is longer than anything that is meant for this API."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            raise invalid_request(("body", f"must be at most {LONGEST_BODY} bytes"))
    return body


def parse_body(body: bytes, model: type[Body], *, optional: bool = False) -> Body:
    """The JSON object in a body, as this model; no body at all is an empty object where that is `optional`.

    Raises 400 for what is not JSON, and 422 that names the field for JSON that cannot be meant or stored:
    names given twice, text with NUL or half a surrogate pair, endless numbers, bottomless nesting.
    """
    if not body.strip():
        if optional:
            return model()
        raise invalid_request(("body", "must be a JSON object, and is empty"))
    try:
        value = json.loads(
            body.decode(), parse_constant=_no_number, parse_int=_integer, object_pairs_hook=_object
        )
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
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise validation_problem(error.errors()) from None


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
    """What Postgres could not store of a JSON value."""
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
