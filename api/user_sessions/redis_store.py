"""User sessions in Redis: a hash a record and a sorted set of deaths, in 256 slots of the namespace.

Nothing runs KEYS or SCAN, and no script or command names two slots, so that a Cluster serves it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import crc_hqx
from collections.abc import Iterator
from datetime import UTC, datetime

from api.user_sessions.json_data import checked, dumps, loads
from api.user_sessions.provider import (
    MOST_PER_PAGE,
    ActivePage,
    Conflict,
    Data,
    Pruned,
    Record,
    Stats,
    Unconfirmed,
    Version,
    new_version,
)
from api.user_sessions.redis_connection import RedisConnection
from api.user_sessions.redis_scripts import DELETE, PRUNE, SET, TOUCH

TAGS = 256
_PRUNED_AT_ONCE = 100


class RedisProvider:
    """User sessions of one namespace. `strict` raises Unconfirmed where fewer replicas than asked have a write."""

    def __init__(
        self, connection: RedisConnection, namespace: str, idle_seconds: float, *, strict: bool = False
    ) -> None:
        self._redis = connection
        self._namespace = namespace
        self._idle_ms = str(round(idle_seconds * 1000))
        self._strict = strict
        self.unconfirmed = 0

    def get_session(self, user: str) -> Record | None:
        """The live record of a user. Redis has expired a dead one."""
        version, text, active, end = self._redis.read("HMGET", self._record(user), "v", "d", "a", "x")
        if version is None:
            return None
        return Record(loads(text), version.decode(), _time(active), None if end is None else _time(end))

    def has_session(self, user: str) -> bool:
        """Whether a user has a live record."""
        return bool(self._redis.read("EXISTS", self._record(user)))

    def set_session(
        self,
        user: str,
        data: Data,
        expected_version: str | None = None,
        *,
        new_version: str | None = None,
        expires_at: datetime | None = None,
    ) -> Version:
        """Write a record and return its version; it says whether as many replicas as asked have it."""
        end = "" if expires_at is None else str(round(expires_at.timestamp() * 1000))
        version = new_version or _drawn()
        arguments = [user, self._idle_ms, expected_version or "", version, dumps(checked(data)), end]
        (done, current), confirmed = self._redis.run(SET, self._keys(user), arguments)
        if not done:
            raise Conflict(current.decode() or None)
        return self._confirmed(current.decode(), confirmed)

    def delete_session(self, user: str) -> bool:
        """Delete unconditionally; True where there was a live record."""
        deleted, confirmed = self._redis.run(DELETE, self._keys(user), [user, self._idle_ms])
        self._count(None, confirmed)
        return bool(deleted)

    def touch(self, user: str) -> bool:
        """Count as activity; False where there is no live record."""
        return bool(self._redis.run(TOUCH, self._keys(user), [user, self._idle_ms])[0])

    def cleanup_old_sessions(self, max_age: float, limit: int = 1000, *, dry_run: bool = False) -> Pruned:
        """Remove up to `limit` records that are dead or idle for `max_age` seconds, 100 a call."""
        age, now = round(max_age * 1000), self._redis.now(self._index(0))
        until = max(now, now + int(self._idle_ms) - age)  # a record that dies later was active since
        count = 0
        for tag in self._due_tags(until):
            kept = 0
            while count < limit:
                users = self._due(tag, until, kept, min(_PRUNED_AT_ONCE, limit - count))
                if not users:
                    break
                gone = self._prune(tag, users, age, dry_run=dry_run)
                count += gone
                kept += len(users) if dry_run else len(users) - gone
            else:
                return Pruned(count, self._is_more(tag, age, until, kept))
        return Pruned(count, False)

    def get_active_sessions(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> ActivePage:
        """A page of the users with live records, by their slots and the times of their deaths."""
        users: list[str] = []
        last: str | None = None
        for tag, score, user in self._live_after(after, limit):
            if len(users) == limit:
                return ActivePage(users, last)
            users.append(user)
            last = _cursor(tag, score, user)
        return ActivePage(users, None)

    def get_stats(self, after: str | None = None, limit: int = MOST_PER_PAGE) -> Stats:
        """The number of live records, and a page of their users."""
        now = self._redis.now(self._index(0))
        counts = self._redis.read_many([("ZCOUNT", self._index(tag), f"({now}", "+inf") for tag in range(TAGS)])
        page = self.get_active_sessions(after, limit)
        return Stats(sum(counts), page.user_ids, page.cursor)

    def _confirmed(self, version: str, confirmed: bool) -> Version:
        self._count(version, confirmed)
        return Version(version, confirmed=confirmed)

    def _count(self, version: str | None, confirmed: bool) -> None:
        if not confirmed:
            self.unconfirmed += 1
            if self._strict:
                raise Unconfirmed(version)

    def _due_tags(self, until: int) -> list[int]:
        """The slots with something to look at, by one pipeline: most have nothing in a run's later calls."""
        counts = self._redis.read_many([("ZCOUNT", self._index(tag), "-inf", until) for tag in range(TAGS)])
        return [tag for tag, due in enumerate(counts) if due]

    def _due(self, tag: int, until: int, offset: int, most: int) -> list[str]:
        found = self._redis.read("ZRANGEBYSCORE", self._index(tag), "-inf", until, "LIMIT", offset, most)
        return [user.decode() for user in found]

    def _prune(self, tag: int, users: list[str], age: int, *, dry_run: bool) -> int:
        keys = [self._index(tag), *(self._record(user) for user in users)]
        arguments = ["", self._idle_ms, str(age), str(int(dry_run)), *users]
        return int(self._redis.run(PRUNE, keys, arguments)[0])

    def _is_more(self, tag: int, age: int, until: int, kept: int) -> bool:
        """Whether a further record is due, in this slot behind the kept ones, or in one of the next."""
        for other in range(tag, TAGS):
            users = self._due(other, until, kept if other == tag else 0, _PRUNED_AT_ONCE)
            if users and self._prune(other, users, age, dry_run=True):
                return True
        return False

    def _live_after(self, after: str | None, limit: int) -> Iterator[tuple[int, int, str]]:
        first, score, user = _position(after)
        now = self._redis.now(self._index(0))
        for tag in range(first, TAGS):
            start = score if tag == first and after else now
            offset = 0
            while True:
                page = self._redis.read(
                    "ZRANGEBYSCORE", self._index(tag), start, "+inf", "WITHSCORES", "LIMIT", offset, limit + 1
                )
                for name, death in zip(page[::2], page[1::2], strict=True):
                    place = (int(float(death)), name.decode())
                    if place[0] > now and (tag != first or not after or place > (score, user)):
                        yield tag, *place
                if len(page) // 2 <= limit:
                    break
                offset += limit + 1

    def _keys(self, user: str) -> list[str]:
        return [self._record(user), self._index(_tag(user))]

    def _record(self, user: str) -> str:
        return f"lull:{{us/{self._namespace}/{_tag(user)}}}:r:{user}"

    def _index(self, tag: int) -> str:
        return f"lull:{{us/{self._namespace}/{tag}}}:i"


def _tag(user: str) -> int:
    return crc_hqx(user.encode(), 0) % TAGS


def _time(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _cursor(tag: int, score: int, user: str) -> str:
    return urlsafe_b64encode(f"{tag}:{score}:{user}".encode()).decode()


def _position(cursor: str | None) -> tuple[int, int, str]:
    if cursor is None:
        return 0, 0, ""
    tag, score, user = urlsafe_b64decode(cursor).decode().split(":", 2)
    return int(tag), int(score), user


_drawn = new_version
