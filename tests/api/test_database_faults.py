"""What can come between Lull and its database, whichever way it calls: time-outs, nobody there, broken connections."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from api.database import Database
from api.errors import DatabaseTimeout, DatabaseUnavailable, Problem
from api.settings import Settings
from infra.local.stack import LocalSupabase
from tests.broken_server import broken_server, refusing_url
from tests.calls import settings
from tests.transports import as_login, call, running

MakeSettings = Callable[..., Settings]
Sql = psycopg.Connection[Any]


def settings_at(transport: str, address: str) -> Settings:
    """Settings that lead to an address where there is no database."""
    if transport == "postgrest":
        return settings(supabase_url=address, supabase_secret_key="key")
    return settings(database_url=f"postgresql://ada:secret@{urlsplit(address).netloc}/postgres")


def eventually(database: Database, function: str) -> dict[str, Any]:
    """Call until the database is back: PostgREST takes a while to notice."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return call(database, function)
        except DatabaseUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_function_is_stopped_in_the_server_after_its_own_time_out(
    database: Database, shared_connection: Sql
) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseTimeout):
        call(database, "probe_slow", p_seconds=30)
    assert time.monotonic() - started < 5
    assert running(shared_connection, "probe_slow") == 0
    # and the next call on that connection has its own
    assert call(database, "probe_wait", p_seconds=0.8) == {"slept": True}


def test_a_call_that_is_no_longer_awaited(
    database: Database, transport: str, shared_connection: Sql
) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable if transport == "postgrest" else DatabaseTimeout):
        call(database, "probe_wait", p_seconds=3, timeout_seconds=0.5)
    assert time.monotonic() - started < 2.5
    # PostgREST does not know how long its caller waits
    assert running(shared_connection, "probe_wait") == (1 if transport == "postgrest" else 0)
    leftover = "select pg_cancel_backend(pid) from pg_stat_activity where query ilike '%probe_wait%'"
    shared_connection.execute(f"{leftover} and pid <> pg_backend_pid()")


def test_a_closed_port_is_unavailable_at_once(transport: str) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        call(Database(settings_at(transport, refusing_url())), "lull_anything")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("behaviour", ["hangs", "hangs up", "200 with HTML"])
def test_another_server_on_the_port_is_unavailable(transport: str, behaviour: str) -> None:
    with broken_server(behaviour) as server:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            call(Database(settings_at(transport, server.url)), "lull_anything", timeout_seconds=1)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("transport", "variable", "value"),
    [
        ("postgrest", "SUPABASE_SECRET_KEY", "no-key"),
        ("direct", "DATABASE_URL", "ada:secret"),
        ("direct", "DATABASE_URL", "postgres:wrong"),
        ("direct", "DATABASE_URL", "postgres"),
    ],
)
def test_a_wrong_credential_is_a_503_that_names_the_variable(
    settings_for: MakeSettings, running_stack: LocalSupabase, transport: str, variable: str, value: str
) -> None:
    wrong = as_login(running_stack.database_url, value) if transport == "direct" else value
    with pytest.raises(Problem, match=f"check {variable}") as caught:
        call(Database(settings_for(transport, **{variable.lower(): wrong})), "probe_read")
    assert (caught.value.status, caught.value.slug) == (503, "database-refused")


def test_a_function_that_may_not_be_called_is_refused(
    settings_for: MakeSettings, transport: str, login: Callable[[str], str]
) -> None:
    as_somebody = {"database_url": login("somebody")} if transport != "postgrest" else {}
    with pytest.raises(Problem, match=r"check (SUPABASE_SECRET_KEY|DATABASE_URL)") as caught:
        call(Database(settings_for(transport, **as_somebody)), "probe_forbidden")
    assert (caught.value.status, caught.value.slug) == (503, "database-refused")


def test_a_call_that_lost_its_connection_is_not_repeated(database: Database) -> None:
    before = call(database, "probe_write")["number"]
    with pytest.raises(DatabaseUnavailable):
        call(database, "probe_die")
    assert eventually(database, "probe_write")["number"] == before + 2


def test_connections_that_the_server_has_closed_are_replaced(
    database: Database, transport: str, shared_connection: Sql
) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: call(database, "probe_wait", p_seconds=0.1), range(4)))
    closed = shared_connection.execute(
        "select pg_terminate_backend(pid, 5000) as closed from pg_stat_activity "
        "where usename = 'authenticator' or application_name = 'lull'"
    ).fetchall()
    assert any(row["closed"] for row in closed), "no connection was closed: the test shows nothing"
    if transport == "postgrest":
        eventually(database, "probe_write")
    for _ in range(4):
        call(database, "probe_write")


def test_sixteen_threads_share_one_door(database: Database) -> None:
    def echo(number: int) -> bool:
        if number % 10 == 0:
            with pytest.raises(Problem, match=f"^{number}$"):
                call(database, "probe_error", p_code="PT409", p_message=str(number))
            return True
        return bool(call(database, "probe_types", p_integer=number)["integer"] == number)

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(echo, range(160)))
