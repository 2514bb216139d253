"""The funnel of chat drafts: what the ledger says, and what seed 003's own query says."""

from pydantic import Field

from api.database import Database
from api.wire import Answer

_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8

WHY_THEY_DIFFER = (
    "totals counts events of the ledger, which outlives the sessions; conversion is seed 003's query over "
    "the rows that are still there: it forgets every draft that was cleaned up or discarded and counts chats "
    "that were created active, and so looks better than it is."
)


class FunnelDay(Answer):
    """What became of chat drafts on one day (UTC)."""

    day: str
    created: int
    activated: int
    abandoned: int = Field(description="Taken by the cleanup.")
    restored: int = Field(description="Brought back from the archive.")
    discarded: int = Field(description="Ended by their owners before a first message.")


class FunnelTotals(Answer):
    """The days together."""

    created: int
    activated: int
    abandoned: int
    restored: int
    discarded: int
    conversion_rate_percent: float | None = Field(description="Null when no draft was created.")


class Conversion(Answer):
    """Seed 003's conversion query."""

    total_drafts: int
    activated: int
    conversion_rate_percent: float | None


class Funnel(Answer):
    """The funnel, per day and in total, beside seed 003's query over the same days."""

    days: list[FunnelDay]
    totals: FunnelTotals
    conversion: Conversion
    why_they_differ: str = WHY_THEY_DIFFER


def read_funnel(database: Database, days: int) -> Funnel:
    """Ask for the funnel of the last days, today included."""
    return Funnel.model_validate(
        database.call("lull_funnel", {"p_days": days}, timeout_seconds=_TIMEOUT_SECONDS)
    )
