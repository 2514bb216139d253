"""GET /api/admin/funnel: right even after deletion, beside seed 003's query that is not."""

from typing import Any

import httpx
import psycopg
import pytest

from api.composition import create_app
from tests.callers import problem_of, start
from tests.calls import ADMIN, CLEANUP, settings
from tests.in_process import client_of

FUNNEL = "/api/admin/funnel"
Sql = psycopg.Connection[Any]


def test_deleted_drafts_count_and_the_conversion_query_lacks_them(environment: dict[str, str], sql: Sql) -> None:
    with client_of(create_app(settings(environment, enable_early_session_creation="true"))) as api:
        drafts = [start(api) for _ in range(8)]
        for address, owner in drafts[:3]:
            api.post(f"{address}/activate", headers=owner)
        api.post(f"{drafts[3][0]}/end", headers=drafts[3][1])
        start(api, status="active")
        start(api, kind="game")
        sql.execute("update lull.sessions set last_activity_at = now() - interval '25 h' where kind = 'chat'")
        assert api.post(CLEANUP, headers=ADMIN).json()["deleted"] == 4
        api.post(f"{drafts[4][0]}/activate", headers=drafts[4][1])
        answer = api.get(FUNNEL, headers=ADMIN)
    funnel = answer.json()
    numbers = {"created": 8, "activated": 4, "abandoned": 4, "restored": 1, "discarded": 1}
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert funnel["totals"] == {**numbers, "conversionRatePercent": 50}
    assert len(funnel["days"]) == 7
    assert {name: funnel["days"][-1][name] for name in numbers} == numbers
    assert funnel["conversion"] == {"totalDrafts": 5, "activated": 5, "conversionRatePercent": 100}
    assert "lacks drafts that were cleaned up" in funnel["whyTheyDiffer"]


def test_a_draft_counts_on_the_day_it_was_begun_whenever_it_is_activated(environment: dict[str, str], sql: Sql) -> None:
    """Three drafts of another day, activated today, are no 300 % of today's one."""
    with client_of(create_app(settings(environment, enable_early_session_creation="true"))) as api:
        begun = [start(api) for _ in range(4)]
        sql.execute("update lull.session_events set at = at - interval '3 days' where event = 'created'")
        start(api)
        for address, owner in begun[:3]:
            assert api.post(f"{address}/activate", headers=owner).status_code == 200
        week = api.get(FUNNEL, headers=ADMIN).json()
        today = api.get(f"{FUNNEL}?days=1", headers=ADMIN).json()
    assert [(day["created"], day["activated"]) for day in week["days"]][3::3] == [(4, 3), (1, 0)]
    assert week["totals"]["conversionRatePercent"] == 60
    assert today["totals"]["conversionRatePercent"] == 0


def test_without_drafts_there_is_no_rate(api: httpx.Client, admin: dict[str, str]) -> None:
    funnel = api.get(f"{FUNNEL}?days=1", headers=admin).json()
    assert len(funnel["days"]) == 1
    assert funnel["totals"]["conversionRatePercent"] is funnel["conversion"]["conversionRatePercent"] is None


@pytest.mark.parametrize("query", ["days=0", "days=401", "days=-1", "days=1.5", "days=", "day=1", "days=1&days=2"])
def test_a_bad_parameter_is_named(query: str, api: httpx.Client, admin: dict[str, str]) -> None:
    answer = api.get(f"{FUNNEL}?{query}", headers=admin)
    assert problem_of(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


def test_it_is_for_the_admin(api: httpx.Client, environment: dict[str, str]) -> None:
    for headers in ({}, {"Authorization": f"Bearer {environment['SERVICE_SECRET']}"}):
        assert problem_of(api.get(FUNNEL, headers=headers)) == (401, "unauthorized")
