"""Requests and answers about rooms."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.http.schemas import Answer, Id, NotNull, Number, PlainDigits, Question, Time

Tab = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,64}$"),
    Field(description="A name that the page makes for itself, such as a random UUID; each open page has its own."),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]


class Join(Question):
    """How to join a session: `direct` is for its owner, the service, and people with a row; others need an invite."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"properties": {"accessMethod": {"const": "direct"}}}, {"required": ["invite"]}]}
    )

    access_method: Literal["direct", "invite"]
    invite: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=200)] | None,
        NotNull(),
        Field(description="The token in the link of an invitation."),
    ] = None
    name: Annotated[Name | None, NotNull(), Field(description="What the others see.")] = None
    anonymous_id: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22,64}$")] | None,
        NotNull(),
        Field(
            description="Without an account: a random secret of at least 122 bits, such as a UUID, that the page makes "
            "before its first join and keeps. It makes a second tab the same participant."
        ),
    ] = None
    user_id: Annotated[
        Id | None, NotNull(), Field(description="The user whom the service acts for; no other caller may send it.")
    ] = None
    tab: Tab

    @model_validator(mode="after")
    def _an_invite_needs_its_token(self) -> "Join":
        if self.access_method == "invite" and self.invite is None:
            raise ValueError("invite: the access method invite needs the token of one")
        return self


class OneTab(Question):
    """The page that a heartbeat is of."""

    tab: Tab


class Leave(Question):
    """What leaves: one page, or the person."""

    tab: Annotated[Tab | None, NotNull(), Field(description="The page that is closed; without it the person.")] = None


class NewInvite(Question):
    """An invite to create."""

    expires_in_hours: Annotated[float, Field(gt=0, le=720, allow_inf_nan=False), Number] = 24
    max_uses: Annotated[Annotated[int, Field(ge=1, le=1_000_000), Number] | None, NotNull()] = Field(
        default=None, description="How many people may join by it; without it, any number."
    )


class InviteRequest(BaseModel):
    """What an `Idempotency-Key` of an invite is for."""

    session: str
    expires_in_hours: float
    max_uses: int | None


class Participant(Answer):
    """A person in a session, as the others see them."""

    id: UUID
    name: str | None
    state: Literal["here", "away"] = Field(description="`away`: no sign of life for three heartbeats.")
    joined_at: Time
    you: bool


class ListedParticipant(Participant):
    """The same in a list."""

    user_id: UUID | None = Field(default=None, description="For the session's owner and the service only.")


class Expiry(Answer):
    """When a session expires if nothing happens in it; null for one that does not."""

    expires_at: Time | None
    warn_at: Time | None


class Beat(Expiry):
    """What a participant needs to know for its next heartbeat."""

    status: str
    beat_seconds: int = Field(description="Seconds until the next heartbeat.")


class Joined(Beat):
    """A participant of a session."""

    participant: Participant
    participant_token: str = Field(description="Send it as `X-Participant-Token`; it needs nothing else beside it.")


class SessionExpiry(Expiry):
    """Whether and when a session expires, and why."""

    expired: bool
    seconds_left: int | None
    reason: Literal["draft", "active", "idle", "paused", "ended", "never", "cleaned"]


class Invite(Answer):
    """An invite, with the token for its link."""

    id: UUID
    token: str = Field(description="Put it into the fragment of a link: it is in no log then.")
    created_at: Time
    expires_at: Time
    max_uses: int | None
    uses: int
    revoked_at: Time | None
    open: bool = Field(description="Whether people can still join by it.")


class InviteList(Answer):
    """The invites of a session, newest first."""

    invites: list[Invite]


class RoomsQuery(Question):
    """How many rooms to list."""

    limit: Annotated[int, Field(ge=1, le=1000), PlainDigits] = 100


class Room(Answer):
    """A room that is open."""

    id: UUID
    participants: int
    last_activity_at: Time


class RoomsReport(Answer):
    """Statistics of rooms that are open: `inactive` ones were not used for longer than their policy allows."""

    total_sessions: int
    active_sessions: int
    inactive_sessions: int
    rooms: list[Room] = Field(description="Those used last, first.")


class LastSweep(Answer):
    """The last sweep."""

    started_at: Time
    finished_at: Time | None
    warned: int
    told: int


class SweepPreview(Answer):
    """What a sweep would do now."""

    would_warn: int
    would_tell: int
    last: LastSweep | None


class SweepReport(Answer):
    """What a sweep did."""

    warned: int = Field(description="Sessions that were warned about.")
    told: int = Field(description="Participants who were told as away or left.")
    moved: int = Field(description="Sessions whose own clock followed that of a participant.")
    has_more: bool = Field(description="The time budget was used up; the next sweep goes on.")


class InviteRow(Answer):
    """An invite as SQL answers it."""

    id: UUID
    created_at: str
    expires_at: str
    max_uses: int | None
    uses: int
    revoked_at: str | None
    open: bool


class CreatedInvite(Answer):
    """The answer of `lull_create_invite`."""

    invite: InviteRow
    replayed: bool


class InviteRows(Answer):
    """The answer of `lull_list_invites`."""

    invites: list[InviteRow]


class Refusal(Answer):
    """A try with an invite that was refused, and counted."""

    status: int
    type: str
    message: str
    members: dict[str, Any]


class JoinAnswer(Answer):
    """The answer of `lull_join_session`."""

    refused: Refusal | None = None
    participant: Participant | None = None
    status: str = ""
    expires_at: str | None = None
    warn_at: str | None = None


class Present(Answer):
    """The answer of `lull_heartbeat` and `lull_touch_session`."""

    status: str
    expires_at: str | None
    warn_at: str | None


class ParticipantRows(Answer):
    """The answer of `lull_list_participants`."""

    participants: list[ListedParticipant]


class Done(Answer):
    """The answer of an operation that says nothing further."""


class SweepPart(Answer):
    """The answer of `lull_sweep`."""

    warned: int
    told: int
    moved: int
    next: dict[str, Any] | None
