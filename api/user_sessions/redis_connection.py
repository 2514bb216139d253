"""One Redis server or a Redis Cluster: scripts by hash, writes that wait for replicas, retries over a failover."""

import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha1
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from api.user_sessions.provider import StoreAway

CLUSTER_SCHEMES = {"redis+cluster://": "redis://", "rediss+cluster://": "rediss://"}
_SOCKET_SECONDS = 2.0
_LONGEST_IDLE_SECONDS = 30  # shorter than what servers and networks forget a silent connection after
_PAUSE_SECONDS = (0.02, 0.08)
_Result = TypeVar("_Result")

# What a failover makes of a call: it is repeated. Other answers of the server are final.
_PASSING = (AskError, BusyLoadingError, ClusterDownError, MasterDownError, MovedError, ReadOnlyError, TryAgainError)


class RedisConnection:
    """Calls a server or a cluster; every call is repeated with jitter for up to `retry_seconds`, then StoreAway.

    A write may be repeated because its script finds its own version. Safe to share between threads.

    A thread borrows a client with one connection for each command. redis-py would take a connection from its pool, look
    at it and give it back, which takes as long as the command, and under threads that compete for the interpreter twice
    as long. What was idle for long, or beside a connection that failed, goes back to redis-py's pool, and is looked at.
    """

    def __init__(self, url: str, retry_seconds: float, wait_replicas: int = 0, wait_ms: int = 200) -> None:
        self.wait_replicas = wait_replicas
        self._wait_ms = wait_ms
        self._retry_seconds = retry_seconds
        self._url = url
        self._client: redis.Redis | RedisCluster | None = None
        self._idle: WeakKeyDictionary[redis.Redis, list[tuple[redis.Redis, float]]] = WeakKeyDictionary()

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes]) -> tuple[Any, bool]:
        """Run a script that writes; return its answer, and whether as many replicas as asked have it."""
        return self._repeated(lambda: self._run(script, keys, arguments))

    def read(self, *command: str | int) -> Any:
        """A command of one key, which is the second word."""
        return self._repeated(lambda: self._read(command))

    def read_many(self, commands: Sequence[Sequence[str | int]]) -> list[Any]:
        """Commands of one key each, in one pipeline."""

        def ask() -> list[Any]:
            with self._connected().pipeline(**self._plain()) as pipeline:
                for command in commands:
                    _execute(pipeline, *command)
                return list(pipeline.execute())

        return self._repeated(ask)

    def now(self, key: str) -> int:
        """The clock of the server that has this key, in ms."""
        seconds, microseconds = self._repeated(lambda: self._node(key).time())
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _plain(self) -> dict[str, Any]:
        return {} if isinstance(self._connected(), RedisCluster) else {"transaction": False}

    def _read(self, command: Sequence[Any]) -> Any:
        client = self._connected()
        return _execute(client, *command) if isinstance(client, RedisCluster) else self._ask(client, command)

    def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | bytes]) -> tuple[Any, bool]:
        """EVALSHA and WAIT on one connection: on another one WAIT would count replicas of other writes."""
        node = self._node(keys[0])
        call = ("EVALSHA", _digest(script), len(keys), *keys, *arguments)
        try:
            return self._send(node, call)
        except NoScriptError:  # a replica that was promoted does not have it
            node.script_load(script)
            return self._send(node, call)

    def _send(self, node: redis.Redis, call: Sequence[Any]) -> tuple[Any, bool]:
        if not self.wait_replicas:
            return self._ask(node, call), True
        with node.pipeline(transaction=False) as pipeline:
            _execute(pipeline, *call)
            _execute(pipeline, "WAIT", self.wait_replicas, self._wait_ms)
            answer, replicas = pipeline.execute(raise_on_error=True)
        return answer, int(replicas) >= self.wait_replicas

    def _ask(self, node: redis.Redis, command: Sequence[Any]) -> Any:
        """Send one command to a node, over an idle connection."""
        idle = self._idle.setdefault(node, [])
        client = _taken(idle) or node.client()  # type: ignore[no-untyped-call]
        try:
            answer = _execute(client, *command)
        except ResponseError:
            idle.append((client, time.monotonic()))
            raise
        except BaseException:
            client.close()
            while (other := _taken(idle)) is not None:
                other.close()
            raise
        idle.append((client, time.monotonic()))
        return answer

    def _node(self, key: str) -> redis.Redis:
        client = self._connected()
        if isinstance(client, RedisCluster):
            node: Any = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
            if node is None:
                raise redis.ConnectionError("no node serves this slot")
            connection: redis.Redis = client.get_redis_connection(node)
            return connection
        return client

    def _connected(self) -> redis.Redis | RedisCluster:
        if self._client is None:
            options: dict[str, Any] = {
                "socket_timeout": _SOCKET_SECONDS + self._wait_ms / 1000,
                "socket_connect_timeout": _SOCKET_SECONDS,
                "retry": Retry(NoBackoff(), 0),
                "protocol": 2,
            }
            for scheme, plain in CLUSTER_SCHEMES.items():
                if self._url.startswith(scheme):
                    self._client = RedisCluster.from_url(plain + self._url.removeprefix(scheme), **options)
                    return self._client
            self._client = redis.Redis.from_url(self._url, **options)
        return self._client

    def _repeated(self, call: Callable[[], _Result]) -> _Result:
        ends = time.monotonic() + self._retry_seconds
        while True:
            try:
                return call()
            except (RedisError, OSError) as error:
                if _is_final(error) or time.monotonic() >= ends:
                    raise StoreAway(f"Redis: {type(error).__name__}") from error
                self._refresh()
                time.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311 (jitter)

    def _refresh(self) -> None:
        """Read the cluster's slots again: after a failover another node has them."""
        if isinstance(self._client, RedisCluster):
            try:
                self._client.nodes_manager.initialize()
            except (RedisError, OSError):
                self._client = None


def _is_final(error: Exception) -> bool:
    """Whether the server has refused the call, so that repeating it is no use."""
    return isinstance(error, ResponseError) and not isinstance(error, _PASSING)


def _taken(idle: list[tuple[redis.Redis, float]]) -> redis.Redis | None:
    """The client that was used last, unless it was idle for long."""
    while True:
        try:
            client, used_at = idle.pop()
        except IndexError:
            return None
        if time.monotonic() - used_at <= _LONGEST_IDLE_SECONDS:
            return client
        client.close()


@cache
def _digest(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _execute(client: Any, *command: Any) -> Any:
    """Send a command; redis-py has no types for this."""
    return client.execute_command(*command)
