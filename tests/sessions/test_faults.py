"""A database that waits, lacks a function or is not there: the caller is told, and nothing half done is left."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import psycopg

from api.composition import create_app
from tests.broken_server import refusing_url
from tests.callers import SESSIONS, as_service, problem_of, start
from tests.calls import settings
from tests.in_process import client_of

Connect = Callable[..., psycopg.Connection[Any]]
Environment = dict[str, str]


def test_a_session_locked_for_too_long_is_503_and_unchanged(
    api: httpx.Client, connect: Connect
) -> None:
    address, owner = start(api, kind="game")
    other = connect(autocommit=False)
    other.execute("select from lull.sessions for update")
    assert problem_of(api.post(f"{address}/activate", headers=owner)) == (503, "database-timeout")
    other.rollback()
    assert api.get(address, headers=owner).json()["session"]["status"] == "draft"
    assert api.post(f"{address}/activate", headers=owner).headers["session-activated"] == "true"


def test_a_function_that_is_missing_names_the_remedy(
    api: httpx.Client, environment: Environment, sql: psycopg.Connection[Any]
) -> None:
    def reloaded(function: str, until: int) -> httpx.Response:
        sql.execute(f"alter function public.{function}")
        sql.execute("notify pgrst, 'reload schema'")
        deadline = time.monotonic() + 10
        while (answer := api.get(SESSIONS, headers=as_service(environment))).status_code != until:
            assert time.monotonic() < deadline
        return answer

    answer = reloaded("lull_list_sessions rename to lull_list_sessions_gone", 503)
    try:
        assert problem_of(answer) == (503, "not-migrated")
        assert "python -m infra migrate" in answer.json()["detail"]
    finally:
        reloaded("lull_list_sessions_gone rename to lull_list_sessions", 200)


def test_without_a_database_every_route_is_503(environment: Environment) -> None:
    app = create_app(settings(environment, supabase_url=refusing_url()))
    with client_of(app) as api:
        address = f"{SESSIONS}/3b0c5a4e-9d41-4a39-9a43-0d6d0a0f7c11"
        for method, path in [("POST", SESSIONS), ("GET", address), ("POST", f"{address}/activate")]:
            answer = api.request(method, path, json={"kind": "game"} if path == SESSIONS else None)
            assert problem_of(answer) == (503, "database-unavailable")


def test_without_settings_every_route_names_the_variable() -> None:
    with client_of(create_app(settings())) as api:
        answer = api.post(SESSIONS, json={"kind": "game"})
        assert (problem_of(answer), answer.json()["detail"]) == (
            (503, "not-configured"),
            "SESSION_TOKEN_SECRET is not set, nor SUPABASE_SECRET_KEY.",
        )
