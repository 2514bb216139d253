"""The monitoring list: drafts and uploads by the event log, and this process's own counts."""

from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from psycopg.types.json import Jsonb

from api.composition import create_app
from api.observability import RequestNumbers
from tests.broken_server import refusing_url
from tests.calls import ADMIN, CLEANUP, add_session, settings
from tests.in_process import client_of

Sql = psycopg.Connection[Any]
STATS = "/api/admin/stats"
METRICS = "/api/admin/metrics"


def event(sql: Sql, event: str, session: str, age: str = "0 s", kind: str = "chat", **data: Any) -> None:
    sql.execute(
        "insert into lull.session_events (session_id, kind, event, at, data) "
        "values (%s, %s, %s, now() - %s::interval, %s)",
        (session, kind, event, age, Jsonb(data)),
    )


def stats(api: httpx.Client, admin: dict[str, str], query: str = "") -> dict[str, Any]:
    answer = api.get(STATS + query, headers=admin)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: dict[str, Any] = answer.json()
    return found


def scrape(api: httpx.Client, admin: dict[str, str]) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, as Prometheus itself reads them."""
    answer = api.get(METRICS, headers=admin)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def history(sql: Sql) -> None:
    """Two drafts of today, four of yesterday, and others that do not count; files of every fate."""
    for count, day in ((2, 0), (4, 1), (8, 9)):
        sql.execute(
            "insert into lull.session_events (session_id, kind, event, at, data) "
            "select gen_random_uuid(), k, 'created', date_trunc('day', now(), 'UTC') - %s * interval '1 day', s::jsonb "
            "from generate_series(1, %s), (values ('chat', '{\"status\": \"draft\"}'), "
            "('chat', '{\"status\": \"active\"}'), ('room', '{\"status\": \"draft\"}')) x (k, s)",
            (day, count),
        )
    session = str(uuid4())
    for age, uploaded in (
        ("1 d", True),
        ("1 d", True),
        ("1 d", False),
        ("2 h", True),
        ("2 h", False),
        ("9 d", False),
    ):
        file = str(uuid4())
        event(sql, "file-registered", session, age, file=file)
        if uploaded:
            event(sql, "file-uploaded", session, age, file=file)


def test_drafts_and_uploads_are_counted_from_the_event_log(
    api: httpx.Client, admin: dict[str, str], history: None
) -> None:
    found = stats(api, admin)
    assert found["drafts"] == {"createdToday": 2, "createdPerDay": round(4 / 6, 2)}
    assert found["uploads"] == {
        "registered": 5, "uploaded": 3, "expired": 1, "pending": 1, "successRatePercent": 75.0,
    }  # fmt: skip
    assert stats(api, admin, "?days=2")["drafts"]["createdPerDay"] == 4
    assert stats(api, admin, "?days=1")["drafts"]["createdPerDay"] is None
    assert stats(api, admin, "?days=30")["uploads"]["successRatePercent"] == 60.0


def test_nothing_yet_is_no_rate(api: httpx.Client, admin: dict[str, str], stack: object) -> None:
    found = stats(api, admin)
    assert found["uploads"]["successRatePercent"] is None
    assert found["cleanup"] is None
    assert found["events"] == {"pending": 0, "dead": 0, "oldestPendingAt": None}
    assert found["databaseBytes"] > 100_000
    assert found["at"].endswith("Z")


def test_the_last_cleanup_and_the_webhooks_queue_are_there(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    add_session(sql)
    assert api.post(CLEANUP, headers=admin).status_code == 200
    sql.execute(
        "insert into lull.deliveries (event_id, session_id, state, settled_at) values "
        "(1, gen_random_uuid(), 'queued', null), (2, gen_random_uuid(), 'delivered', now()), "
        "(3, gen_random_uuid(), 'dead', now()), (4, gen_random_uuid(), 'dead', now() - interval '31 d')"
    )
    sql.execute("update lull.deliveries set queued_at = now() - interval '1 h' where event_id = 1")
    found = stats(api, admin)
    assert found["cleanup"]["status"] == "completed"
    assert (found["events"]["pending"], found["events"]["dead"]) == (1, 1)
    samples = scrape(api, admin)
    assert samples["lull_last_cleanup_ok",] == 1
    assert (samples["lull_events_pending",], samples["lull_events_dead",]) == (1, 1)
    assert samples["lull_events_oldest_pending_seconds",] == pytest.approx(3600, abs=60)


def test_requests_are_counted_by_template_and_status(api: httpx.Client, admin: dict[str, str], stack: object) -> None:
    for path in (
        "/api/health",
        "/api/health",
        f"/api/sessions/{uuid4()}",
        f"/api/sessions/{uuid4()}",
        "/nowhere",
    ):
        api.get(path)
    api.request("BREW", "/nowhere")
    process = stats(api, admin)["process"]
    routes = {(route["method"], route["route"]): route for route in process["requests"]}
    assert routes["GET", "/api/health"]["count"] == 2
    assert routes["GET", "/api/sessions/{id}"]["statuses"] == {"404": 2}
    assert routes["GET", "none"]["statuses"] == {"404": 1}
    assert routes["other", "none"]["count"] == 1
    for route in routes.values():
        assert 0 < route["averageMs"] < 60_000
        assert route["p95Ms"] >= 10
    samples = scrape(api, admin)
    assert samples["lull_http_requests_total", "GET", "/api/sessions/{id}", "404"] == 2
    assert samples["lull_http_request_duration_seconds_bucket", "+Inf", "GET", "/api/health"] == 2


def test_metrics_stay_small_however_many_statuses_the_routes_answered() -> None:
    numbers = RequestNumbers()
    for template, operations in create_app(settings()).openapi()["paths"].items():
        for method in (*operations, "head"):
            for status in (200, 201, 204, 400, 401, 403, 404, 409, 410, 412, 415, 422, 428, 429, 500, 503):
                numbers.count(method.upper(), template, status, 0.02)
    text: bytes = generate_latest(numbers.counters.registry)  # type: ignore[no-untyped-call]
    assert 100_000 < len(text) < 900_000


def test_activation_errors_are_counted_by_status(api: httpx.Client, admin: dict[str, str], sql: Sql) -> None:
    assert stats(api, admin)["process"]["activationErrors"] == {}
    for _ in range(2):
        assert api.post(f"/api/sessions/{uuid4()}/activate").status_code == 404
    answer = api.post(f"/api/sessions/{uuid4()}/activate", headers={"Authorization": "Bearer nonsense"})
    assert answer.status_code in {401, 503}
    expected = {"404": 2, str(answer.status_code): 1}
    assert stats(api, admin)["process"]["activationErrors"] == expected
    assert scrape(api, admin)["lull_activation_errors_total", "404"] == 2


def test_metrics_have_the_numbers_of_the_event_log(api: httpx.Client, admin: dict[str, str], history: None) -> None:
    samples = scrape(api, admin)
    assert samples["lull_database_up",] == 1
    assert samples["lull_drafts_created_today",] == 2
    assert samples["lull_upload_success_ratio",] == 0.75
    assert [samples["lull_uploads", state] for state in ("uploaded", "expired", "pending")] == [3, 1, 1]
    assert samples["lull_database_bytes",] > 100_000


def test_metrics_without_a_database_are_this_processs_own(stack: object) -> None:
    unreachable: dict[str, Any] = {"supabase_url": refusing_url(), "supabase_secret_key": "sb_secret_x"}
    nowhere: list[dict[str, Any]] = [{}, unreachable]
    for changes in nowhere:
        with client_of(create_app(settings(**changes))) as api:
            api.get("/api/health")
            samples = scrape(api, ADMIN)
            assert samples["lull_database_up",] == 0
            assert samples["lull_http_requests_total", "GET", "/api/health", "200"] == 1
            assert ("lull_events_pending",) not in samples
            assert api.get(STATS, headers=ADMIN).status_code == 503


@pytest.mark.parametrize("path", [STATS, METRICS])
def test_only_the_admin_sees_the_numbers(path: str, api: httpx.Client) -> None:
    assert api.get(path).status_code == 401


@pytest.mark.parametrize("days", ["0", "401", "x", "1e1"])
def test_days_that_make_no_sense_are_refused(days: str, api: httpx.Client, admin: dict[str, str]) -> None:
    assert api.get(f"{STATS}?days={days}", headers=admin).status_code == 422
