"""What browsers need: CORS, HEAD, nosniff, JSON bodies only, and answers that do not repeat what was sent."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api import __version__
from api.composition import create_app
from api.settings import Settings, SettingsError
from tests.callers import SESSIONS, as_user, problem_of, start
from tests.calls import ADMIN, CLEANUP, add_session, count_sessions, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
Environment = dict[str, str]
PAGE, OTHER = "https://app.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-session-token"}


@pytest.fixture
def browser(environment: Environment) -> Iterator[httpx.Client]:
    """The API that pages of one origin may call."""
    origins = f"{PAGE}, http://localhost:5173"
    with client_of(create_app(settings(environment, cors_allowed_origins=origins, drafts_per_hour=0))) as client:
        yield client


@pytest.mark.parametrize("path", [SESSIONS, f"{SESSIONS}/9b727d48-c813-4756-9673-75be6952ea2c/activate", "/api/nothing"])
def test_a_preflight_request_of_an_allowed_origin_is_answered(path: str, browser: httpx.Client) -> None:
    answer = browser.options(path, headers={"Origin": PAGE, **PREFLIGHT})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert {"Content-Type", "X-Session-Token", "Authorization", "Idempotency-Key", "If-Match"} <= set(
        answer.headers["access-control-allow-headers"].split(", ")
    )
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", PAGE.upper(), f"{PAGE}.evil.example", f"{PAGE}:444"])
def test_another_origin_is_allowed_nothing(origin: str, browser: httpx.Client) -> None:
    for answer in (
        browser.options(SESSIONS, headers={"Origin": origin, **PREFLIGHT}),
        browser.get("/api/health", headers={"Origin": origin}),
    ):
        assert "access-control-allow-origin" not in answer.headers
        assert "Origin" in answer.headers["vary"]


def test_every_answer_and_every_refusal_can_be_read_by_the_page(browser: httpx.Client, sql: Sql) -> None:
    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        return browser.request(method, path, headers={"Origin": PAGE} | options.pop("headers", {}), **options)

    answers = [
        ask("POST", SESSIONS, json={"kind": "game"}),
        ask("POST", SESSIONS, json={"kind": "nothing"}),
        ask("POST", SESSIONS, content=b"{", headers={"Content-Type": "application/json"}),
        ask("POST", SESSIONS, content=b"{}", headers={"Content-Type": "text/plain"}),
        ask("GET", SESSIONS),
        ask("GET", f"{SESSIONS}/{uuid4()}"),
        ask("DELETE", SESSIONS),
        ask("GET", "/nothing"),
    ]
    assert [answer.status_code for answer in answers] == [201, 422, 400, 415, 401, 404, 405, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in answer.headers["vary"]
        assert "ETag" in answer.headers["access-control-expose-headers"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_fault_can_be_read_by_the_page_too() -> None:
    app = create_app(settings(cors_allowed_origins=PAGE))

    @app.get("/api/broken")
    def broken() -> None:
        raise RuntimeError

    with client_of(app) as client:
        answer = client.get("/api/broken", headers={"Origin": PAGE})
    assert problem_of(answer) == (500, "internal-error")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_without_the_setting_there_is_no_cors() -> None:
    with client_of(create_app(settings())) as client:
        answer = client.get("/api/health", headers={"Origin": PAGE})
        assert {"access-control-allow-origin", "vary"} & answer.headers.keys() == set()
        assert client.options(SESSIONS, headers={"Origin": PAGE, **PREFLIGHT}).status_code == 405


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("https://App.Example.com/, http://localhost:80", {"https://app.example.com", "http://localhost"}),
        ("http://[::1]:3000", {"http://[::1]:3000"}),
        ("*", {"*"}),
        (" , ", set()),
    ],
)
def test_origins_are_as_browsers_send_them(given: str, origins: set[str]) -> None:
    assert Settings.from_environ({"CORS_ALLOWED_ORIGINS": given}).cors_allowed_origins == origins


@pytest.mark.parametrize(
    "given", ["app.example.com", "https://a.example/x", "https://*.example.com", "ftp://a.example", "null"]
)
def test_what_is_no_origin_stops_the_start(given: str) -> None:
    with pytest.raises(SettingsError, match="CORS_ALLOWED_ORIGINS"):
        Settings.from_environ({"CORS_ALLOWED_ORIGINS": given})


def test_head_is_answered_as_get_without_a_body(api: httpx.Client, environment: Environment) -> None:
    ada = as_user(environment)
    address, _ = start(api, ada, kind="game")
    for path in ("/", "/api/health", "/api/openapi.json", SESSIONS, address, f"{address}/files", "/api/nothing"):
        named = ada | {"X-Request-Id": "the-same"}
        shown, told = api.get(path, headers=named), api.head(path, headers=named)
        assert (told.status_code, told.content) == (shown.status_code, b""), path
        assert told.headers == shown.headers, path
    refused = api.head(f"{address}/activate", headers=ada)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_head_runs_no_cleanup_whoever_asks(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    scheduler = admin | {"User-Agent": "vercel-cron/1.0"}
    for path in (CLEANUP, f"{CLEANUP}?dryRun=false"):
        assert api.head(path, headers=scheduler).status_code == 200
    assert count_sessions(sql) == 1


def test_head_is_logged_and_counted_as_head(capsys: pytest.CaptureFixture[str]) -> None:
    with client_of(create_app(settings())) as client:
        client.head("/api/health")
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["method"], line["route"], line["status"]) == ("HEAD", "/api/health", 200)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "application/json, text/plain", "application/vnd.api+json"],
)  # fmt: skip
def test_a_body_of_another_type_creates_nothing(content_type: str | None, api: httpx.Client, sql: Sql) -> None:
    """A page of another site can send these types without a preflight request."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = api.post(SESSIONS, content=b'{"kind":"game"}', headers=headers)
    assert problem_of(answer) == (415, "unsupported-media-type")
    assert count_sessions(sql) == 0


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"]
)
def test_json_is_json_whatever_its_parameters(content_type: str, api: httpx.Client) -> None:
    sent = api.post(SESSIONS, content=b'{"kind":"game"}', headers={"Content-Type": content_type})
    assert sent.status_code == 201


