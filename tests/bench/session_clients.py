"""Sixteen clients of a store of user sessions: `python -m tests.bench.session_clients CASE SECONDS`.

Each client has a user of its own and waits for its answer before it goes on. Where the store is comes from STORE_URL.
Says how many operations a second were done, as JSON. With SECONDS 0 the case is done once, as `prune` is, and the most
memory that the process had is said too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from hashlib import sha1
from typing import Any

import redis
from pydantic import BaseModel

from api.database import Database
from api.settings import Settings
from api.user_sessions.postgres import PostgresProvider
from api.user_sessions.provider import Conflict, UserSessionProvider, new_version
from api.user_sessions.redis_connection import RedisConnection
from api.user_sessions.redis_scripts import SET
from api.user_sessions.redis_store import RedisProvider
from api.user_sessions.stores import NAMESPACE
from api.user_sessions.typed import UserSessions
from tests.bench.measures import memory

CLIENTS = 16
IDLE_SECONDS = 86_400.0
URL = os.environ.get("STORE_URL", "")
_NO_END = ""
_DIGEST = sha1(SET.encode(), usedforsecurity=False).hexdigest()

Work = Callable[[], object]
AsyncWork = Callable[[], Awaitable[object]]


class Kept(BaseModel):
    """What an application keeps of a user."""

    current_model_name: str = "a model"
    visits: int = 0
    recent: list[str] = ["one", "two", "three"]


def provider() -> UserSessionProvider:
    """Lull's store at STORE_URL."""
    if URL.startswith("redis"):
        return RedisProvider(RedisConnection(URL, 2), NAMESPACE, IDLE_SECONDS)
    settings = Settings(database_url=URL, database_max_connections=CLIENTS)
    return PostgresProvider(Database(settings), NAMESPACE, IDLE_SECONDS)


def lull_get(client: int) -> Work:
    """Read a session."""
    store, user = _SHARED.provider, f"client {client}"
    with suppress(Conflict):  # it is there from a round before
        store.set_session(user, Kept().model_dump())
    return partial(store.get_session, user)


def lull_update(client: int) -> Work:
    """Change a session by UserSessions.update: read, compare and set."""
    sessions = UserSessions(_SHARED.provider, Kept, Kept)

    def visit(kept: Kept) -> None:
        kept.visits += 1

    return partial(sessions.update, f"client {client}", visit)


def lull_set(client: int) -> Work:
    """Write a session whose version is known."""
    store, user = _SHARED.provider, f"client {client}"
    found = store.get_session(user)
    data = Kept(visits=found.data["visits"] if found else 0).model_dump()
    state = [store.set_session(user, data | {"visits": -1}, found.version if found else None)]

    def write() -> None:
        data["visits"] += 1
        state[0] = store.set_session(user, data, state[0])

    return write


def bare_get(client: int) -> Work:
    """What redis-py needs for the same: HMGET."""
    keys = _keys(client)

    def read() -> Any:
        _, data, _, _ = _SHARED.ask("HMGET", keys[0], "v", "d", "a", "x")
        return json.loads(data)

    return read


def bare_update(client: int) -> Work:
    """What redis-py needs for the same: HMGET, and EVALSHA of the same script."""
    keys, idle = _keys(client), str(round(IDLE_SECONDS * 1000))

    def write() -> None:
        version, data, _, _ = _SHARED.ask("HMGET", keys[0], "v", "d", "a", "x")
        changed = json.loads(data)
        changed["visits"] += 1
        arguments = (f"client {client}", idle, version, new_version(), json.dumps(changed), _NO_END)
        if not _SHARED.ask("EVALSHA", _DIGEST, 2, *keys, *arguments)[0]:
            raise RuntimeError("another client wrote this session")

    return write


