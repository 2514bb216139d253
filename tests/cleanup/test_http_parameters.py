"""The parameters of /api/admin/cleanup-sessions: each refusal names its field, and nothing runs."""

from typing import Any

import httpx
import psycopg
import pytest

from tests.calls import CLEANUP, add_session

REFUSED = [
    ("GET", "dryRun=yes", "dryRun"),
    ("GET", "dryRun=TRUE", "dryRun"),
    ("GET", "dryRun=1", "dryRun"),
    ("GET", "dryRun=", "dryRun"),
    ("POST", "dryRun=True", "dryRun"),
    ("GET", "thresholdHours=0.09", "thresholdHours"),
    ("GET", "thresholdHours=8760.1", "thresholdHours"),
    ("GET", "thresholdHours=-1", "thresholdHours"),
    ("GET", "thresholdHours=nan", "thresholdHours"),
    ("GET", "thresholdHours=inf", "thresholdHours"),
    ("GET", "thresholdHours=1e3", "thresholdHours"),
    ("GET", "thresholdHours=1_0", "thresholdHours"),
    ("GET", "thresholdHours=٢٤", "thresholdHours"),
    ("GET", "thresholdHours=", "thresholdHours"),
    ("GET", "limit=0", "limit"),
    ("GET", "limit=201", "limit"),
    ("GET", "limit=-1", "limit"),
    ("GET", "limit=2.5", "limit"),
    ("GET", "limit=many", "limit"),
    ("GET", "limit=99999999999999999999", "limit"),
    ("POST", "policy=abandoned-drafts&maxRows=0", "maxRows"),
    ("POST", "policy=abandoned-drafts&maxRows=10000001", "maxRows"),
    ("POST", "policy=abandoned-drafts&maxRows=all", "maxRows"),
    ("POST", "maxRows=10", "maxRows"),
    ("GET", "maxRows=10", "maxRows"),
    ("GET", "at=2026-01-01", "at"),
    ("GET", "at=2026-01-01T00:00:00", "at"),
    ("GET", "at=2026-01-01T00:00:00+00:00", "at"),  # the + is a space when it is not escaped
    ("GET", "at=2026-02-30T00:00:00Z", "at"),
    ("GET", "at=2026-01-01T25:00:00Z", "at"),
    ("GET", "at=0001-01-01T00:00:00Z", "at"),
    ("GET", "at=9999-12-31T23:59:59Z", "at"),
    ("GET", "at=1767225600", "at"),
    ("GET", "at=now", "at"),
    ("GET", "at=infinity", "at"),
    ("GET", "at=", "at"),
    ("POST", "at=2026-01-01T00:00:00Z", "at"),
    ("POST", "thresholdHours=1", "thresholdHours"),
    ("POST", "limit=1", "limit"),
    ("GET", "dryRun=false&at=2026-01-01T00:00:00Z", "at"),
    ("GET", "policy=nonsense", "policy"),
    ("GET", "policy=", "policy"),
    ("POST", "policy=nonsense", "policy"),
    ("POST", "policy=Abandoned-Drafts", "policy"),
    ("GET", "unknown=1", "unknown"),
    ("POST", "dry_run=true", "dry_run"),
    ("POST", "dryrun=true", "dryrun"),
    ("GET", "policy=purge&policy=old-runs", "policy"),
    ("POST", "dryRun=true&dryRun=false", "dryRun"),
]


@pytest.mark.parametrize(("method", "query", "field"), REFUSED)
def test_a_bad_parameter_is_named_and_nothing_runs(
    method: str,
    query: str,
    field: str,
    api: httpx.Client,
    admin: dict[str, str],
    sql: psycopg.Connection[Any],
) -> None:
    add_session(sql)
    answer = api.request(method, f"{CLEANUP}?{query}", headers=admin)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:lull:problem:invalid-request"
    assert field in {error["field"] for error in problem["errors"]}
    assert field in problem["detail"]
    assert not sql.execute("select from lull.cleanup_runs").fetchall()
    assert len(sql.execute("select from lull.sessions").fetchall()) == 1


def test_several_bad_parameters_are_named_at_once(api: httpx.Client, admin: dict[str, str]) -> None:
    errors = api.get(f"{CLEANUP}?limit=0&thresholdHours=x&nonsense=1", headers=admin).json()["errors"]
    assert [error["field"] for error in errors] == ["thresholdHours", "limit", "nonsense"]


@pytest.mark.parametrize("body", [b'{"dryRun":true}', b"dryRun=true", b"[]", b"null", b"{ } x"])
def test_a_body_is_refused_because_it_would_be_ignored(
    body: bytes, api: httpx.Client, admin: dict[str, str], sql: psycopg.Connection[Any]
) -> None:
    answer = api.post(CLEANUP, headers=admin, content=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body"
    assert not sql.execute("select from lull.cleanup_runs").fetchall()


@pytest.mark.parametrize("body", [b"", b"{}", b" { }\n"])
def test_an_empty_body_is_fine(body: bytes, api: httpx.Client, admin: dict[str, str]) -> None:
    assert api.post(CLEANUP, headers=admin, content=body).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "dryRun=true",
        "thresholdHours=0.1",
        "thresholdHours=8760",
        "limit=1",
        "limit=200",
        "at=2026-01-01T00:00:00Z",
        "at=2026-01-01T00:00:00.123456%2B14:00",
        "at=2026-01-01T00:00:00-23:59",
        "at=1970-01-01T00:00:00Z",
        "at=9000-12-31T23:59:59-12:00",
        "policy=purge",
        "policy=empty-rooms&maxRows=10000000",
    ],
)
def test_what_is_allowed_is_answered(query: str, api: httpx.Client, admin: dict[str, str]) -> None:
    assert api.get(f"{CLEANUP}?{query}", headers=admin).status_code == 200
