"""The step of a cleanup run that prunes a store other than Postgres, which policies prune."""

import logging
import time
from collections.abc import Callable
from typing import Any

from api.settings import Settings
from api.user_sessions.provider import UserSessionError, UserSessionProvider

log = logging.getLogger("lull.user_sessions")

_AT_ONCE = 1000
_LONGEST_SECONDS = 5.0
_DAY_SECONDS = 86_400.0


def prune(settings: Settings, store: Callable[[], UserSessionProvider], *, dry_run: bool) -> dict[str, Any] | None:
    """Remove stale user sessions for 5 s at most, or count up to 1,000 of them; None where Postgres is the store.

    Answers {"store", "count", "more", "error"}. Never raises: the run has its report already.
    """
    if settings.user_session_store == "postgres":
        return None
    age = settings.ages()["USER_SESSION_MAX_AGE_HOURS"] or _DAY_SECONDS
    report: dict[str, Any] = {"store": settings.user_session_store, "count": 0, "more": False, "error": None}
    ends = time.monotonic() + _LONGEST_SECONDS
    try:
        while True:
            done = store().cleanup_old_sessions(age, _AT_ONCE, dry_run=dry_run)
            report["count"] += done.count
            report["more"] = done.more
            if dry_run or not done.more or time.monotonic() >= ends:
                return report
    except UserSessionError as error:
        log.error("user sessions were not pruned", extra={"fields": {"error": str(error)}})
        report["error"] = (
            f"The store of user sessions does not answer ({type(error).__name__}); nothing else was touched."
        )
        return report
