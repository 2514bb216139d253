"""Many user sessions in Redis, laid out as the store lays them out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import redis

from api.user_sessions.redis_connection import RedisConnection
from api.user_sessions.redis_store import RedisProvider
from api.user_sessions.stores import NAMESPACE
from tests.bench.session_clients import IDLE_SECONDS, Kept

_LAYOUT = RedisProvider(RedisConnection("redis://unused", 0), NAMESPACE, IDLE_SECONDS)
_HOUR_MS = 3_600_000


def fill(client: redis.Redis, numbers: Iterable[int], stale: int) -> None:
    """Write these users' sessions; those below `stale` were last used 20 hours ago, the others an hour."""
    data, now = json.dumps(Kept().model_dump()), round(time.time() * 1000)
    with client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            user = f"user {number}"
            record, index = _LAYOUT._keys(user)
            active = now - (20 if number < stale else 1) * _HOUR_MS
            death = active + round(IDLE_SECONDS * 1000)
            pipeline.hset(record, mapping={"v": f"{number:016x}", "d": data, "a": str(active)})
            pipeline.pexpireat(record, death)
            pipeline.zadd(index, {user: death})
        pipeline.execute()
