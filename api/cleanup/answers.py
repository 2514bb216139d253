"""What the SQL functions of a run answer, as the run reads it. The reports for callers are in schemas.py."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Begun(BaseModel):
    """`lull_begin_cleanup`: a run with its lease, or why there is none (`reason`, `since`, `message`)."""

    started: bool
    run_id: str | None
    token: str | None = None
    policies: list[str] = []
    reason: str | None = None
    since: str | None = None
    message: str | None = None


class Opened(BaseModel):
    """`lull_open_policy`: `open`, or how the line ended without a batch."""

    outcome: str


class Batch(BaseModel):
    """`lull_cleanup_lane`: rows locked, what failed or was skipped, and the size of the next batch.

    `active`: how many other clients the database is at work for at the end; `alone`: none of late. `ms`: its duration.
    """

    locked: int = 0
    done: bool = False
    failed: dict[str, Any] | None = None
    skipped: Any = None
    alone: bool = False
    active: float = 0
    ms: float = 0
    next_size: int | None = None


class FileRemoval(BaseModel):
    """An object to remove from Storage."""

    id: int
    bucket: str
    path: str


class FileClaim(BaseModel):
    """`lull_claim_file_removals`: objects to remove, and how many removals were cancelled."""

    removals: list[FileRemoval]
    cancelled: int


class SampledRow(BaseModel):
    """A row that a run would take."""

    key: str
    kind: str | None
    status: str | None
    clock: str
    files: int


class Line(BaseModel):
    """A policy (or one of its adopted tables) in a dry run or a run. Further fields go into the report as they are."""

    model_config = ConfigDict(extra="allow")

    policy: str
    would: int | None

    def fields(self, model: type[BaseModel]) -> dict[str, Any]:
        """The fields that this model has, too."""
        known = self.model_dump()
        return {name: known[name] for name in model.model_fields if name in known}


class PreviewedLine(Line):
    """A line of `lull_preview_cleanup`."""

    sample: list[SampledRow] = []


class Preview(BaseModel):
    """`lull_preview_cleanup`, for all policies at one time."""

    at: str
    policies: list[PreviewedLine]


class FinishedLine(Line):
    """A line of `lull_finish_cleanup`; `ms` is the duration of its batches."""

    did: int
    outcome: str
    ms: float
    stop_reason: str | None
    error: str | None
    skipped_rows: list[dict[str, Any]]


class FinishedRun(BaseModel):
    """`lull_finish_cleanup`; `user_sessions` is what was pruned outside of the database."""

    run_id: str
    mode: str = "run"
    at: str
    status: str = "completed"
    duration_ms: int
    files: dict[str, Any]
    policies: list[FinishedLine]
    user_sessions: dict[str, Any] | None = None
