"""The log: one JSON line per request and run, and nothing that should not be there."""

import json
from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.calls import CLEANUP, add_session, settings
from tests.in_process import client_of


def logged(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_request_is_one_line_with_its_template_and_not_its_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with client_of(create_app(settings())) as client:
        client.get("/api/health?token=hush")
        client.get("/a/path/with/hush")
    first, second = logged(capsys, "request")
    assert (first["method"], first["route"], first["status"]) == ("GET", "/api/health", 200)
    assert first["ms"] >= 0
    assert (second["route"], second["status"]) == (None, 404)
    assert "hush" not in json.dumps([first, second])


def test_the_level_is_set_by_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with client_of(create_app(settings(log_level="ERROR"))) as client:
        client.get("/api/health")
    assert capsys.readouterr().out == ""


def test_a_run_is_one_line_with_its_counts(
    api: httpx.Client,
    admin: dict[str, str],
    sql: psycopg.Connection[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = add_session(sql)
    run = api.post(CLEANUP, headers=admin).json()["runId"]
    logs = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    [line] = [each for each in logs if each["event"] == "cleanup run"]
    assert (line["run_id"], line["status"], line["caller"]) == (run, "completed", "admin")
    assert (line["did"], line["would"], line["level"]) == (1, 1, "info")
    lines = {each["policy"]: each for each in logs if each["event"] == "cleanup policy"}
    assert {lines["abandoned-drafts"][name] for name in ("outcome", "did", "would")} == {"completed", 1}
    assert session not in json.dumps([line, lines])
