"""The Lambda handler, given events as AWS sends them, on the running stack."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api import __version__
from api.cleanup.policies import load_policies
from api.errors import Problem
from api.settings import Settings
from tests.calls import CLEANUP, add_session, count_sessions
from tests.policies import FILE
from tests.sql.driver import stored

Sql = psycopg.Connection[Any]
Handler = Callable[[dict[str, Any], Any], dict[str, Any]]

RULE = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "account": "123456789012",
    "time": "2026-11-20T02:00:00Z",
    "region": "eu-central-1",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/cleanup"],
    "detail": {},
}
SCHEDULER = {**RULE, "source": "aws.scheduler", "detail": "{}"}
OURS = {"task": "cleanup"}


def http_api(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """An event of an HTTP API or a function URL (payload 2.0)."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"host": "example.execute-api.eu-central-1.amazonaws.com", **headers},
        "requestContext": {"http": http, "stage": "$default", "requestId": "id", "timeEpoch": 1},
        "isBase64Encoded": False,
    }


def rest_api(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """An event of a REST API (payload 1.0)."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"httpMethod": method, "path": path, "stage": "prod", "requestId": "id"},
        "body": None,
        "isBase64Encoded": False,
    }


@pytest.fixture
def handler(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Handler:
    """The handler with the stack's settings in the environment."""
    return cold_start(environment, monkeypatch)


def cold_start(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Handler:
    """The handler as a cold start makes it."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module = importlib.import_module("infra.aws.lambda_entry")
    importlib.reload(importlib.import_module("api.index"))
    made: Handler = importlib.reload(module).handler
    return made


COLD = """
import gc, json, sys
from infra.aws.lambda_entry import handler
models = sys.modules["fastapi.openapi.models"]
features = {"api.cleanup.run", "api.storage", "supabase", "storage3"} & sys.modules.keys()
left_out = [name for name, module in sys.modules.items() if module is None]
print(json.dumps([models.OpenAPI.__pydantic_complete__, sorted(features), left_out, gc.isenabled(), gc.get_freeze_count() > 0]))
"""


@pytest.mark.parametrize("plain", ["false", "true"])
def test_a_cold_start_takes_every_measure_before_fastapi_is_imported_and_imports_no_cleanup(
    plain: str, environment: dict[str, str], checkout: Path
) -> None:
    environ = {"PATH": os.environ["PATH"], "LULL_PLAIN_START": plain, **environment}
    done = subprocess.run(
        [sys.executable, "-c", COLD], cwd=checkout, env=environ, capture_output=True, text=True, check=True
    )
    built, features, left_out, collects, is_frozen = json.loads(done.stdout.splitlines()[-1])
    assert (features, left_out, collects) == ([], [], True)
    assert (built, is_frozen) == ((True, False) if plain == "true" else (False, True))


@pytest.mark.parametrize("event", [OURS, {**RULE, "detail": OURS}])
def test_a_schedule_runs_the_cleanup_and_returns_its_report(
    event: dict[str, Any], handler: Handler, sql: Sql
) -> None:
    add_session(sql)
    report = handler(event, None)
    assert (report["dryRun"], report["deleted"]) == (False, 1)
    assert count_sessions(sql) == 0
    run = sql.execute("select caller from lull.cleanup_runs").fetchone()
    assert run == {"caller": "aws-scheduler"}


@pytest.mark.parametrize("event", [{"task": "sweep"}, {**RULE, "detail": {"task": "sweep"}}])
def test_the_schedule_of_each_minute_sweeps_and_cleans_nothing(
    event: dict[str, Any], handler: Handler, sql: Sql
) -> None:
    add_session(sql)
    add_session(sql, "room", "active", age="55 min")
    assert handler(event, None) == {"warned": 1, "told": 0, "moved": 0, "hasMore": False}
    assert count_sessions(sql) == 2


def test_a_policies_file_without_the_usual_policy_serves_too(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(FILE.read_text().replace('"abandoned-drafts"', '"old-chats"', 1))
    add_session(sql)
    with stored(sql, load_policies(Settings(policies_file=str(file)))):
        report = cold_start({**environment, "POLICIES_FILE": str(file)}, monkeypatch)(OURS, None)
    assert (report["thresholdHours"], report["deleted"]) == (24, 1)


def test_a_second_delivery_of_the_schedule_is_skipped(handler: Handler, sql: Sql) -> None:
    sql.execute("select lull_begin_cleanup('[]', 'the first', 30)")
    assert handler(OURS, None)["skipped"] is True


def test_a_failed_run_raises_so_that_lambda_counts_an_error(handler: Handler, sql: Sql) -> None:
    add_session(sql)
    sql.execute("alter table lull.sessions rename column first_message_at to moved")
    try:
        with pytest.raises(Problem, match="abandoned-drafts: unknown column first_message_at"):
            handler(OURS, None)
    finally:
        sql.execute("alter table lull.sessions rename column moved to first_message_at")


@pytest.mark.parametrize("make", [http_api, rest_api])
def test_http_events_reach_the_api(make: Callable[..., dict[str, Any]], handler: Handler, sql: Sql) -> None:
    add_session(sql)
    health = handler(make("GET", "/api/health", {}), None)
    assert (health["statusCode"], health["body"]) == (200, f'{{"status":"ok","version":"{__version__}"}}')
    assert handler(make("POST", CLEANUP, {}), None)["statusCode"] == 401
    assert count_sessions(sql) == 1


@pytest.mark.parametrize("make", [http_api, rest_api])
def test_the_cleanup_answers_over_http_events(
    make: Callable[..., dict[str, Any]], handler: Handler, sql: Sql, admin: dict[str, str]
) -> None:
    add_session(sql)
    assert '"wouldDelete":1' in handler(make("GET", CLEANUP, admin), None)["body"]
    assert '"deleted":1' in handler(make("POST", CLEANUP, admin), None)["body"]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"task": "something else"},
        {"task": "cleanup", "dryRun": True},
        {"source": "aws.events", "detail-type": "EC2 Instance State-change Notification"},
        {"Records": [{"eventSource": "aws:sqs", "body": "{}"}]},
        {"requestContext": {}},
    ],
)
def test_any_other_event_is_refused_and_runs_nothing(
    event: dict[str, Any], handler: Handler, sql: Sql
) -> None:
    add_session(sql)
    with pytest.raises(ValueError, match="neither an HTTP event nor our schedule's"):
        handler(event, None)
    assert count_sessions(sql) == 1


@pytest.mark.parametrize(
    "event",
    [
        RULE,
        SCHEDULER,
        {"source": "aws.anything", "detail-type": "Scheduled Event"},
        {**RULE, "detail": {"task": "something else"}},
        {"source": "serverless-plugin-warmup"},
        {"warmer": True, "concurrency": 3},
        {"keepWarm": 1},
    ],
)
def test_a_schedule_that_is_not_ours_runs_nothing_and_says_so(
    event: dict[str, Any], handler: Handler, sql: Sql, capsys: pytest.CaptureFixture[str]
) -> None:
    add_session(sql)
    answer = handler(event, None)
    assert answer["ran"] is False
    assert '{"task": "cleanup"}' in answer["detail"]
    assert '"event": "nothing to do"' in capsys.readouterr().out
    assert count_sessions(sql) == 1
    assert sql.execute("select from lull.cleanup_runs").fetchall() == []


@pytest.mark.parametrize(
    ("path", "stage", "status"),
    [
        ("/prod/api/health", "prod", 200),
        ("/prod", "prod", 200),
        ("/prod/", "prod", 200),
        ("/api/api/health", "api", 200),
        ("/api/health", "api", 200),
        ("/api/health", "$default", 200),
        ("/production/api/health", "prod", 404),
        ("/other/api/health", "prod", 404),
    ],
)
def test_the_stage_of_an_http_api_is_no_part_of_the_path(
    path: str, stage: str, status: int, handler: Handler
) -> None:
    event = http_api("GET", path, {})
    event["requestContext"]["stage"] = stage
    assert handler(event, None)["statusCode"] == status


@pytest.mark.parametrize("make", [http_api, rest_api])
@pytest.mark.parametrize("lacks", ["headers", "address", "everything"])
def test_an_event_that_was_made_up_is_answered(
    make: Callable[..., dict[str, Any]], lacks: str, handler: Handler
) -> None:
    event = make("GET", "/api/health", {})
    if lacks in ("headers", "everything"):
        event["headers"] = None
    if lacks in ("address", "everything"):
        event["requestContext"].get("http", {}).pop("sourceIp", None)
        event["requestContext"]["identity"] = None
    if lacks == "everything" and make is http_api:
        event = {"requestContext": {"http": {"path": "/api/health"}}}
    elif lacks == "everything":
        del event["multiValueHeaders"], event["queryStringParameters"], event["isBase64Encoded"], event["body"]
    assert handler(event, None)["statusCode"] == 200
