"""The funnel of chat drafts by the event log, beside the conversion query over existing rows."""

from api.database import Database
from api.insight.schemas import Funnel

_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8


def read_funnel(database: Database, days: int) -> Funnel:
    """Read the funnel of the last days, today included."""
    return Funnel.model_validate(database.call("lull_funnel", {"p_days": days}, timeout_seconds=_TIMEOUT_SECONDS))
