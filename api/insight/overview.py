"""The dashboard's overview: one call of the database, and an ETag that is the same while nothing has changed."""

import hashlib

from api.database import Database
from api.flags import Decision
from api.insight.dashboard_schemas import Overview
from api.insight.schemas import Flag

_TIMEOUT_SECONDS = 10  # the function's own statement time-out is 8
_OF_THE_MOMENT: dict[str, bool | set[str]] = {"at": True, "running": {"seconds"}}


def read_overview(database: Database, interval_minutes: int, decision: Decision) -> tuple[Overview, str]:
    """Read the overview, and make its ETag: of all but the time of reading."""
    known = database.call("lull_overview", {"p_interval_minutes": interval_minutes}, timeout_seconds=_TIMEOUT_SECONDS)
    flag = Flag(value=decision.value, variant=decision.variant, reason=decision.reason)
    overview = Overview.model_validate({**known, "flag": flag})
    content = overview.model_dump_json(exclude=_OF_THE_MOMENT)
    return overview, f'"{hashlib.sha256(content.encode()).hexdigest()[:24]}"'
