"""The stores under test, each with a way to age its records: time is never moved, rows are."""

from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg
import redis

from api.user_sessions.memory import MemoryProvider
from api.user_sessions.postgres import PostgresProvider
from api.user_sessions.provider import UserSessionProvider
from api.user_sessions.redis_store import RedisProvider

IDLE_SECONDS = 86_400.0


class Store(Protocol):
    """A provider, and what a test does behind its back."""

    @property
    def provider(self) -> UserSessionProvider:
        """The provider under test."""

    def age(self, user: str, seconds: float) -> None:
        """Move the last activity of a record into the past."""

    def raw(self, user: str) -> Any:
        """What is stored, to see whether something was written."""

    def put(self, user: str, text: str) -> None:
        """Replace the stored data by this JSON, as another release would have written it."""


class MemoryStore:
    def __init__(self) -> None:
        self.provider: MemoryProvider = MemoryProvider(IDLE_SECONDS)

    def age(self, user: str, seconds: float) -> None:
        from dataclasses import replace

        found = self.provider._records[user]
        self.provider._records[user] = replace(found, active_at=found.active_at - timedelta(seconds=seconds))

    def raw(self, user: str) -> Any:
        return self.provider._records.get(user)

    def put(self, user: str, text: str) -> None:
        from dataclasses import replace

        self.provider._records[user] = replace(self.provider._records[user], text=text)


class PostgresStore:
    def __init__(self, provider: PostgresProvider, sql: psycopg.Connection[Any]) -> None:
        self.provider = provider
        self._sql = sql

    def age(self, user: str, seconds: float) -> None:
        self._sql.execute(
            "update lull.user_sessions set updated_at = updated_at - make_interval(secs => %s) where user_id = %s",
            (seconds, user),
        )

    def raw(self, user: str) -> Any:
        return self._sql.execute(
            "select xmin::text, ctid::text, data, version, updated_at from lull.user_sessions where user_id = %s",
            (user,),
        ).fetchone()

    def put(self, user: str, text: str) -> None:
        self._sql.execute("update lull.user_sessions set data = %s where user_id = %s", (text, user))


class RedisStore:
    def __init__(self, provider: RedisProvider, client: redis.Redis) -> None:
        self.provider = provider
        self._client = client

    def age(self, user: str, seconds: float) -> None:
        record, index = self.provider._keys(user)
        active = int(self._client.hget(record, "a") or 0) - round(seconds * 1000)
        end = self._client.hget(record, "x")
        death = active + round(IDLE_SECONDS * 1000)
        death = min(death, int(end)) if end else death
        self._client.hset(record, "a", active)
        self._client.zadd(index, {user: death})
        self._client.pexpireat(record, death)

    def raw(self, user: str) -> Any:
        record, index = self.provider._keys(user)
        return self._client.hgetall(record), self._client.zscore(index, user)

    def put(self, user: str, text: str) -> None:
        self._client.hset(self.provider._keys(user)[0], "d", text)


def soon(seconds: float) -> datetime:
    """A time from now, by this machine's clock."""
    return datetime.now().astimezone() + timedelta(seconds=seconds)
