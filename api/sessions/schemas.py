"""Requests and answers about sessions."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from api.http.rate_limits import Limit
from api.http.schemas import (
    TABLE_PATTERN,
    Answer,
    Kind,
    NotNull,
    OneSession,
    PlainDigits,
    Question,
    Session,
    Status,
    Time,
    Words,
)

Mode = Annotated[Words, StringConstraints(max_length=50)]


class NewSession(Question):
    """A session to create: `draft` has no message yet, `active` begins with its first message."""

    kind: Kind
    title: Words | None = None
    external_key: Words | None = Field(
        default=None,
        description="Your own identifier. That of a game is the service's, and unique among open games.",
    )
    guild_id: Words | None = Field(default=None, description="Only of a game of the service, which needs it.")
    mode: Mode | None = Field(default=None, description="A game of the service needs it.")
    metadata: dict[str, Any] = Field(
        default={}, description="At most 16 KiB (or MAX_STATE_BYTES, if that is less) as Postgres writes JSON."
    )
    state: dict[str, Any] | None = Field(
        default=None, description="Only of a game of the service: what it begins with, at most MAX_STATE_BYTES."
    )
    status: Literal["draft", "active"] = "draft"
    table: Annotated[str, StringConstraints(pattern=TABLE_PATTERN)] | None = Field(
        default=None,
        description="An adopted table, such as `public.chats`: your app inserts its own row with the new id.",
    )


class WhichSessions(Question):
    """Filters of sessions; all that are given must match."""

    kind: Annotated[Kind | None, NotNull()] = None
    status: Annotated[Status | None, NotNull()] = None
    external_key: Annotated[Words | None, NotNull()] = None
    guild_id: Annotated[Words | None, NotNull()] = None
    mode: Annotated[Mode | None, NotNull()] = None

    def where(self) -> dict[str, Any]:
        """What only sessions of Lull's own table have."""
        return {"external_key": self.external_key, "guild_id": self.guild_id, "mode": self.mode}


class ListQuery(WhichSessions):
    """Which sessions to list."""

    limit: Annotated[int, Field(ge=1, le=100), PlainDigits] = 20
    cursor: Annotated[str | None, NotNull()] = Field(
        default=None, max_length=200, description="`nextCursor` of the page before."
    )


class EventsQuery(Question):
    """Which events to read."""

    after: Annotated[int, Field(ge=0, lt=10**18), PlainDigits] = Field(
        default=0, description="The last event id that the caller has seen."
    )
    table: Annotated[str | None, NotNull()] = Field(
        default=None, pattern=TABLE_PATTERN, description="The adopted table that the session is in."
    )
    limit: Annotated[int, Field(ge=1, le=100), PlainDigits] = 100


class CreatedSession(OneSession):
    """A new session."""

    session_token: str | None = Field(
        default=None, description="Only for an anonymous caller: send it as `X-Session-Token`."
    )


class Creation(OneSession):
    """The answer of `lull_create_session`."""

    replayed: bool
    token_rotation: int
    limits: list[Limit] | None = None


class SessionPage(Answer):
    """Sessions, newest first."""

    sessions: list[Session]
    next_cursor: str | None


class Position(Answer):
    """The end of a page: the creation time and id of its last session."""

    created_at: str
    id: UUID


class ListedSessions(Answer):
    """The answer of `lull_list_sessions`."""

    sessions: list[Session]
    next: Position | None


class Counts(Answer):
    """How many sessions there are."""

    count: int
    by_status: dict[Status, int]


class Event(Answer):
    """Something that happened to a session."""

    id: int
    event: str
    at: Time
    data: dict[str, Any]


class EventPage(Answer):
    """Events, oldest first."""

    events: list[Event]
    more: bool = Field(description="There are more events after the last of these.")
