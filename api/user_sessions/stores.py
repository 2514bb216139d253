"""The store that the settings choose: by name, or any class of the application's own."""

import importlib
from collections.abc import Callable

from api.database import Database
from api.settings import Settings, SettingsError
from api.user_sessions.provider import UserSessionProvider

NAMESPACE = "app"
_DAY_SECONDS = 86_400.0


def create_provider(settings: Settings, database: Database) -> UserSessionProvider:
    """The provider of USER_SESSION_STORE: postgres, redis, memory or `module:Class` (called without arguments).

    Connects to nothing. Raises SettingsError for a class that cannot be made, and for redis without REDIS_URL.
    """
    idle = settings.ages()["USER_SESSION_MAX_AGE_HOURS"] or _DAY_SECONDS
    match settings.user_session_store:
        case "postgres":
            from api.user_sessions.postgres import PostgresProvider

            return PostgresProvider(database, NAMESPACE, idle)
        case "memory":
            from api.user_sessions.memory import MemoryProvider

            return MemoryProvider(idle)
        case "redis":
            return _redis(settings, idle)
        case name:
            return _own(name)()


def _redis(settings: Settings, idle: float) -> UserSessionProvider:
    if settings.redis_url is None:
        raise SettingsError("REDIS_URL is not set, and USER_SESSION_STORE is redis")
    try:
        from api.user_sessions.redis_connection import RedisConnection
        from api.user_sessions.redis_store import RedisProvider
    except ImportError:
        raise SettingsError("USER_SESSION_STORE is redis, and the package redis is not installed") from None
    connection = RedisConnection(
        settings.redis_url.get_secret_value(),
        settings.redis_retry_seconds,
        settings.redis_wait_replicas,
        settings.redis_wait_ms,
    )
    return RedisProvider(connection, NAMESPACE, idle, strict=settings.redis_strict)


def _own(name: str) -> Callable[[], UserSessionProvider]:
    module, _, attribute = name.partition(":")
    try:
        found: Callable[[], UserSessionProvider] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"USER_SESSION_STORE: {error}") from error
    return found
