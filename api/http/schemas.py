"""Schemas that several features share: value formats, and a session as its owner sees it.

JSON is camelCase, times are RFC 3339 in UTC, numbers in queries are plain digits.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema


def absent(value: object) -> bool:
    """Whether a member is left out of an answer: it is only there for some kinds of session."""
    return value is None


Kind = Literal["chat", "room", "game"]
Status = Literal["draft", "active", "paused", "ended"]
AnyStatus = Literal["draft", "active", "paused", "ended", "other"]


class NotNull:
    """Omits null from the OpenAPI schema, where None means that the value was not sent."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        shown = handler(schema)
        return next(each for each in shown["anyOf"] if each != {"type": "null"})


def utc(value: object) -> object:
    """A time as RFC 3339 in UTC. A text that Python cannot represent as a time (infinity, BC) stays as it is."""
    try:
        moment = datetime.fromisoformat(str(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return value
    return moment.isoformat().replace("+00:00", "Z")


def digits(value: object) -> object:
    """Accept plain digits only: no 1e3, no 1_000, no sign."""
    if not re.fullmatch(r"[0-9]{1,18}", str(value)):
        raise ValueError("must be a whole number")
    return value


def number(value: object) -> object:
    """Accept a JSON number only, such as 3 or 3.0: no text and no boolean. Whether it must be whole says its type."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number")
    return value


Time = Annotated[str, BeforeValidator(utc), Field(json_schema_extra={"format": "date-time"})]
Number = BeforeValidator(number)
PlainDigits = BeforeValidator(digits)  # after the limits: before them, the OpenAPI document would lack them


class Answer(BaseModel):
    """Validated from a SQL function's snake_case, serialised in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Question(BaseModel):
    """A body or a query in camelCase; unknown names are refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")


def _canonical(value: object) -> object:
    """Accept a UUID in the form 8-4-4-4-12 only: no braces, no urn, no bare digits."""
    text = str(value)
    if len(text) != 36 or text.count("-") != 4:
        raise ValueError("must be a UUID")
    return value


Id = Annotated[UUID, BeforeValidator(_canonical)]
SessionId = Annotated[Id, Path(alias="id")]
TABLE_PATTERN = r"^[^\x00-\x1f]{1,200}$"
Table = Annotated[
    str | None,
    NotNull(),
    Query(
        pattern=TABLE_PATTERN,
        description="The adopted table that the session is in (`lull.sessions`: none). "
        "Needed only where several sessions of the caller have this id.",
    ),
]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Nothing(Question):
    """No fields at all."""


class Session(Answer):
    """A session as its owner sees it."""

    id: UUID
    table: str | None = Field(
        default=None, description="The adopted table that holds it; null for one that only the API has."
    )
    kind: Kind
    status: AnyStatus = Field(description="`other`: a status of the table that its adoption does not name.")
    title: str | None
    external_key: str | None
    mode: str | None
    metadata: dict[str, Any]
    version: int = Field(description="Grows with every change; send it back as `If-Match`.")
    created_at: Time
    first_message_at: Time | None
    last_activity_at: Time
    paused_at: Time | None
    ended_at: Time | None
    end_reason: str | None
    expired: bool = Field(description="Active, and without activity for longer than its policy allows.")
    guild_id: str | None = Field(default=None, exclude_if=absent, description="Only of a game.")
    fence: int | None = Field(
        default=None, exclude_if=absent, description="Only of a game: grows with each change of the instance."
    )
    instance: str | None = Field(
        default=None, exclude_if=absent, description="Only of a game: the name of the instance that owns it."
    )
    state: dict[str, Any] | None = Field(
        default=None, exclude_if=absent, description="Only of a game, and for the service, where one game is read."
    )


class OneSession(Answer):
    """A session."""

    session: Session
