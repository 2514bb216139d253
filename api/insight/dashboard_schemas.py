"""Requests and answers of the dashboard's routes: the overview, and what an age would cost."""

from typing import Annotated, Literal

from pydantic import Field

from api.http.cleanup_facts import AlertFact
from api.http.schemas import Answer, Question, Time
from api.insight.schemas import Flag


class RegretQuery(Question):
    """Whose threshold, and the regret that is accepted."""

    kind: Literal["chat", "room", "game"] = "chat"
    status: Literal["draft", "active"] = "draft"
    regret: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        default=0.01, description="The share of deleted sessions that may have come back."
    )


class RegretPoint(Answer):
    """The regret at one age: shares from 0 to 1, null where no session was idle for that long."""

    hours: int
    crossings: int = Field(description="Sessions that were idle for that long.")
    returned: int = Field(description="Of these, how many came back within 168 hours of their last use.")
    regret: float | None = Field(description="The share that comes back; gaps that were cut short are allowed for.")
    low: float | None = Field(description="The lower bound of the 95 % interval.")
    high: float | None
    sentence: str


class Regret(Answer):
    """What an age of a policy costs: of the sessions that it takes, how many would have come back."""

    kind: str
    status: str
    enough: bool
    reason: str | None = Field(description="Why there is no recommendation; null when there is enough data.")
    regret: float
    present_hours: float | None = Field(description="The age of today's policy; null when none takes such sessions.")
    recommended_hours: int | None = Field(description="The smallest age whose upper bound is within the regret.")
    warning: str | None = Field(description="Set when the present age is worse than the regret, with certainty.")
    curve: list[RegretPoint]


class SessionCount(Answer):
    """The sessions of one kind and status in `lull.sessions`."""

    kind: str
    status: str
    n: int
    counted_at: Time | None = Field(description="Null: now. Above 10,000 sessions in all: when a run last counted.")


class BacklogLine(Answer):
    """What the newest run of a policy left; a line for each adopted table."""

    policy: str
    table: str | None
    rows: int | None = Field(description="Null when it is not known, as of a run that was paused or only watched.")
    oldest: Time | None
    outcome: str
    at: Time | None


class RunInBrief(Answer):
    """A run in one line."""

    id: str
    mode: str
    whole: bool = Field(description="Whether it was a run of all policies.")
    status: str
    caller: str
    started_at: Time
    finished_at: Time | None
    would_delete: int | None = Field(validation_alias="would")
    deleted: int = Field(validation_alias="did")
    cascaded: int
    failed: int = Field(description="Policies that failed.")
    stopped: int = Field(description="Policies that the breaker stopped.")
    restored: int


class RunningRun(Answer):
    """How far the run in flight is."""

    id: str
    started_at: Time
    policies_done: int
    policies: int
    rows_done: int
    rows_expected: int
    policy: str | None
    lease_expired: bool
    seconds: float


class PauseLine(Answer):
    """A pause in effect."""

    policy: str | None = Field(description="Null: all policies.")
    since: Time
    until: Time | None
    reason: str | None


class Overview(Answer):
    """What the dashboard shows at a glance: one snapshot of the database."""

    at: Time
    interval_minutes: int
    sessions: list[SessionCount]
    rooms_online: int = Field(description="Sessions with anyone present in the last two minutes; up to 10,000 people.")
    backlog: list[BacklogLine]
    runs: list[RunInBrief] = Field(description="The last 30, newest first.")
    running: RunningRun | None
    next_run_at: Time | None
    pauses: list[PauseLine]
    holds: int = Field(description="Counted up to 10,001.")
    alerts: list[AlertFact]
    flag: Flag = Field(description="`early_sessions` for a caller without an account.")