def test_no_body_needs_no_type(api: httpx.Client, admin: dict[str, str]) -> None:
    address, owner = start(api, kind="game")
    assert api.post(f"{address}/activate", headers=owner).status_code == 200
    assert api.post(f"{address}/end", headers=owner | {"Content-Type": "text/plain"}).status_code == 200
    assert api.post(CLEANUP, headers=admin).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"kind": "game", "x" * 60_000: 1}).encode(),
        json.dumps({"kind": "game", "\ud800" * 5_000: 1}).encode(),
        json.dumps({"kind": "game"} | {f"unknown {n}": n for n in range(3000)}).encode(),
        json.dumps({"kind": "x" * 60_000}).encode(),
        json.dumps({"kind": "game", "metadata": {"a" * 60_000: "\0"}}).encode(),
    ],
)
def test_a_refusal_does_not_repeat_what_was_sent(body: bytes, api: httpx.Client) -> None:
    answer = api.post(SESSIONS, content=body, headers={"Content-Type": "application/json"})
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"]
    assert len(answer.content) < 20_000


def test_nor_does_a_query_that_is_refused(api: httpx.Client, admin: dict[str, str]) -> None:
    query = "&".join(f"{n}{'x' * 300}=1" for n in range(100))
    answer = api.get(f"{CLEANUP}?{query}", headers=admin)
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


def test_a_body_that_breaks_off_is_no_fault_and_creates_nothing(
    environment: Environment, sql: Sql, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(settings(environment))
    messages = iter([{"type": "http.request", "body": b'{"kind":', "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": SESSIONS,
        "query_string": b"",
        "headers": headers,
        "client": None,
    }
    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http", "server": None}, receive, send))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["status"]) for line in lines] == [("request", 499)]
    counted = app.state.parts.numbers.counters.requests.collect()
    assert {sample.labels["status"] for metric in counted for sample in metric.samples} == {"499"}
    assert (sent, count_sessions(sql)) == ([], 0)


def test_the_root_says_what_this_is_and_where_to_go_on() -> None:
    with client_of(create_app(settings())) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.json()["name"], answer.json()["version"]) == (200, "Lull", __version__)
        for link in answer.json()["links"].values():
            assert client.get(link).status_code not in (404, 405), link
        assert client.post("/", headers=ADMIN).status_code == 405
