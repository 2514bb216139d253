"""Direct calls in an event loop: no thread where only the answer is waited for, and never more than connections."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from api.database import Database, direct
from api.errors import DatabaseUnavailable
from api.settings import Settings
from tests.transports import call, running

MakeSettings = Callable[..., Settings]
Sql = psycopg.Connection[Any]


@pytest.fixture
def database(settings_for: MakeSettings) -> Database:
    """A door with one connection, which is open."""
    database = Database(settings_for("direct", database_max_connections=1))
    call(database, "probe_read")
    return database


def ask(database: Database, function: str, *, timeout_seconds: float = 10, **arguments: Any) -> Any:
    return database.call_async(function, arguments, timeout_seconds=timeout_seconds)


def test_who_waits_for_nothing_but_the_answer_needs_no_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(direct, "in_thread")
    assert asyncio.run(ask(database, "probe_read")) == {"read only": "on"}
    with pytest.raises(NameError):
        asyncio.run(ask(database, "probe_wait", p_seconds=0))  # the catalog has to be asked first


def test_more_coroutines_than_connections_take_turns(database: Database) -> None:
    async def twenty() -> list[Any]:
        return await asyncio.gather(*(ask(database, "probe_read") for _ in range(20)))

    assert asyncio.run(twenty()) == [{"read only": "on"}] * 20


def test_whose_turn_does_not_come_in_time_is_told_so(database: Database) -> None:
    async def two() -> Any:
        slow = ask(database, "probe_wait", p_seconds=0.8)
        return await asyncio.gather(
            slow, ask(database, "probe_read", timeout_seconds=0.2), return_exceptions=True
        )

    for _ in range(2):  # the slow one in a thread, and then in the loop
        answer, refusal = asyncio.run(two())
        assert answer == {"slept": True}
        assert isinstance(refusal, DatabaseUnavailable)


def test_the_answer_to_an_abandoned_call_reaches_no_other_call(
    database: Database, shared_connection: Sql
) -> None:
    call(database, "probe_wait", p_seconds=0)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(database, "probe_wait", p_seconds=0.5), 0.1)

    asyncio.run(give_up())
    assert asyncio.run(ask(database, "probe_read")) == {"read only": "on"}
    while running(shared_connection, "probe_wait"):
        pass


def test_a_connection_that_the_server_has_closed_is_replaced(
    database: Database, shared_connection: Sql
) -> None:
    shared_connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'lull'"
    )
    assert asyncio.run(ask(database, "probe_read")) == {"read only": "on"}
