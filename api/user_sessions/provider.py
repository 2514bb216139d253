"""The interface of a store for user sessions, and what every store answers and raises."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

Data = dict[str, Any]

TOUCH_SECONDS = 60  # a touch writes nothing while the last one is younger
MOST_PER_PAGE = 1000


class Version(str):
    """A version: opaque text, of which only equality is defined. `confirmed`: as many replicas as asked have it."""

    confirmed: bool

    def __new__(cls, text: str, *, confirmed: bool = True) -> Self:
        """A version of this text."""
        version = super().__new__(cls, text)
        version.confirmed = confirmed
        return version


def new_version() -> str:
    """Sixteen hexadecimal digits that the writer draws for each write.

    A counter would accept a stale write after a delete and a create: 1 = 1.
    """
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Record:
    """A live record: `expires_at` is an end that activity does not move; idle time counts from `active_at`."""

    data: Data
    version: str
    active_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True)
class ActivePage:
    """One page of user ids, in no order, and the cursor of the next page; None after the last one."""

    user_ids: list[str]
    cursor: str | None


@dataclass(frozen=True)
class Stats:
    """The exact number of live records, and one page of their user ids."""

    active_sessions: int
    user_ids: list[str]
    cursor: str | None


@dataclass(frozen=True)
class Pruned:
    """How many records were removed (or would be), and whether there are more."""

    count: int
    more: bool


class UserSessionError(Exception):
    """Base of what a store raises."""


class Conflict(UserSessionError):
    """The record is not the one that the writer read. `current` is its version; None: there is no live record."""

    def __init__(self, current: str | None) -> None:
        super().__init__("the record was changed or deleted meanwhile" if current is None else f"current: {current}")
        self.current = current


class StoreAway(UserSessionError):
    """The store did not answer: whether a write took effect is unknown. Repeat it with the same new version."""


class StoreFull(UserSessionError):
    """The store takes no more records."""


class Unconfirmed(UserSessionError):
    """Fewer replicas than asked confirmed a write, which stands on the primary.

    Repeat it with this version; None: it was a delete.
    """

    def __init__(self, version: str | None) -> None:
        super().__init__("the record was deleted" if version is None else f"version {version} was written")
        self.version = version


class InvalidData(UserSessionError):
    """The data is no JSON object that every store can keep; the message says why."""


class UserSessionProvider(Protocol):
    """A store of one namespace. Safe to share between threads.

    A record is dead, and absent for every method, from `least(expires_at, active_at + idle)` on by the store's
    clock. Every method raises StoreAway when the store does not answer.
    """

    def get_session(self, user: str) -> Record | None:
        """The live record of a user. Never writes."""

    def has_session(self, user: str) -> bool:
        """Whether a user has a live record. Never writes."""

    def set_session(
        self,
        user: str,
        data: Data,
        expected_version: str | None = None,
        *,
        new_version: str | None = None,
        expires_at: datetime | None = None,
    ) -> Version:
        """Write a record and return its version.

        Without `expected_version` this only creates. Raises Conflict when there is a live record then, or when the
        expected version is not the current one (after a delete, too). A write that is repeated with the same
        `new_version` succeeds. The same data and end write no data, keep the version, and count as a touch.
        """

    def delete_session(self, user: str) -> bool:
        """Delete unconditionally; True where there was a live record."""

    def touch(self, user: str) -> bool:
        """Count as activity; False where there is no live record. Never writes data, nor the version."""

    def cleanup_old_sessions(self, max_age: float, limit: int = 1000, *, dry_run: bool = False) -> Pruned:
        """Remove up to `limit` records that are dead or idle for `max_age` seconds; count them only in a dry run."""

    def get_active_sessions(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> ActivePage:
        """A page of the users with live records. One that lives throughout is listed at least once."""

    def get_stats(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> Stats:
        """The number of live records, and a page of their users."""
