"""User sessions in lull.user_sessions, through the one door to Postgres."""

from datetime import datetime
from typing import Any

from api.database import Database
from api.errors import Problem
from api.user_sessions.json_data import checked, from_postgres
from api.user_sessions.provider import (
    MOST_PER_PAGE,
    ActivePage,
    Conflict,
    Data,
    Pruned,
    Record,
    Stats,
    StoreAway,
    Version,
    new_version,
)

_TIMEOUT_SECONDS = 10  # the functions' own statement time-out is 8


class PostgresProvider:
    """One call of a SQL function an operation. Pruned by the policies of the cleanup run."""

    def __init__(self, database: Database, namespace: str, idle_seconds: float) -> None:
        self._database = database
        self._common = {"p_namespace": namespace, "p_idle_seconds": idle_seconds}

    def get_session(self, user: str) -> Record | None:
        """The live record of a user."""
        found = self._call("lull_get_user_session", p_user=user)["record"]
        if found is None:
            return None
        ends = found["expires_at"]
        return Record(
            from_postgres(found["data"]),
            found["version"],
            datetime.fromisoformat(found["active_at"]),
            datetime.fromisoformat(ends) if ends else None,
        )

    def has_session(self, user: str) -> bool:
        """Whether a user has a live record."""
        return bool(self._call("lull_has_user_session", p_user=user)["live"])

    def set_session(
        self,
        user: str,
        data: Data,
        expected_version: str | None = None,
        *,
        new_version: str | None = None,
        expires_at: datetime | None = None,
    ) -> Version:
        """Write a record and return its version."""
        answer = self._call(
            "lull_set_user_session",
            p_user=user,
            p_data=checked(data),
            p_expected=expected_version,
            p_new=new_version or _drawn(),
            p_expires_at=expires_at.isoformat() if expires_at else None,
        )
        if answer["version"] is None:
            raise Conflict(answer["current"])
        return Version(answer["version"])

    def delete_session(self, user: str) -> bool:
        """Delete unconditionally; True where there was a live record."""
        return bool(self._call("lull_delete_user_session", p_user=user)["live"])

    def touch(self, user: str) -> bool:
        """Count as activity; False where there is no live record."""
        return bool(self._call("lull_touch_user_session", p_user=user)["live"])

    def cleanup_old_sessions(self, max_age: float, limit: int = 1000, *, dry_run: bool = False) -> Pruned:
        """Remove up to `limit` records that are dead or idle for `max_age` seconds; the run has policies for that."""
        answer = self._call("lull_prune_user_sessions", p_max_age=max_age, p_limit=limit, p_dry_run=dry_run)
        return Pruned(answer["count"], answer["more"])

    def get_active_sessions(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> ActivePage:
        """A page of the users with live records, by their ids."""
        answer = self._call("lull_list_user_sessions", p_after=after, p_limit=limit)
        return ActivePage(answer["user_ids"], answer["cursor"])

    def get_stats(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> Stats:
        """The number of live records, and a page of their users."""
        answer = self._call("lull_list_user_sessions", p_after=after, p_limit=limit, p_count=True)
        return Stats(answer["count"], answer["user_ids"], answer["cursor"])

    def _call(self, function: str, **arguments: Any) -> dict[str, Any]:
        try:
            return self._database.call(function, {**self._common, **arguments}, timeout_seconds=_TIMEOUT_SECONDS)
        except Problem as problem:
            if problem.status == 503:
                raise StoreAway(problem.detail) from problem
            raise


_drawn = new_version
