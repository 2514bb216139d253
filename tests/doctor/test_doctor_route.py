"""GET /api/admin/doctor: what a deployment says about itself, to its admin alone."""

import httpx

from tests.callers import problem_of

DOCTOR = "/api/admin/doctor"


def test_the_admin_gets_the_results_and_the_facts_behind_them(api: httpx.Client, admin: dict[str, str]) -> None:
    answer = api.get(DOCTOR, headers=admin)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    body = answer.json()
    assert {"secrets", "flag", "database", "grants", "policies", "indexes", "schedule", "bucket"} <= {
        check["check"] for check in body["checks"]
    }
    assert body["databaseState"]["migrations"][0]["name"] == "0001_sessions.sql"
    assert body["policies"][0]["name"] == "abandoned-drafts"


def test_it_changes_nothing_and_shows_no_secret(
    api: httpx.Client, admin: dict[str, str], environment: dict[str, str]
) -> None:
    answer = api.get(DOCTOR, headers=admin)
    for name in ("CRON_SECRET", "SERVICE_SECRET", "SUPABASE_SECRET_KEY", "SUPABASE_JWT_SECRET"):
        assert environment[name] not in answer.text
    assert answer.json()["databaseState"]["callers"] == []


def test_it_is_for_the_admin_alone(api: httpx.Client, environment: dict[str, str]) -> None:
    for headers in ({}, {"Authorization": f"Bearer {environment['SERVICE_SECRET']}"}):
        assert problem_of(api.get(DOCTOR, headers=headers)) == (401, "unauthorized")
