"""What callers send about sessions, and what they get."""

import json
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from api.wire import Answer, NotNull, PlainDigits, Question, Time

LARGEST_METADATA = 16 * 1024

Kind = Literal["chat", "room", "game"]
Status = Literal["draft", "active", "paused", "ended"]


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > LARGEST_METADATA:
        raise ValueError(f"must be at most {LARGEST_METADATA} bytes as JSON")
    return metadata


def _canonical(value: object) -> object:
    """Only the form 8-4-4-4-12: no braces, no urn, no digits alone."""
    text = str(value)
    if len(text) != 36 or text.count("-") != 4:
        raise ValueError("must be a UUID")
    return value


Id = Annotated[UUID, BeforeValidator(_canonical)]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class NewSession(Question):
    """A session to create. `draft` is one without a message yet; `active` begins with its first message."""

    kind: Kind
    title: Words | None = None
    external_key: Words | None = Field(default=None, description="Your own name for it.")
    mode: Annotated[Words, StringConstraints(max_length=50)] | None = None
    metadata: Metadata = Field(default={}, description="At most 16 KiB as JSON.")
    status: Literal["draft", "active"] = "draft"


class End(Question):
    """How a session ends."""

    reason: Words | None = Field(default=None, description="Default: `discarded` for a draft, else `ended`.")


class Nothing(Question):
    """No fields at all."""


class ListQuery(Question):
    """Which sessions to list."""

    kind: Annotated[Kind | None, NotNull()] = None
    status: Annotated[Status | None, NotNull()] = None
    limit: Annotated[int, Field(ge=1, le=100), PlainDigits] = 20
    cursor: Annotated[str | None, NotNull()] = Field(
        default=None, max_length=200, description="`nextCursor` of the page before."
    )


class EventsQuery(Question):
    """Which events to read."""

    after: Annotated[int, Field(ge=0, lt=10**18), PlainDigits] = Field(
        default=0, description="The last event id seen before."
    )
    limit: Annotated[int, Field(ge=1, le=100), PlainDigits] = 100


class Session(Answer):
    """A session as its owner sees it."""

    id: UUID
    kind: Kind
    status: Status
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


class OneSession(Answer):
    """A session."""

    session: Session


class CreatedSession(OneSession):
    """A new session."""

    session_token: str | None = Field(
        default=None, description="Only for an anonymous caller: send it back as `X-Session-Token`."
    )


class SessionPage(Answer):
    """Sessions, newest first."""

    sessions: list[Session]
    next_cursor: str | None


class Event(Answer):
    """Something that happened to a session."""

    id: int
    event: str
    at: Time
    data: dict[str, Any]


class EventPage(Answer):
    """Events, oldest first."""

    events: list[Event]
    more: bool = Field(description="There are more after the last of these.")