def watch_multi(client: int) -> Work:
    """The same by WATCH and MULTI, as redis-py documents it."""
    record, index = _keys(client)

    def write() -> None:
        with _SHARED.redis.pipeline() as pipeline:
            pipeline.watch(record)  # type: ignore[no-untyped-call]
            found: Any = pipeline.hmget(record, ["v", "d", "a", "x"])
            changed = json.loads(found[1])
            changed["visits"] += 1
            now = round(time.time() * 1000)
            death = now + round(IDLE_SECONDS * 1000)
            pipeline.multi()
            pipeline.hset(record, mapping={"v": new_version(), "d": json.dumps(changed), "a": str(now)})
            pipeline.pexpireat(record, death)
            pipeline.zadd(index, {f"client {client}": death})
            pipeline.execute()

    return write


def starsessions_get(client: int) -> AsyncWork:
    """starsessions' Redis store: a bare GET."""
    store = _SHARED.starsessions
    return partial(store.read, f"client {client}", 0)


def starsessions_update(client: int) -> AsyncWork:
    """starsessions' Redis store: a GET and a SET, which does not compare."""
    store, data = _SHARED.starsessions, Kept().model_dump()

    async def write() -> None:
        found = await store.read(f"client {client}", 0)
        changed = json.loads(found) if found else data
        changed["visits"] += 1
        await store.write(f"client {client}", json.dumps(changed).encode(), 86_400, 86_400)

    return write


def prune(_: int) -> Work:
    """Prune as the scheduled run does, until nothing is left."""

    def work() -> None:
        while _SHARED.provider.cleanup_old_sessions(IDLE_SECONDS / 2, 1000).more:
            pass

    return work


class _Shared:
    """What the clients share: a store, as in one process of an application."""

    def __init__(self) -> None:
        self.provider = provider()
        if URL.startswith("redis"):
            self.redis = redis.Redis.from_url(URL)
            self.redis.script_load(SET)

    def ask(self, *command: Any) -> Any:
        client: Any = self.redis
        return client.execute_command(*command)

    @property
    def starsessions(self) -> Any:
        from redis.asyncio import Redis
        from starsessions.stores.redis import RedisStore

        if not hasattr(self, "_starsessions"):
            self._starsessions = RedisStore(connection=Redis.from_url(URL))
        return self._starsessions


_CASES: dict[str, Callable[[int], Work]] = {
    "lull-get": lull_get, "lull-update": lull_update, "lull-set": lull_set, "bare-get": bare_get,
    "bare-update": bare_update, "watch-multi": watch_multi, "prune": prune,
}  # fmt: skip
_ASYNC_CASES: dict[str, Callable[[int], AsyncWork]] = {
    "starsessions-get": starsessions_get, "starsessions-update": starsessions_update,
}  # fmt: skip


def _keys(client: int) -> list[str]:
    store = _SHARED.provider
    assert isinstance(store, RedisProvider)
    return store._keys(f"client {client}")


def _threads(work: list[Work], seconds: float) -> float:
    """Operations a second of clients that are threads."""
    counts = [0] * len(work)
    ends = time.perf_counter() + seconds

    def client(number: int) -> None:
        while time.perf_counter() < ends:
            work[number]()
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(work))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


async def _tasks(work: list[AsyncWork], seconds: float) -> float:
    """Operations a second of clients that are tasks."""
    counts = [0] * len(work)
    ends = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while time.perf_counter() < ends:
            await work[number]()
            counts[number] += 1

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(len(work))))
    return sum(counts) / (time.perf_counter() - began)


def main(case: str, seconds: float) -> dict[str, float]:
    """Measure a case; a third of a second before does not count."""
    if case in _ASYNC_CASES:
        async_work = [_ASYNC_CASES[case](number) for number in range(CLIENTS)]

        async def both() -> float:
            await _tasks(async_work, 0.3)
            return await _tasks(async_work, seconds)

        return {"per_second": asyncio.run(both())}
    if seconds == 0:
        began = time.perf_counter()
        _CASES[case](0)()
        peak = memory(os.getpid()) / 2**20
        return {"seconds": time.perf_counter() - began, "peak_memory_mb": peak}
    work = [_CASES[case](number) for number in range(CLIENTS)]
    _threads(work, 0.3)
    return {"per_second": _threads(work, seconds)}


if __name__ == "__main__":
    _SHARED = _Shared()
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]))))
