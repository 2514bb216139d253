"""The Lambda handler, given events as AWS sends them, on the running stack."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api import __version__
from api.cleanup.policies import DEFAULT_FILE
from api.errors import Problem
from tests.calls import CLEANUP, add_session, count_sessions

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


@pytest.mark.parametrize("event", [RULE, SCHEDULER, {"task": "cleanup"}])
def test_a_schedule_runs_the_cleanup_and_returns_its_report(
    event: dict[str, Any], handler: Handler, sql: Sql
) -> None:
    add_session(sql)
    report = handler(event, None)
    assert (report["dryRun"], report["deleted"]) == (False, 1)
    assert count_sessions(sql) == 0
    run = sql.execute("select caller from lull.cleanup_runs").fetchone()
    assert run == {"caller": "aws-scheduler"}


def test_a_policies_file_without_the_usual_policy_serves_too(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: Sql
) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(DEFAULT_FILE.read_text().replace('"abandoned-drafts"', '"old-chats"', 1))
    add_session(sql)
    report = cold_start({**environment, "POLICIES_FILE": str(file)}, monkeypatch)(RULE, None)
    assert (report["thresholdHours"], report["deleted"]) == (24, 1)


def test_a_second_delivery_of_the_schedule_is_skipped(handler: Handler, sql: Sql) -> None:
    sql.execute("select lull_begin_cleanup('[]', 'the first', 30)")
    assert handler(RULE, None)["skipped"] is True


def test_a_failed_run_raises_so_that_lambda_counts_an_error(handler: Handler, sql: Sql) -> None:
    add_session(sql)
    sql.execute("alter table lull.sessions rename column first_message_at to moved")
    try:
        with pytest.raises(Problem, match="abandoned-drafts: unknown column first_message_at"):
            handler(RULE, None)
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
        {"source": "somebody", "detail-type": "Scheduled Event"},
        {"Records": [{"eventSource": "aws:sqs", "body": "{}"}]},
        {"requestContext": {}},
    ],
)
def test_any_other_event_is_refused_and_runs_nothing(
    event: dict[str, Any], handler: Handler, sql: Sql
) -> None:
    add_session(sql)
    with pytest.raises(ValueError, match="neither an HTTP event nor a schedule's"):
        handler(event, None)
    assert count_sessions(sql) == 1
