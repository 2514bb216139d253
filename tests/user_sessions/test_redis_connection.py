"""The connections of the Redis store: used again, and replaced when the server has closed them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import redis

from api.user_sessions.redis_connection import RedisConnection
from api.user_sessions.redis_store import RedisProvider
from tests.user_sessions.stores import IDLE_SECONDS


def test_connections_that_redis_has_closed_are_replaced(redis_url: str) -> None:
    client: Any = redis.Redis.from_url(redis_url)
    client.flushall()
    provider = RedisProvider(RedisConnection(redis_url, 2), "test", IDLE_SECONDS)
    # eight connections are idle when all are closed
    together = Barrier(8)

    def write(number: int) -> str:
        together.wait(10)
        return provider.set_session(f"user {number}", {"n": number})

    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            versions = list(threads.map(write, range(8)))
            assert client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 1
            for number, version in enumerate(versions):
                assert provider.set_session(f"user {number}", {"n": -1}, version)
            client.flushall()
