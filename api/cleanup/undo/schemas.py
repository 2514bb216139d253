"""Requests and answers about runs, the archive, holds and pauses."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints, model_validator

from api.cleanup.parameters import rfc3339
from api.cleanup.schemas import SkippedRow
from api.http.schemas import Answer, NotNull, PlainDigits, Question, Time

_NO_NUL = r"^[^\x00]+$"
Key = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=_NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_NUL)]
Ids = Annotated[list[Key], Field(min_length=1, max_length=1000)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=_NO_NUL, strip_whitespace=True)]
Moment = Annotated[AwareDatetime, BeforeValidator(rfc3339)]
Limit = Annotated[int, Field(ge=1, le=100), PlainDigits]
Cursor = Annotated[str | None, NotNull()]

RunStatus = Literal["running", "completed", "partial", "stopped", "failed", "abandoned"]


class RestoreRun(Question):
    """What to restore of a run; empty: all of it."""

    policy: Name | None = Field(default=None, description="Only what this policy took, or this line of it.")
    ids: Ids | None = Field(default=None, description="Only these rows, by their keys.")

    def scope(self) -> dict[str, Any]:
        """The scope of the SQL functions, without the run."""
        return self.model_dump(exclude_none=True)


class RestoreArchive(Question):
    """What to restore of the archive: everything of an owner, or rows of a target."""

    owner: Name | None = Field(default=None, description="A user's id, or their email.")
    target: Name | None = None
    ids: Ids | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.owner is None) == (self.target is None and self.ids is None):
            raise ValueError("give either owner, or target and ids")
        if self.owner is None and (self.target is None or self.ids is None):
            raise ValueError("target and ids go together")
        return self

    def scope(self) -> dict[str, Any]:
        """The scope of the SQL functions."""
        return self.model_dump(exclude_none=True)


class MissingRow(Answer):
    """A row that could not come back, wholly or in part."""

    target: str
    key: str
    reason: str


class RestoreReport(Answer):
    """What a restore brought back. Call it again while `hasMore` is true."""

    restored: int = Field(description="Rows of the targets that are back.")
    children: int = Field(description="Rows below them that are back.")
    missing: list[MissingRow] = Field(
        description="Up to 100 rows that are not back, or not with everything below them: they stay archived with a "
        "full new window, and a later restore tries them again."
    )
    missing_total: int
    notes: list[str] = Field(description="What triggers changed or added on the way in.")
    busy: int = Field(description="Rows that other transactions had locked: call again.")
    remaining: int = Field(description="Archived rows that this call did not come to.")
    has_more: bool


class ArchiveQuery(Question):
    """Which archived rows to find; all without one of the first three."""

    owner: Annotated[Name | None, NotNull()] = Field(default=None, description="A user's id, or their email.")
    target: Annotated[Name | None, NotNull()] = None
    text: Annotated[Name | None, NotNull()] = Field(
        default=None, description="A key, which is found at once, or a text in the row, in letters of any case."
    )
    limit: Limit = 20
    cursor: Cursor = Field(default=None, max_length=3000, description="`nextCursor` of the page before.")


class ArchivedRow(Answer):
    """A row that can be restored."""

    target: str
    key: str
    owner: UUID | None
    policy: str
    run_id: UUID
    kind: Literal["batch", "remainder"] = Field(description="`remainder`: a restore could not bring all of it back.")
    reason: str | None = Field(description="Why it is a remainder.")
    archived_at: Time
    purge_after: Time | None
    row: dict[str, str | None] | None = Field(description="The row's columns as text; null: only rows below it.")


class ArchivedRows(Answer):
    """Archived rows, newest first."""

    archived: list[ArchivedRow]
    next_cursor: str | None = Field(description="Null when all was read: then what is not listed is not archived.")
    scanned_back: Time | None = Field(description="How far back this page has read; null when all was read.")


class NewHold(Question):
    """A row that no policy is to take."""

    target: Name
    key: Key
    reason: Reason
    until: Moment | None = Field(default=None, description="When the hold ends by itself; default: never.")


class Hold(Answer):
    """A row that no policy takes."""

    target: str
    key: str
    reason: str
    until: Time | None
    created_at: Time


class OneHold(Answer):
    """A hold."""

    hold: Hold


class HoldsQuery(Question):
    """Which holds to list."""

    target: Annotated[Name | None, NotNull()] = None
    limit: Limit = 100
    cursor: Cursor = Field(default=None, max_length=3000, description="`nextCursor` of the page before.")


class HeldRow(Question):
    """The row whose hold is to end."""

    target: Name
    key: Key


class HoldPage(Answer):
    """The holds in effect, by target and key."""

    holds: list[Hold]
    next_cursor: str | None


class Pause(Question):
    """What to pause, and why."""

    policy: Name | None = Field(default=None, description="Default: all policies.")
    reason: Reason
    until: Moment | None = Field(default=None, description="When the pause ends by itself; default: never.")


class Unpause(Question):
    """Which pause to end."""

    policy: Name | None = Field(default=None, description="Default: the pause of all policies.")


class PauseInEffect(Answer):
    """A pause."""

    policy: str | None = Field(description="Null: all policies.")
    since: Time
    until: Time | None
    reason: str | None


class Pauses(Answer):
    """The pauses in effect."""

    pauses: list[PauseInEffect]


class RunsQuery(Question):
    """Which runs to list."""

    status: Annotated[RunStatus | None, NotNull()] = None
    limit: Limit = 20
    cursor: Cursor = Field(default=None, max_length=200, description="`nextCursor` of the page before.")


class RunSummary(Answer):
    """A run in one line; the counts are sums over its policies."""

    id: UUID
    mode: Literal["run", "shadow"] = Field(description="`shadow`: it only watched (CLEANUP_MODE).")
    status: str
    caller: str
    at: Time
    started_at: Time
    finished_at: Time | None
    would_delete: int | None = Field(validation_alias="would", description="Null when a policy was not counted.")
    deleted: int = Field(validation_alias="did")
    cascaded: int
    files: int
    policies: int
    failed: int = Field(description="How many policies failed.")
    stopped: int = Field(description="How many policies the breaker stopped.")
    restored: int = Field(description="Rows that came back since.")
    returned: int | None = Field(
        description="Of a shadow run: rows that it would have been the first to delete, and that were used since."
    )


class RunPage(Answer):
    """Runs, newest first."""

    runs: list[RunSummary]
    next_cursor: str | None


class RunLine(Answer):
    """What a run did under one policy, or for one adopted table of it."""

    name: str = Field(validation_alias="policy")
    table: str | None
    target: str
    outcome: str = Field(description="pending, open, completed, partial, stopped, failed, paused or shadow.")
    cutoff: Time | None
    oldest: Time | None = Field(description="The oldest stale row when the policy was opened.")
    would_delete: int | None = Field(validation_alias="would")
    capped: bool
    would_cascade: dict[str, int]
    would_files: int | None
    deleted: int = Field(validation_alias="did")
    cascaded: int
    files: int
    batches: int
    ms: float
    stop_reason: str | None
    error: str | None
    skipped_rows: list[SkippedRow]
    kept: int
    kept_rows: list[SkippedRow]
    busy: int
    restored: int
    returned: int | None


class Progress(Answer):
    """How far a run in flight is."""

    policies_done: int
    policies: int
    rows_done: int
    rows_expected: int = Field(description="Of the policies that were opened.")
    policy: str | None = Field(description="The policy that is being worked on.")
    lease_until: Time
    lease_expired: bool = Field(description="True: it went silent, and the next run takes over.")
    seconds: float


class RunDetails(Answer):
    """A run with its policies."""

    run: RunSummary
    lines: list[RunLine]
    file_removals: dict[str, Any]
    progress: Progress | None = Field(description="Null when it is over.")


