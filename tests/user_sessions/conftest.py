"""Each test of a store runs on memory, Redis and Postgres."""

from collections.abc import Iterator

import psycopg
import pytest
import redis

from api.database import Database
from api.settings import Settings
from api.user_sessions.postgres import PostgresProvider
from api.user_sessions.provider import UserSessionProvider
from api.user_sessions.redis_connection import RedisConnection
from api.user_sessions.redis_store import RedisProvider
from infra.local.stack import LocalSupabase
from tests.user_sessions.redis_server import PROGRAM, redis_server
from tests.user_sessions.stores import IDLE_SECONDS, MemoryStore, PostgresStore, RedisStore, Store

STORES = ["memory", "redis", "postgres"]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server of the tests' own."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


def make_store(kind: str, request: pytest.FixtureRequest) -> Store:
    """A store of this kind, empty."""
    if kind == "memory":
        return MemoryStore()
    if kind == "redis":
        url = request.getfixturevalue("redis_url")
        client = redis.Redis.from_url(url)
        client.flushall()
        return RedisStore(RedisProvider(RedisConnection(url, 2), "test", IDLE_SECONDS), client)
    sql: psycopg.Connection[dict[str, object]] = request.getfixturevalue("sql")
    stack: LocalSupabase = request.getfixturevalue("stack")
    database = Database(Settings(database_url=stack.database_url, database_max_connections=20))
    return PostgresStore(PostgresProvider(database, "test", IDLE_SECONDS), sql)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    return make_store(request.param, request)


@pytest.fixture
def provider(store: Store) -> UserSessionProvider:
    """The provider of each store in turn."""
    return store.provider
