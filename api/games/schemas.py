"""Requests and answers about games and the instances that own them."""

import hashlib
import json
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Path
from pydantic import Field, StringConstraints, field_validator, model_validator

from api.http.schemas import Answer, Number, Question, Session, Time, Words

MOST_EVENTS = 20  # of a command's own
LARGEST_PAGE = 500  # games that one recovery hands out

# What Lull appends to the event log by itself: a command's own events have other names.
LULLS_EVENTS = frozenset(
    {
        *("created", "activated", "paused", "resumed", "ended", "claimed", "archived", "restored", "purged"),
        *("initialized", "command_processed", "error", "terminated", "recovered"),
    }
)

_Number = Annotated[int, Field(ge=0, lt=2**53), Number]  # a larger one is another number in JavaScript
_EventName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
InstanceName = Annotated[
    str,
    Path(
        alias="id",
        pattern=r"^[A-Za-z0-9_.:@-]{1,100}$",
        description="The name of the process, the same after each restart.",
    ),
]


class OwnEvent(Question):
    """An event of a command's own."""

    event: _EventName
    data: dict[str, Any] = Field(default={}, description="What a reader of the event log needs; not the state.")

    @field_validator("event")
    @classmethod
    def _is_not_lulls(cls, name: str) -> str:
        if name in LULLS_EVENTS:
            raise ValueError("is the name of an event of Lull's own")
        return name


class Command(Question):
    """A command that an active game took: it changes the state, or reports an error and keeps it."""

    command_id: Words = Field(description="Sent again, the command is not applied again, for 7 days.")
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    version: Annotated[int, Field(ge=1, lt=2**31 - 1), Number] = Field(
        description="The game's version that the command was decided on; 412 for any other."
    )
    patch: dict[str, Any] | None = Field(
        default=None, description="A JSON merge patch (RFC 7396) of the state; without it the state stays."
    )
    error: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = Field(
        default=None, description="Why the command failed: state and version stay. Not together with a patch."
    )
    events: list[_EventName | OwnEvent] = Field(default=[], max_length=MOST_EVENTS)
    fence: _Number | None = Field(
        default=None, description="That of the claim. Needed while an instance owns the game."
    )

    @field_validator("events", mode="after")
    @classmethod
    def _are_objects(cls, events: list[str | OwnEvent]) -> list[OwnEvent]:
        return [OwnEvent(event=each) if isinstance(each, str) else each for each in events]

    @model_validator(mode="after")
    def _has_one_outcome(self) -> Self:
        if self.patch is not None and self.error is not None:
            raise ValueError("has a patch and an error: a command that failed changes nothing")
        return self

    def argument(self) -> dict[str, Any]:
        """The `p_command` of lull_apply_command.

        The fence is no part of the hash: it is the sender's credential, and a new owner may repeat a command.
        """
        said = self.model_dump()
        hashed = {name: value for name, value in said.items() if name != "fence"}
        text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
        said["id"] = said.pop("command_id")
        return {**said, "hash": hashlib.sha256(text.encode()).hexdigest()}


class Applied(Answer):
    """What became of a command."""

    version: int = Field(description="The version that the command made; for an error, the one that it kept.")
    fence: int | None = Field(description="The game's fence now; null when a repeated command's game is gone.")
    replayed: bool = Field(description="The command was applied before, and nothing was done now.")


class Open(Question):
    """An instance that starts."""

    lease_seconds: Annotated[int, Field(ge=10, le=3600), Number] | None = Field(
        default=None, description="How long its lease runs without a renewal; default INSTANCE_LEASE_SECONDS."
    )


class Incarnation(Question):
    """A start of an instance."""

    incarnation: _Number = Field(description="The answer to `open`.")


class Recovery(Incarnation):
    """How many games to recover."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), Number] = 100


class Claim(Incarnation):
    """Make an instance the owner of a game."""

    force: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="Take the game from another instance whose lease runs."
    )
    restarted: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="The game's own process failed and starts again: counts against RESTART_LIMIT."
    )


class Release(Incarnation):
    """Give a game up."""

    fence: _Number


class Opened(Answer):
    """A start of an instance: send `incarnation` with everything that it does."""

    incarnation: int
    lease_until: Time


class Renewed(Answer):
    """A renewed lease, and what the instance has to know."""

    lease_until: Time
    displaced: list[UUID] = Field(description="Games that were taken from this instance by force: stop them.")
    orphans: int = Field(description="Games that can be recovered, counted up to 1,000.")


class Closed(Answer):
    """The answer of `lull_close_instance`."""

    closed: bool


class Owned(Answer):
    """A game and its new fence. A game that was restarted too often is `ended`, and has no new owner."""

    session: Session
    fence: int


class Freed(Answer):
    """The answer of `lull_release_session`."""

    fence: int


class Recovered(Answer):
    """Games that the caller owns from now on, with their states and fences."""

    sessions: list[Session]
    more: int = Field(description="Orphans that are left, also those that another call holds just now, up to 1,000.")
    passed_over: int = Field(description="Games that were recovered RECOVERY_LIMIT times without a command.")
