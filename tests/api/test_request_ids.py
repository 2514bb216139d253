"""A request's id: answered, logged, and passed on to the database by either transport, as far as the event log."""

import json
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from api.composition import create_app
from api.database import Database
from api.request_context import RequestContext, enter_request, leave_request
from tests.calls import CLEANUP, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def events(sql: Sql) -> list[str]:
    return [row["request_id"] for row in sql.execute("select request_id from lull.session_events order by id")]


@pytest.mark.parametrize("given", ["abc-1.2_Z", "x" * 64, None, "", "x" * 65, "a b", "ünïcode", 'a"b'])
def test_an_id_is_taken_over_or_made_and_answered(given: str | None) -> None:
    with client_of(create_app(settings())) as client:
        headers = {} if given is None else {b"X-Request-Id": given.encode()}
        answer = client.get("/api/health", headers=headers).headers["x-request-id"]
    if given in ("abc-1.2_Z", "x" * 64):
        assert answer == given
    else:
        assert str(UUID(answer)) == answer


@pytest.mark.parametrize(
    ("given", "trace"),
    [
        (PARENT, TRACE),
        (f"01-{TRACE}-00f067aa0ba902b7-01-more", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"{PARENT}-more", None),
        (PARENT.upper(), None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        ("", None),
    ],
)
def test_a_trace_is_taken_over_when_it_is_well_formed(given: str, trace: str | None) -> None:
    context = RequestContext.of("x", given)
    assert (context.trace_id, context.traceparent) == (trace, given if trace else None)


def test_every_line_of_a_request_and_its_events_carry_its_id(
    api: httpx.Client, admin: dict[str, str], sql: Sql, capsys: pytest.CaptureFixture[str]
) -> None:
    created = api.post("/api/sessions", json={"kind": "game"}, headers={"X-Request-Id": "create-1"})
    assert created.status_code == 201
    sql.execute("update lull.sessions set last_activity_at = now() - interval '25 h'")
    capsys.readouterr()
    headers = admin | {"X-Request-Id": "clean-2", "traceparent": PARENT}
    assert api.post(CLEANUP, headers=headers, params={"policy": "unopened-games"}).json()["deleted"] == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["event"] for line in lines} >= {"request", "cleanup run", "cleanup policy"}
    assert {(line["request_id"], line["trace_id"]) for line in lines} == {("clean-2", TRACE)}
    assert events(sql) == ["create-1", "clean-2"], "over PostgREST"


@pytest.mark.parametrize("name", ["direct-3", "y" * 58, "z" * 64])
def test_a_direct_call_names_its_connection_for_the_call_alone(
    name: str, environment: dict[str, str], database_url: str, sql: Sql
) -> None:
    sql.execute("create or replace function public.lull_seen() returns jsonb language sql stable as $$ "
                "select jsonb_build_object('id', lull.request_id(), 'name', current_setting('application_name')) $$")  # fmt: skip
    database = Database(settings(environment, database_url=database_url))
    try:
        token = enter_request(RequestContext(name))
        seen = database.call("lull_seen", {}, timeout_seconds=5)
        leave_request(token)
        after = database.call("lull_seen", {}, timeout_seconds=5)
    finally:
        sql.execute("drop function public.lull_seen()")
    assert (seen["id"], seen["name"]) == (name, f"lull {name}"[:63])
    assert after == {"id": None, "name": "lull"}
