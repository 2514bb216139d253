"""User sessions in this process: for development and tests. Nothing is shared, and a restart loses everything."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock

from api.user_sessions.json_data import checked, dumps, loads
from api.user_sessions.provider import (
    MOST_PER_PAGE,
    TOUCH_SECONDS,
    ActivePage,
    Conflict,
    Data,
    Pruned,
    Record,
    Stats,
    StoreFull,
    Version,
    new_version,
)

MOST_RECORDS = 100_000


@dataclass(frozen=True)
class _Stored:
    """A record with its data as text, so that no caller shares an object with the store."""

    text: str
    version: str
    active_at: datetime
    expires_at: datetime | None


class MemoryProvider:
    """One dict and one lock, at most 100,000 records. `idle_seconds` is how long a record lives without activity."""

    def __init__(self, idle_seconds: float, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._idle = timedelta(seconds=idle_seconds)
        self._clock = clock
        self._records: dict[str, _Stored] = {}
        self._lock = Lock()

    def get_session(self, user: str) -> Record | None:
        """The live record of a user."""
        with self._lock:
            found = self._live(user)
        if found is None:
            return None
        return Record(loads(found.text), found.version, found.active_at, found.expires_at)

    def has_session(self, user: str) -> bool:
        """Whether a user has a live record."""
        with self._lock:
            return self._live(user) is not None

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
        text, version = dumps(checked(data)), new_version or _drawn()
        with self._lock:
            current = self._live(user)
            if current is not None and current.version == version:
                return Version(version)
            if (current.version if current else None) != expected_version:
                raise Conflict(current.version if current else None)
            if current is not None and (current.text, current.expires_at) == (text, expires_at):
                self._touch(user, current)
                return Version(current.version)
            if current is None and user not in self._records and len(self._records) >= MOST_RECORDS:
                self._prune(self._idle.total_seconds(), 1000)
                if len(self._records) >= MOST_RECORDS:
                    raise StoreFull(f"{MOST_RECORDS} records are in memory")
            self._records[user] = _Stored(text, version, self._clock(), expires_at)
        return Version(version)

    def delete_session(self, user: str) -> bool:
        """Delete unconditionally; True where there was a live record."""
        with self._lock:
            found = self._live(user)
            self._records.pop(user, None)
        return found is not None

    def touch(self, user: str) -> bool:
        """Count as activity; False where there is no live record."""
        with self._lock:
            found = self._live(user)
            if found is not None:
                self._touch(user, found)
        return found is not None

    def cleanup_old_sessions(self, max_age: float, limit: int = 1000, *, dry_run: bool = False) -> Pruned:
        """Remove up to `limit` records that are dead or idle for `max_age` seconds."""
        with self._lock:
            return self._prune(max_age, limit, dry_run=dry_run)

    def get_active_sessions(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> ActivePage:
        """A page of the users with live records, by their ids."""
        with self._lock:
            live = sorted(user for user in self._records if self._live(user) and (after is None or user > after))
        page = live[:limit]
        return ActivePage(page, page[-1] if len(live) > limit else None)

    def get_stats(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> Stats:
        """The number of live records, and a page of their users."""
        with self._lock:
            count = sum(self._live(user) is not None for user in self._records)
        page = self.get_active_sessions(after, limit)
        return Stats(count, page.user_ids, page.cursor)

    def _live(self, user: str) -> _Stored | None:
        found = self._records.get(user)
        return found if found is not None and self._clock() < self._death(found) else None

    def _death(self, record: _Stored) -> datetime:
        idle = record.active_at + self._idle
        return idle if record.expires_at is None else min(idle, record.expires_at)

    def _touch(self, user: str, record: _Stored) -> None:
        if self._clock() - record.active_at >= timedelta(seconds=TOUCH_SECONDS):
            self._records[user] = replace(record, active_at=self._clock())

    def _prune(self, max_age: float, limit: int, *, dry_run: bool = False) -> Pruned:
        now, age = self._clock(), timedelta(seconds=max_age)
        old = [
            user
            for user, record in self._records.items()
            if now >= self._death(record) or now - record.active_at >= age
        ]
        if not dry_run:
            for user in old[:limit]:
                del self._records[user]
        return Pruned(min(len(old), limit), len(old) > limit)


_drawn = new_version
