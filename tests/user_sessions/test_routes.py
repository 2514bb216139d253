"""GET, PUT, PATCH and DELETE /api/me/session, and what a cleanup run does with a store other than Postgres."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.composition import create_app
from api.user_sessions.memory import MemoryProvider
from api.user_sessions.provider import StoreAway
from tests.callers import access_token, problem_of
from tests.calls import ADMIN, CLEANUP, settings
from tests.in_process import client_of

SESSION = "/api/me/session"
NEW = {"If-None-Match": "*"}


@pytest.fixture(params=["memory", "postgres"])
def app(request: pytest.FixtureRequest, environment: dict[str, str], sql: object) -> Any:
    return create_app(settings(environment, user_session_store=request.param))


@pytest.fixture
def client(app: Any) -> Iterator[httpx.Client]:
    with client_of(app) as client:
        yield client


@pytest.fixture
def ann(environment: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {access_token(environment, str(uuid4()))}"}


def test_a_session_is_created_read_changed_and_deleted(client: httpx.Client, ann: dict[str, str]) -> None:
    assert problem_of(client.get(SESSION, headers=ann)) == (404, "not-found")
    created = client.put(SESSION, headers={**ann, **NEW}, json={"model": "llm1", "n": [1]})
    assert created.status_code == 200
    read = client.get(SESSION, headers=ann)
    assert (read.json(), read.headers["etag"]) == ({"model": "llm1", "n": [1]}, created.headers["etag"])
    assert read.headers["cache-control"] == "no-store"
    match = {"If-Match": created.headers["etag"]}
    changed = client.patch(SESSION, headers={**ann, **match}, json={"model": "llm2", "n": None, "x": {"y": 1}})
    assert changed.json() == {"model": "llm2", "x": {"y": 1}}
    assert problem_of(client.put(SESSION, headers={**ann, **match}, json={})) == (412, "user-session-changed")
    assert client.delete(SESSION, headers=ann).status_code == 204
    assert client.delete(SESSION, headers=ann).status_code == 204
    stale = {"If-Match": changed.headers["etag"]}
    assert problem_of(client.patch(SESSION, headers={**ann, **stale}, json={})) == (410, "user-session-deleted")
    assert problem_of(client.put(SESSION, headers={**ann, **stale}, json={})) == (412, "user-session-changed")


def test_a_write_says_which_version_it_is_meant_for(client: httpx.Client, ann: dict[str, str]) -> None:
    assert problem_of(client.put(SESSION, headers=ann, json={})) == (428, "precondition-required")
    assert problem_of(client.patch(SESSION, headers=ann, json={})) == (428, "precondition-required")
    assert client.put(SESSION, headers={**ann, **NEW}, json={}).status_code == 200
    assert problem_of(client.put(SESSION, headers={**ann, **NEW}, json={})) == (412, "user-session-changed")


def test_each_user_has_a_session_of_their_own_and_nobody_elses(
    client: httpx.Client, ann: dict[str, str], environment: dict[str, str]
) -> None:
    client.put(SESSION, headers={**ann, **NEW}, json={"n": 1})
    bob = {"Authorization": f"Bearer {access_token(environment, str(uuid4()))}"}
    assert problem_of(client.get(SESSION, headers=bob)) == (404, "not-found")
    service = {"Authorization": f"Bearer {environment['SERVICE_SECRET']}"}
    for headers in ({}, service, {"X-Session-Token": "x"}):
        assert problem_of(client.get(SESSION, headers=headers)) == (401, "unauthorized")


@pytest.mark.parametrize(
    "body", ['{"x": 9007199254740993}', '{"x": [' + "1e308," * 2300 + "1]}", "[]", '{"a":1,"a":2}']
)
def test_a_body_that_a_store_could_not_keep_is_refused(body: str, client: httpx.Client, ann: dict[str, str]) -> None:
    headers = {**ann, **NEW, "Content-Type": "application/json"}
    assert problem_of(client.put(SESSION, headers=headers, content=body)) == (422, "invalid-request")
    assert client.get(SESSION, headers=ann).status_code == 404


class Away(MemoryProvider):
    def get_session(self, *_: Any) -> Any:
        raise StoreAway("gone")

    def cleanup_old_sessions(self, *_: Any, **__: Any) -> Any:
        raise StoreAway("gone")


def away() -> Away:
    return Away(60)


def test_a_store_that_is_away_is_a_503_and_a_red_run_that_has_done_the_rest(
    environment: dict[str, str], ann: dict[str, str], sql: object
) -> None:
    own = settings(environment, user_session_store="tests.user_sessions.test_routes:away")
    with client_of(create_app(own)) as client:
        answer = client.get(SESSION, headers=ann)
        assert (problem_of(answer), answer.headers["retry-after"]) == ((503, "store-unavailable"), "1")
        run = client.post(CLEANUP, headers=ADMIN)
    assert problem_of(run) == (500, "cleanup-failed")
    assert "store of user sessions does not answer" in run.json()["detail"]
    assert [line for line in run.json()["policies"] if line["outcome"] != "completed"] == []


def test_a_write_without_the_replicas_that_were_asked_for_is_a_503_that_says_it_stands(
    environment: dict[str, str], ann: dict[str, str], redis_url: str, sql: object
) -> None:
    alone = settings(
        environment, user_session_store="redis", redis_url=redis_url, redis_wait_replicas=1, redis_wait_ms=1,
        redis_strict=True,
    )  # fmt: skip
    with client_of(create_app(alone)) as client:
        answer = client.put(SESSION, headers={**ann, **NEW}, json={"n": 1})
        assert (problem_of(answer), answer.headers["retry-after"]) == ((503, "store-unconfirmed"), "1")
        assert client.get(SESSION, headers=ann).json() == {"n": 1}
        assert problem_of(client.delete(SESSION, headers=ann)) == (503, "store-unconfirmed")
        assert client.get(SESSION, headers=ann).status_code == 404
        assert metrics(client)["lull_user_session_unconfirmed_total"] == 2


def test_the_sessions_that_are_alive_are_a_gauge(client: httpx.Client, ann: dict[str, str]) -> None:
    assert metrics(client)["lull_user_sessions_active"] == 0
    client.put(SESSION, headers={**ann, **NEW}, json={})
    assert metrics(client)["lull_user_sessions_active"] == 1


def metrics(client: httpx.Client) -> dict[str, float]:
    """The samples that have no labels."""
    lines = client.get("/api/admin/metrics", headers=ADMIN).text.splitlines()
    samples = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in samples}


def test_a_run_prunes_the_store_and_a_dry_run_counts(environment: dict[str, str], sql: object) -> None:
    app = create_app(settings(environment, user_session_store="memory"))
    store: MemoryProvider = app.state.parts.user_sessions()
    for user in ("ann", "bob"):
        store.set_session(user, {})
    from tests.user_sessions.stores import IDLE_SECONDS, MemoryStore

    aged = MemoryStore()
    aged.provider = store
    aged.age("ann", IDLE_SECONDS + 1)
    with client_of(app) as client:
        dry = client.get(CLEANUP, headers=ADMIN).json()["userSessions"]
        assert dry == {"store": "memory", "count": 1, "more": False, "error": None}
        assert client.post(CLEANUP, headers=ADMIN).json()["userSessions"] == dry
        assert client.post(CLEANUP, headers=ADMIN).json()["userSessions"]["count"] == 0
