"""Checks of rooms: whether the sweep runs that warns before sessions expire."""

from datetime import datetime, timedelta

from api.doctor.check_result import CheckResult, ok, warn
from api.doctor.schemas import DatabaseState

_LONGEST_GAP = timedelta(minutes=5)
_FIX = (
    "let a scheduler send POST /api/admin/sweep each minute; make serve, infra/supabase/pg_cron.sql and "
    "infra/aws/template.yaml have it"
)


def check_sweeps(database_state: DatabaseState) -> list[CheckResult]:
    """A sweep ran within 5 minutes where policies warn and a session of theirs is active."""
    sweeps = database_state.sweeps
    if not sweeps.warning:
        return [ok("sweeps", "no policy warns before sessions expire")]
    last = sweeps.last_started_at
    if last and datetime.fromisoformat(database_state.at) - datetime.fromisoformat(last) <= _LONGEST_GAP:
        return [ok("sweeps", f"the last one began at {last}")]
    names = ", ".join(sweeps.warning)
    if not sweeps.needed:
        return [ok("sweeps", f"none runs; no session is active that {names} would warn about")]
    since = f"since {last}" if last else "yet"
    message = f"{names} warn before sessions expire, and no sweep ran {since}: no user is warned."
    return [warn("sweeps", message, _FIX)]
